"""``studies/<study>/raters`` and ``/proxies/<number>``: what small models learn from texts that some mixture of scores
takes, for `training.selection.meta_rater`.

A proxy has weights over the scores, one model, and the texts that come out best under the weighted score; all proxies
have the same start, steps and share of the tokens, so only the text tells them apart. Texts over the target
(`training.selection.target`) take no part: not in the proxies' text, and not in the scores that choose it, which are
made once more without them. Each proxy is a dataset of its own: what is published is not trained again, more may be
asked for later, and any number of tasks can share them out.
"""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from palimpsest import tokenizer as tok
from palimpsest.choice import kept_by, lot
from palimpsest.config import Select, Study
from palimpsest.lake import Facts, Lake, LakeError, Published
from training.selection import keys, methods
from training.selection.found import by_rank, ranks
from training.selection.pool import Pool
from training.selection.target import LEAST, TARGET

log = logging.getLogger(__name__)


def every(study: Study, lake: Lake, *, split: Published, generations: Published) -> list[Published]:
    """The raters and all proxies of a study, each made unless it is published."""
    raters = rate(study, lake, split=split, generations=generations)
    given = {"split": split, "generations": generations, "raters": raters}
    numbers = range(study.selection.meta_rater.proxies)
    return [raters, *(train(study, lake, **given, number=number) for number in numbers)]


def rate(study: Study, lake: Lake, *, split: Published, generations: Published) -> Published:
    """raters.parquet: id, strategy and by score the rank within its origin, of every text that is not over the target.

    ``extra['cost']``: by score its seconds, cpu_seconds and flops. Raises `LakeError` for too little text.
    """
    asked = study.selection.meta_rater

    def write(directory: Path) -> Facts:
        from threadpoolctl import threadpool_limits

        pool, cost = Pool(split, generations).without(TARGET), {}
        table = pool.rows.select(["id", "strategy"])
        with threadpool_limits(1):
            for name in asked.scores:
                began, spent = time.monotonic(), time.process_time()
                try:
                    found = methods.CHEAP[name](pool)
                except ValueError as error:
                    raise LakeError(f"study {study.name}: selection by meta_rater, {name}: {error}") from None
                table = table.append_column(name, pa.array(ranks(found.score, pool.origin)))
                seconds = {"seconds": time.monotonic() - began, "cpu_seconds": time.process_time() - spent}
                cost[name] = {**seconds, "flops": found.flops}
        pq.write_table(table, directory / "raters.parquet")
        return Facts(extra={"cost": cost})

    code = ["training/selection/proxies.py", *keys.POOL, *(file for name in asked.scores for file in keys.CODE[name])]
    place = {"dataset": f"studies/{study.name}/raters", "config": {"scores": asked.scores}, "code": code}
    return lake.publish(**place, write=write, parents=[split, generations])


def train(
    study: Study, lake: Lake, *, split: Published, generations: Published, raters: Published, number: int
) -> Published:
    """proxy.json: by score its weight, and the loss on the target in nats per token (`outcome`).

    They are a file so that the digest, and with it a selection's key, follows them. ``extra``: what was kept, how often
    it was read, cost.

    Raises `LakeError` for too little text, and for a model that diverges.
    """
    asked = study.selection.meta_rater
    weights = drawn(len(asked.scores), asked.proxies, asked.seed)[number]

    def write(directory: Path) -> Facts:
        from threadpoolctl import threadpool_limits

        began, spent = time.monotonic(), time.process_time()
        with threadpool_limits(1):
            loss, told = _trained(study, split, generations, raters, weights, f"proxy {number}")
        content = {"weights": dict(zip(asked.scores, weights.tolist(), strict=True)), "loss": loss}
        (directory / "proxy.json").write_text(json.dumps(content, indent=1) + "\n")
        cost = {"seconds": time.monotonic() - began, "cpu_seconds": time.process_time() - spent}
        log.info("proxy %d of %d: loss %.4f in %.1f s", number + 1, asked.proxies, loss, cost["seconds"])
        return Facts(extra={**told, **cost})

    settings = asked.model_dump(mode="json", exclude={"proxies"})
    config = {**settings, "weights": weights.tolist(), "precision": study.training.precision}
    place = {
        "dataset": f"studies/{study.name}/proxies/{number:03}",
        "config": config,
        "code": [*keys.POOL, *keys.PROXY],
    }
    return lake.publish(**place, write=write, parents=[split, generations, raters])


def outcome(proxy: Published) -> tuple[dict[str, float], float]:
    """By score the weight of a proxy, and its loss on the target in nats per token."""
    content = json.loads(proxy.file("proxy.json").read_text())
    return content["weights"], content["loss"]


def drawn(scores: int, many: int, seed: int) -> np.ndarray:
    """(many, scores): each score alone, all alike, then evenly over all weights that sum to 1 (Dirichlet).

    More proxies leave those before them as they are.
    """
    rest = even(scores, many - scores - 1, [seed, 0])
    return np.vstack([np.eye(scores), np.full((1, scores), 1 / scores), rest])


def even(scores: int, many: int, seed: list[int]) -> np.ndarray:
    """(many, scores) weights that sum to 1, drawn evenly."""
    return np.random.default_rng(seed).dirichlet(np.ones(scores), many)


def _trained(
    study: Study, split: Published, generations: Published, raters: Published, weights: np.ndarray, name: str
) -> tuple[float, dict[str, float]]:
    """The loss on the target in nats per token, and what is told of the training."""
    from training.short import Trainer  # torch is loaded where something is trained

    asked, whole = study.selection.meta_rater, Pool(split, generations)
    pool, tokenizer = whole.without(TARGET), tok.load(split.file("tokenizer.json"))
    ranked = pq.read_table(raters.file("raters.parquet"))
    score = np.column_stack([ranked[column].to_numpy() for column in asked.scores]) @ weights
    texts = _encoded(pool, kept(pool, score, asked.share), tokenizer)
    target = [t.text for batch in whole.batches("real") for t in batch if t.fold == TARGET]
    held = [np.asarray(one.ids, np.int32) for one in tokenizer.encode_batch_fast(target, add_special_tokens=False)]
    if min(len(held), len(texts)) < LEAST:
        raise LakeError(
            f"study {study.name}: selection by meta_rater: {len(held)} documents of the target and {len(texts)} texts "
            f"to learn from are too few, {LEAST} each are needed; give the study more, or raise 'share'"
        )
    trainer = Trainer(study.training, asked, tokenizer.get_vocab_size(), tokenizer.token_to_id(tok.BOUNDARY))
    model, _ = trainer.train(name, {"kept": texts}, seed=asked.seed)
    lengths = np.array([len(text) + 1 for text in held])
    loss = float((trainer.losses(model, held) * lengths).sum() / lengths.sum())
    if not np.isfinite(loss):
        raise LakeError(f"study {study.name}: {name} diverged; lower selection.meta_rater.optimizer.lr")
    tokens = sum(len(text) + 1 for text in texts)
    return loss, {
        "texts": len(texts),
        "tokens": tokens,
        "passes": asked.steps * asked.batch * asked.context / tokens,
        "flops": trainer.flops(model, int(lengths.sum())),
    }


def kept(pool: Pool, score: np.ndarray, share: float) -> np.ndarray:
    """Which texts a layout would take: of each origin but real the best, up to the share of its tokens."""
    rule, chosen = Select(by="meta_rater", share=share), np.zeros(len(pool), bool)
    keys = zip(pool.rows["strategy"].to_pylist(), pool.rows["id"].to_pylist(), strict=True)
    draws = np.array([lot(f"proxy:{strategy}:{text}") for strategy, text in keys])
    weight = by_rank(score, pool.origin)
    for origin in set(pool.origin) - {"real"}:
        own = pool.origin == origin
        chosen[own], _ = kept_by(rule, score[own], weight[own], pool.tokens[own], draws[own])
    return chosen


def _encoded(pool: Pool, wanted: np.ndarray, tokenizer: tok.Tokenizer) -> list[np.ndarray]:
    found = []
    for texts in pool.batches():
        mine = [text.text for text in texts if wanted[text.place]]
        found += [np.asarray(one.ids, np.int32) for one in tokenizer.encode_batch_fast(mine, add_special_tokens=False)]
    return found
