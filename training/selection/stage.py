"""``studies/<study>/selection``: a score and a weight per text and method, what each says, and what it cost.

The join of what every method has published for itself (`training.selection.scored`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from palimpsest.config import Method, Study
from palimpsest.lake import Facts, Lake, Published
from training.selection import scored
from training.selection.found import Scores
from training.selection.scored import AT_A_TIME, WEIGHTS, Given

CODE = ("training/selection/stage.py",)
COST = ("seconds", "cpu_seconds", "flops")


def select(study: Study, lake: Lake, *, split: Published, generations: Published) -> Published:
    """weights.parquet (`WEIGHTS`); ``extra['methods']``: by method its cost, range, best and worst texts.

    A method whose scores are published is not run again. Raises ValueError for a study that asks for no score, and for
    one with too little text for a method.
    """
    asked = study.selects
    if not asked:
        raise ValueError(
            f"study {study.name}: no layout has 'select' in {study.path}, and 'selection.methods' asks for no score"
        )
    made: dict[Method, list[Published]] = {}
    if "meta_rater" in asked:
        from training.selection.proxies import every

        made["meta_rater"] = every(study, lake, split=split, generations=generations)
    if "suffix" in asked:
        made["suffix"] = [_plan_of(generations), _run(study, lake)]
    given, parts = Given(study, lake, split, generations), study.selection.parts
    found: dict[Method, Published] = {}
    for method in asked:
        own = {part: found[part] for part in parts.get(method, ())}
        found[method] = scored.publish(given, method, own, made.get(method, ()))

    def write(directory: Path) -> Facts:
        told = {method: dict(one.extra) for method, one in found.items()}
        for method, names in parts.items():  # an average costs what its parts do, and itself
            for cost in COST if method in told else ():
                told[method][cost] += sum(told[name][cost] for name in names)
        with pq.ParquetWriter(directory / "weights.parquet", WEIGHTS) as writer:
            for one in found.values():
                for batch in pq.ParquetFile(one.file("scores.parquet")).iter_batches(AT_A_TIME):
                    writer.write_table(pa.Table.from_batches([batch], WEIGHTS))
        pool = given.pool
        names, counts = np.unique(pool.origin.astype(str), return_counts=True)
        return Facts(
            extra={
                "methods": told,
                "texts": dict(zip(names.tolist(), counts.tolist(), strict=True)),
                "tokens": {name: int(pool.tokens[pool.origin == name].sum()) for name in names.tolist()},
                "reserve_documents": pool.reserve,
                "averaged": averaged,
                "agreement": _agreement({name: scored.read(one) for name, one in found.items()}, pool.origin),
            }
        )

    averaged = study.selection.rank if "rank" in asked else []
    config = {"methods": {method: one.uri for method, one in found.items()}, "averaged": averaged}
    place = {"dataset": f"studies/{study.name}/selection", "config": config, "code": CODE}
    return lake.publish(**place, write=write, parents=[split, generations, *found.values()])


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


def _plan_of(generations: Published) -> Published:
    """With the slices that rationales stand between."""
    parents = [one for one in generations.manifest["parents"] if one["dataset"].endswith("/plan")]
    return generations.lake.open(parents[0]["uri"], parents[0]["digest"])


def _run(study: Study, lake: Lake) -> Published:
    """The run that 'suffix' reads with. Raises `NotPublished` where it is not trained."""
    other, run = study.selection.suffix.model.removeprefix("run:").split("/")
    return lake.latest(f"studies/{other}/runs/{run}")


def _agreement(found: Mapping[str, Scores], origin: np.ndarray) -> dict[str, float]:
    """Spearman's correlation of each two scores over the generated texts."""
    from scipy.stats import spearmanr

    own, names = origin == "synthetic", list(found)
    pairs = [(a, b) for n, a in enumerate(names) for b in names[n + 1 :]]
    rho = {f"{a}, {b}": float(spearmanr(found[a].score[own], found[b].score[own]).statistic) for a, b in pairs}
    return {name: value for name, value in rho.items() if np.isfinite(value)}
