"""``studies/<study>/selection``: a score and a weight per text and method, what each says, and what it cost."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from palimpsest.config import TRAINED, Study
from palimpsest.lake import Facts, Lake, LakeError, Published
from training.selection.found import Scores
from training.selection.methods import score
from training.selection.pool import Pool

CODE = (
    "training/selection",
    "plugins/palimpsest/words.py",
    *(f"plugins/palimpsest/guard/{name}.py" for name in ("importance", "tokens", "trigram")),
)
TRAINER = tuple(
    f"training/{name}.py"
    for name in ("attention", "data", "evaluate", "loss", "model", "optim", "run", "short", "step")
)
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
AT_A_TIME = 100_000
EXAMPLES = 3
"""Of the best and of the worst generated texts of each method, for people."""
SHOWN = 200

log = logging.getLogger(__name__)


def select(study: Study, lake: Lake, *, split: Published, generations: Published) -> Published:
    """weights.parquet (`WEIGHTS`); ``extra['methods']``: by method its cost, range, best and worst texts.

    Raises ValueError for a study that asks for no score, and for one with too little text for a method.
    """
    asked = study.selects
    if not asked:
        raise ValueError(
            f"study {study.name}: no layout has 'select' in {study.path}, and 'selection.methods' asks for no score"
        )
    averaged = study.selection.rank if "rank" in asked else []
    made = []
    if "meta_rater" in asked:
        from training.selection.proxies import every

        made = every(study, lake, split=split, generations=generations)

    def write(directory: Path) -> Facts:
        from threadpoolctl import threadpool_limits

        pool = Pool(split, generations)
        found: dict[str, Scores] = {}
        told: dict[str, dict] = {}
        with threadpool_limits(1), pq.ParquetWriter(directory / "weights.parquet", WEIGHTS) as writer:
            for method in asked:
                began, spent = time.monotonic(), time.process_time()
                try:
                    found[method] = score(method, pool, found, study, split, made)
                except ValueError as error:
                    raise LakeError(f"study {study.name}: selection by {method}: {error} ({study.path})") from None
                told[method] = {
                    "seconds": time.monotonic() - began + found[method].paid.get("seconds", 0),
                    "cpu_seconds": time.process_time() - spent + found[method].paid.get("cpu_seconds", 0),
                    "flops": found[method].flops,
                    "figures": dict(found[method].figures),
                    **_ranges(pool, found[method]),
                }
                for part in _rows(pool, method, found[method]):
                    writer.write_table(part)
                log.info("%s: %s texts scored in %.1f s", method, f"{len(pool):,}", told[method]["seconds"])
        for method, parts in study.selection.parts.items():  # an average costs what its parts do, and itself
            for name in ("seconds", "cpu_seconds", "flops") if method in told else ():
                told[method][name] += sum(told[part][name] for part in parts)
        examples = _examples(pool, found)
        return Facts(
            extra={
                "methods": {name: {**own, **examples[name]} for name, own in told.items()},
                "texts": dict(Counter(pool.origin.tolist())),
                "tokens": {name: int(pool.tokens[pool.origin == name].sum()) for name in sorted(set(pool.origin))},
                "reserve_documents": pool.reserve,
                "averaged": list(averaged),
                "agreement": _agreement(found, pool.origin),
            }
        )

    config: dict[str, object] = {"methods": asked, "averaged": averaged}
    trained = [method for method in asked if method in TRAINED]
    code = [*CODE, *(TRAINER if trained else ()), *(["training/meta"] if "mts" in asked else ())]
    for method in trained:
        settings = getattr(study.selection, method).model_dump(mode="json")
        config[method] = {**settings, "precision": study.training.precision}
    dataset = f"studies/{study.name}/selection"
    return lake.publish(dataset, write, config=config, parents=[split, generations, *made], code=code)


def told(selection: Published) -> str:
    """A line per method for a terminal or a log: its cost, its scores of generated texts, and how far weights go."""
    lines = [
        f"{sum(selection.extra['texts'].values()):,} texts of {', '.join(sorted(selection.extra['texts']))} origin",
        f"{'method':<12}{'seconds':>9}{'of CPU':>9}{'FLOPs':>9}{'score 10%':>12}{'50%':>9}{'90%':>9}{'weights':>15}",
    ]
    for name, own in selection.extra["methods"].items():
        cost = f"{own['seconds']:>9.1f}{own['cpu_seconds']:>9.1f}{own['flops']:>9.2g}"
        low, middle, high = (f"{value:.4g}" for value in own["scores"])
        weights = " to ".join(f"{value:.2f}" for value in own["weights"])
        figures = "".join(f"  {key} {value:.3g}" for key, value in own["figures"].items())
        lines.append(f"{name:<12}{cost}{low:>12}{middle:>9}{high:>9}{weights:>15}{figures}")
    return "\n".join(lines)


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


def _examples(pool: Pool, found: dict[str, Scores]) -> dict[str, dict[str, list]]:
    """The generated texts that each method likes best and least."""
    own = np.flatnonzero(pool.origin == "synthetic")
    chosen = {}
    for method, scores in found.items():
        order = own[np.argsort(-scores.score[own], kind="stable")]
        chosen[method] = {"best": order[:EXAMPLES].tolist(), "worst": order[::-1][:EXAMPLES].tolist()}
    wanted = {place for sides in chosen.values() for side in sides.values() for place in side}
    texts = {
        t.place: " ".join(t.text[: 2 * SHOWN].split())[:SHOWN] for b in pool.batches() for t in b if t.place in wanted
    }

    def shown(method: str, place: int) -> dict[str, object]:
        row = {name: pool.rows[name][place].as_py() for name in ("id", "strategy")}
        return row | {"score": float(found[method].score[place]), "text": texts[place][:SHOWN]}

    return {m: {side: [shown(m, p) for p in places] for side, places in own.items()} for m, own in chosen.items()}


def _agreement(found: dict[str, Scores], origin: np.ndarray) -> dict[str, float]:
    """Spearman's correlation of each two scores over the generated texts."""
    from scipy.stats import spearmanr

    own, names = origin == "synthetic", list(found)
    pairs = [(a, b) for n, a in enumerate(names) for b in names[n + 1 :]]
    rho = {f"{a}, {b}": float(spearmanr(found[a].score[own], found[b].score[own]).statistic) for a, b in pairs}
    return {name: value for name, value in rho.items() if np.isfinite(value)}
