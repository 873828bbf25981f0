"""The guard's limits for one corpus: its own nulls, and what known bad generators do to it.

The defaults come from one small technical corpus. Here a trigram of the corpus itself writes three generations, by
pure sampling and seeking the mode; limits are put between what must pass (pure sampling, depth 1) and what must not
(mode-seeking; depth 2). Where the two cannot be told apart the default stays, and the calibration says so.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from palimpsest.guard.corpus import held_out
from palimpsest.guard.distance import Distance, distance
from palimpsest.guard.measure import Reference, Sample, watch
from palimpsest.guard.probe import additive_probe
from palimpsest.guard.tail import sampled, subsampled
from palimpsest.guard.thresholds import DEFAULTS, Thresholds
from palimpsest.guard.tokens import Vocabulary, size
from palimpsest.guard.trigram import Trigram
from palimpsest.lake import Facts, Lake, NotPublished, Published
from palimpsest.manifest import Corrupt

VERSION = 1
TOKENS = 2_000_000
"""Of the corpus, a random sample of documents: some two minutes on one core."""
DEPTHS = 3
SHARE = 0.4
"""Size of the smaller set of G8 (b), as a share of the source."""
FILE = "calibration.json"
CODE = ("plugins/palimpsest/guard", "plugins/palimpsest/words.py", "plugins/palimpsest/ingest/minhash.py")


@dataclass(frozen=True)
class Run:
    """What one generation of a known generator measures on the corpus."""

    decoding: str
    depth: int
    probe: float
    """G7's ratio."""
    tail_full: float
    tail_sample: float
    z: Mapping[str, float | None]
    auc: float
    """Above its null."""
    mmd: float | None
    """In multiples of its null."""
    vendi: float


@dataclass(frozen=True)
class Calibration:
    """Nulls, runs, and limits of a corpus; ``notes`` say which limits stayed at their default, and why."""

    corpus: str
    documents: int
    tokens: int
    block: int
    nulls: Mapping[str, Mapping[str, float]]
    """By figure: mean, sd and number of splits, real against real."""
    runs: Sequence[Run]
    limits: Mapping[str, float]
    """Keys of `Thresholds` that the corpus sets."""
    notes: Sequence[str]

    @property
    def thresholds(self) -> Thresholds:
        return DEFAULTS.override(self.limits)


def calibrate(corpus: str, texts: Iterable[str], *, tokens: int = TOKENS, seed: int = 0) -> Calibration:
    """The calibration of a corpus by its documents, read once. Raises ValueError where they are too few."""
    vocabulary, kept = Vocabulary(), Sample(tokens, seed)
    for text in texts:
        kept.add(text, vocabulary.encode(text))
    raw, documents = kept.kept()
    real, test = held_out(documents, 0.2, seed)
    if size(test) < 1_000 or len(real) < 40:
        raise ValueError(
            f"corpus {corpus}: {len(documents)} documents with {size(documents):,} tokens are too few to calibrate by; "
            "at least 50 documents and 5,000 tokens are needed"
        )
    spoken = [vocabulary.decode(document) for document in real]
    reference = Reference(spoken, vocabulary=vocabulary)
    model, runs, distances = Trigram(real, len(vocabulary)), [], []
    for decoding in ("pure", "mode-seeking"):
        current, random = model, np.random.default_rng([seed, 1])
        for depth in range(1, DEPTHS + 1):
            written = current.sample(size(real), random, mode_seeking=decoding != "pure")
            current = Trigram(written, len(vocabulary))
            ratio = additive_probe(real, written, {"": test}, len(vocabulary), seeds=1).ratio
            run, far = _measured(written, reference, spoken, decoding, depth, distances)
            runs.append(replace(run, probe=ratio))
            distances.append(far)
    plain = Reference(raw, vocabulary=vocabulary)
    nulls = {name: asdict(null) for name, null in plain.nulls(plain.block).items()}
    nulls |= {name: asdict(getattr(distances[0], f"{name}_null")) for name in ("auc", "mmd", "vendi")}
    limits, notes = suggest(runs)
    return Calibration(corpus, len(documents), size(documents), plain.block, nulls, runs, limits, notes)


def suggest(runs: Sequence[Run]) -> tuple[dict[str, float], list[str]]:
    """Limits between what must pass and what must not, and a note for each key that keeps its default."""
    of = {(run.decoding, run.depth): run for run in runs}
    pure = [of["pure", depth] for depth in range(1, DEPTHS + 1)]
    seeking = of["mode-seeking", 1]
    limits: dict[str, float] = {}
    notes: list[str] = []

    def between(keys: Sequence[str], good: float, bad: float, digits: int = 3, *, geometric: bool = False) -> None:
        apart = good < bad if keys[0].endswith("max") else bad < good
        for key in keys:
            if apart:
                limits[key] = round(math.sqrt(good * bad) if geometric else (good + bad) / 2, digits)
            else:
                default = getattr(DEFAULTS, key)
                notes.append(f"{key} stays {default:g}: what must pass measures {good:.3g}, what must not {bad:.3g}")

    between(["probe_ngram_max", "probe_domain_max"], max(pure[0].probe, seeking.probe), pure[1].probe)
    between(["tail_full_min"], min(run.tail_full for run in pure), seeking.tail_full)
    between(["tail_sample_warn"], pure[0].tail_sample, pure[1].tail_sample)
    between(["tail_sample_fail"], min(run.tail_sample for run in pure[:2]), seeking.tail_sample)
    limits = {key: min(value, 1.0) if key.startswith("tail") else value for key, value in limits.items()}
    if seeking.z.get("entropy") is None:
        notes.append(
            f"entropy_z_max stays {DEFAULTS.entropy_z_max:g}: the real text is too little or too even to split"
        )
    else:
        good = max(3.0, *(abs(run.z["entropy"]) for run in pure))
        between(["entropy_z_max"], good, abs(seeking.z["entropy"]), 1, geometric=True)
    if pure[0].mmd is None or of["mode-seeking", DEPTHS].mmd is None:
        notes.append("mmd_warn and mmd_alarm stay: halves of the real text do not differ")
    else:
        limits["mmd_warn"] = round(max(pure[0].mmd / 2, 1.0), 1)
        limits["mmd_alarm"] = round(math.sqrt(pure[0].mmd * of["mode-seeking", DEPTHS].mmd), 1)
    return limits, notes


def publish(
    corpus: str, texts: Iterable[str], lake: Lake, *, parents: Sequence[Published] = (), **options
) -> Published:
    """``guard/<corpus>/calibration``: calibration.json, a new version for new documents, options or code."""

    def write(directory: Path) -> Facts:
        found = calibrate(corpus, texts, **options)
        (directory / FILE).write_text(json.dumps(asdict(found), indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return Facts(extra={"limits": dict(found.limits), "documents": found.documents, "tokens": found.tokens})

    config = {"version": VERSION, **options}
    return lake.publish(f"guard/{corpus}/calibration", write, config=config, parents=parents, code=CODE)


def read(corpus: str, lake: Lake) -> Calibration | None:
    """The newest calibration of a corpus; None if it was never calibrated. Raises Corrupt for a damaged one."""
    try:
        published = lake.latest(f"guard/{corpus}/calibration")
    except NotPublished:
        return None
    return load(published)


def load(published: Published) -> Calibration:
    """What a published version says."""
    found = json.loads(published.file(FILE).read_text(encoding="utf-8"))
    try:
        return Calibration(**{**found, "runs": [Run(**run) for run in found["runs"]]})
    except (TypeError, KeyError) as error:
        raise Corrupt(f"{published.uri}/{FILE} is of another version ({error}); calibrate again") from None


def _measured(written, reference: Reference, spoken: list[str], decoding: str, depth: int, before: list[Distance]):
    texts = [reference.vocabulary.decode(document) for document in written]
    whole = watch(texts, reference)
    part = watch(texts[: max(1, round(SHARE * len(texts)))], reference).tail
    source = reference.source
    full = _share(whole.tail.recall, sampled(source, depth, whole.tail.ratio)) if whole.tail.rare else 1.0
    some = _share(part.recall, subsampled(source, part.ratio)) if part.rare else 1.0
    z = {name: whole.nulls[name].z(value) for name, value in whole.blocks.means.items()} if whole.nulls else {}
    far = distance(spoken, texts, nulls=before[0] if before else None)
    run = Run(decoding, depth, 0.0, full, some, z, far.auc - far.auc_null.mean, far.mmd_ratio, far.vendi)
    return run, far


def _share(found: float, usual: float) -> float:
    return found / usual if usual else 1.0
