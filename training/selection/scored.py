"""``studies/<study>/scores/<method>``: what one method says of every text, and what it cost.

Each method is a dataset of its own, whose key names what its scores hang on and nothing else. So a stage that is broken
off has lost the method that it was at, no other; and a method that is added or set otherwise leaves the others as they
are.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from palimpsest.config import Method, Study
from palimpsest.lake import Facts, Lake, LakeError, Published
from palimpsest.mixes import MARKS
from training.selection import keys, methods
from training.selection.found import Scores
from training.selection.pool import Pool

WEIGHTS = pa.schema(
    [
        ("id", pa.string()),  # of the generation, or of the document
        ("document_id", pa.string()),
        ("generation_id", pa.string()),  # null for a document
        ("strategy", pa.string()),
        ("g", pa.int32()),
        ("origin", pa.string()),  # real, unknown or synthetic
        ("tokens", pa.int64()),
        ("method", pa.string()),
        ("score", pa.float64()),  # higher is taken first
        ("weight", pa.float64()),  # for sampling; mean 1 within its origin
        ("features", pa.string()),  # JSON: what the score was made of
    ]
)
CODE = ("training/selection/scored.py", *keys.POOL)
AT_A_TIME = 100_000
EXAMPLES = 3
"""Of the best and of the worst generated texts, for people."""
SHOWN = 200

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Given:
    """What a study has to be scored."""

    study: Study
    lake: Lake
    split: Published
    generations: Published

    @cached_property
    def pool(self) -> Pool:
        return Pool(self.split, self.generations)


def publish(given: Given, method: Method, parts: Mapping[str, Published], made: Sequence[Published] = ()) -> Published:
    """scores.parquet (`WEIGHTS`), in the pool's order; ``extra``: cost, figures, range, the best and the worst texts.

    ``parts``: the scores, by method, that this one is made of; ``made``: what 'meta_rater' has trained, or 'suffix'
    reads. The cost is this method's own, without its parts.

    Raises `LakeError` for too little text.
    """
    study = given.study

    def write(directory: Path) -> Facts:
        from threadpoolctl import threadpool_limits

        pool, found = given.pool, {name: read(one) for name, one in parts.items()}
        began, spent = time.monotonic(), time.process_time()
        with threadpool_limits(1):
            try:
                own = methods.score(method, pool, found, study, given.split, made)
            except ValueError as error:
                raise LakeError(f"study {study.name}: selection by {method}: {error} ({study.path})") from None
        seconds = time.monotonic() - began + own.paid.get("seconds", 0)
        cpu_seconds = time.process_time() - spent + own.paid.get("cpu_seconds", 0)
        with pq.ParquetWriter(directory / "scores.parquet", WEIGHTS) as writer:
            for part in _rows(pool, method, own):
                writer.write_table(part)
        log.info("%s: %s texts scored in %.1f s", method, f"{len(pool):,}", seconds)
        cost = {"seconds": seconds, "cpu_seconds": cpu_seconds, "flops": own.flops}
        return Facts(extra={**cost, "figures": dict(own.figures), **_ranges(pool, own), **_examples(pool, own)})

    return given.lake.publish(
        f"studies/{study.name}/scores/{method}",
        write,
        config=_config(study, method),
        parents=[given.split, given.generations, *parts.values(), *made],
        code=(*CODE, *keys.CODE[method]),
    )


def read(published: Published) -> Scores:
    """What was published, without its features."""
    table = pq.read_table(published.file("scores.parquet"), columns=["score", "weight"])
    return Scores(table["score"].to_numpy(), table["weight"].to_numpy())


def _config(study: Study, method: Method) -> dict[str, object]:
    """The settings that the scores hang on."""
    if method == "rank":
        return {"averaged": study.selection.rank}
    if method == "meta_rater":  # the others are the proxies', which are parents
        return study.selection.meta_rater.model_dump(mode="json", include={"scores", "seed"})
    own = getattr(study.selection, method, None)
    settings = own.model_dump(mode="json") if own else {}
    if method == "suffix":
        written = {name: own.generations for name, own in study.strategies.items() if own.kind == "rationale"}
        settings |= {"places": written, "marks": MARKS}
    if method == "mts" and study.training.processes > 1:  # alike, not equal: other texts may come out best
        settings |= {"processes": study.training.processes}
    return settings | ({"precision": study.training.precision} if method in ("pvm", "influence") else {})


def _ranges(pool: Pool, scores: Scores) -> dict[str, list[float]]:
    """Of the generated texts: the 10th, 50th and 90th percentile of the scores, the least and the largest weight."""
    own = pool.origin == "synthetic"
    weight = scores.weight[own]
    return {
        "scores": np.quantile(scores.score[own], [0.1, 0.5, 0.9]).tolist(),
        "weights": [float(weight.min()), float(weight.max())],
    }


def _rows(pool: Pool, method: str, scores: Scores) -> Iterator[pa.Table]:
    """The rows of `WEIGHTS` of a method, some at a time."""
    for start in range(0, len(pool), AT_A_TIME):
        part, cut = pool.rows.slice(start, AT_A_TIME), slice(start, start + AT_A_TIME)
        features = {name: values[cut].tolist() for name, values in scores.features.items()}
        rows = [json.dumps({name: _finite(values[n]) for name, values in features.items()}) for n in range(len(part))]
        own = {"method": [method] * len(part), "score": scores.score[cut], "weight": scores.weight[cut]}
        for name, values in (own | {"features": rows}).items():
            part = part.append_column(name, pa.array(values, WEIGHTS.field(name).type))
        yield part.select(WEIGHTS.names).cast(WEIGHTS)


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _examples(pool: Pool, scores: Scores) -> dict[str, list[dict[str, object]]]:
    """The generated texts that the method likes best and least."""
    own = np.flatnonzero(pool.origin == "synthetic")
    order = own[np.argsort(-scores.score[own], kind="stable")]
    sides = {"best": order[:EXAMPLES].tolist(), "worst": order[::-1][:EXAMPLES].tolist()}
    wanted = {place for places in sides.values() for place in places}
    texts = {
        t.place: " ".join(t.text[: 2 * SHOWN].split())[:SHOWN] for b in pool.batches() for t in b if t.place in wanted
    }

    def shown(place: int) -> dict[str, object]:
        row = {name: pool.rows[name][place].as_py() for name in ("id", "strategy")}
        return row | {"score": float(scores.score[place]), "text": texts[place]}

    return {side: [shown(place) for place in places] for side, places in sides.items()}
