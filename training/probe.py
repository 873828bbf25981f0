"""``studies/<study>/probe``: what a strategy's text costs a small neural model of real text (``guard.probe``).

The additive probe of `palimpsest.guard.probe`, by the platform's own model and optimizer: per strategy and seed one
model of R, one of R and as many tokens of what the verifier accepted, one of R and as many taken at random from all
that it was shown; where the second is too much worse than the first, one of R and half as much. Same steps, same
initial weights, same held-out text. R is all real text and all that the generator learned from; where that cannot be
had, nothing is trained, for the synthetic text would look like a gain however bad it is.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from palimpsest import tokenizer as tok
from palimpsest.config import Study
from palimpsest.guard.learned import learned
from palimpsest.guard.probe import Probe, check, choices, domains_of, union
from palimpsest.guard.texts import Texts, connect, subject_of
from palimpsest.guard.tokens import size
from palimpsest.lake import Facts, Lake, Published
from training.evaluate import HeldOut, batched, token_losses
from training.short import Trainer, windowed

MODULES = ("attention", "data", "evaluate", "loss", "model", "optim", "probe", "run", "short", "step")
CODE = tuple(f"training/{name}.py" for name in MODULES) + tuple(
    f"plugins/palimpsest/guard/{name}.py" for name in ("learned", "probe", "texts", "tokens")
)
Documents = Sequence[np.ndarray]

log = logging.getLogger(__name__)


def probe(study: Study, lake: Lake, *, split: Published, generations: Published, mixes: Published) -> Published:
    """``extra['strategies']``, by strategy: ``probe`` and ``half`` (the fields of a `Probe`) and ``gains``.

    Gains are nats per token that the verifier's choice is better by, per seed. ``why`` says it where there is none.
    """
    asked = study.guard.probe
    if asked is None:
        raise ValueError(f"study {study.name} has no guard.probe in {study.path}; name its model and steps there")
    limits = study.guard.thresholds
    names = [name for name, strategy in study.strategies.items() if strategy.kind != "augment"]
    config = {
        "probe": asked.model_dump(mode="json"),
        "precision": study.training.precision,
        "domain": study.guard.domain,
        "limits": [limits.probe_lm_max, limits.probe_domain_max, limits.verifier_dropped_min],
        "strategies": {name: study.strategies[name].kind for name in names},
    }

    def write(directory: Path) -> Facts:
        connection = connect(split=split, generations=generations, mixes=mixes)
        texts, tokenizer = Texts(connection, study), tok.load(split.file("tokenizer.json"))
        return Facts(extra={"strategies": {name: _of(texts, lake, tokenizer, name) for name in names}})

    parents = [split, generations, mixes]
    return lake.publish(f"studies/{study.name}/probe", write, config=config, parents=parents, code=CODE)


def _of(texts: Texts, lake: Lake, tokenizer: tok.Tokenizer, strategy: str) -> dict[str, object]:
    taught, lacking = learned(texts.connection, lake, strategy)
    if lacking:
        return {"why": f"{lacking}; compare the losses of runs with and without them on held-out text"}

    def encoded(documents: Sequence[str]) -> list[np.ndarray]:
        found = tokenizer.encode_batch_fast(list(documents), add_special_tokens=False)
        return [np.asarray(encoding.ids, np.int32) for encoding in found]

    real = union(encoded(texts.all_real), encoded(taught))
    accepted, dropped = map(encoded, texts.reviewed(strategy))
    tests = {domain: encoded(documents) for domain, documents in texts.held_out.items()}
    try:
        return _probed(texts.study, strategy, real, accepted, dropped, tests, tokenizer)
    except ValueError as error:
        return {"why": str(error)}


def _probed(
    study: Study,
    strategy: str,
    real: Documents,
    accepted: Documents,
    dropped: Documents,
    tests: Mapping[str, Documents],
    tokenizer: tok.Tokenizer,
) -> dict[str, object]:
    """The arms of one strategy. Raises ValueError for too little text, too few steps or a model that diverged."""
    held = check(real, accepted, tests)
    budget = min(size(real), size(accepted))
    asked, limits = study.guard.probe, study.guard.thresholds
    boundary = tokenizer.token_to_id(tok.BOUNDARY)
    seen, needed = asked.steps * asked.batch * asked.context, size(real) + budget
    if seen < needed:
        raise ValueError(
            f"guard.probe takes {asked.steps} steps of {asked.batch * asked.context:,} tokens, and real and generated "
            f"text are {needed:,}; {math.ceil(needed / (asked.batch * asked.context))} steps see each of them once"
        )
    trainer = _Probing(study, tests, tokenizer.get_vocab_size(), boundary)
    seeds = range(asked.seeds)
    is_choice = size(dropped) >= max(1, limits.verifier_dropped_min * (size(accepted) + size(dropped)))
    arms = [choices(accepted, dropped, budget, seed) for seed in seeds]
    alone = [trainer.losses(f"{strategy} real s{seed}", real, seed) for seed in seeds]
    added = [trainer.losses(f"{strategy} added s{seed}", [*real, *arms[seed][0]], seed) for seed in seeds]
    found = _compared(size(real), budget, size(held), alone, added)
    told: dict[str, object] = {"probe": asdict(found), "half": None, "gains": None}
    if found.ratio > limits.probe_lm_max or max(found.domains.values(), default=0) > limits.probe_domain_max:
        log.info("%s: %.3f times the perplexity; half as much is tried", subject_of(study, strategy), found.ratio)
        halves = [choices(accepted, (), budget // 2, seed)[0] for seed in seeds]
        half = [trainer.losses(f"{strategy} half s{seed}", [*real, *halves[seed]], seed) for seed in seeds]
        told["half"] = asdict(_compared(size(real), budget // 2, size(held), alone, half))
    if is_choice:
        anything = [trainer.losses(f"{strategy} random s{seed}", [*real, *arms[seed][1]], seed) for seed in seeds]
        told["gains"] = [other[""] - chosen[""] for other, chosen in zip(anything, added, strict=True)]
    return told


def _compared(real: int, synthetic: int, held: int, alone: list[dict], added: list[dict]) -> Probe:
    """Perplexities of the models with the text over those without it; losses by domain, '' for all."""
    ratios = [{name: math.exp(own[name] - base[name]) for name in base} for base, own in zip(alone, added, strict=True)]
    domains = {name: float(np.mean([found[name] for found in ratios])) for name in ratios[0] if name}
    base = math.exp(float(np.mean([found[""] for found in alone])))
    return Probe(real, synthetic, held, base, tuple(found[""] for found in ratios), domains)


class _Probing:
    """Models of the study's probe, one after the other, judged by one held-out text."""

    def __init__(self, study: Study, tests: Mapping[str, Documents], vocabulary: int, boundary: int) -> None:
        self._trainer = Trainer(study.training, study.guard.probe, vocabulary, boundary)
        self.held_out = _held_out(tests, boundary, study.guard.probe.context)

    def losses(self, name: str, documents: Documents, seed: int) -> dict[str, float]:
        """Nats per token of held-out text, by domain and ('') of all, under a fresh model of the documents."""
        block = self._trainer.training.block
        model, _ = self._trainer.train(f"probe {name}", {"probe": documents}, seed=seed, block=block)
        nats = token_losses(model, self.held_out, self._trainer.dtype)
        if not np.isfinite(nats).all():
            raise ValueError(f"the probe's model diverged ({name}); lower guard.probe.optimizer.lr")
        return {domain: float(nats[members].mean()) for domain, members in self.held_out.sets.items()}


def _held_out(tests: Mapping[str, Documents], boundary: int, context: int) -> HeldOut:
    """Every held-out document by itself; a set per domain with enough of it."""
    windows, lengths = windowed([document for own in tests.values() for document in own], boundary, context)
    domains = [domain for domain, own in tests.items() for _ in own]
    owners = np.repeat(np.array(domains, dtype=object), lengths)
    sets = {"": np.ones(len(owners), bool)} | {name: owners == name for name in domains_of(tests) if name}
    position = np.concatenate([np.arange(1, length + 1) for length in lengths])
    return HeldOut(batched(windows), sets, position, np.repeat(lengths, lengths))
