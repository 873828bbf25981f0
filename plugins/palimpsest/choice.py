"""Which texts a layout with ``select`` keeps, of the scores that ``training/selection`` published.

A layout chooses within each origin by itself: among its generated texts (all strategies together, where it pools
several), and among documents of unknown origin. Documents that people wrote are scored too, and always stay: how much
of a mix they wrote is the guard's to judge, on what is left. A stretched layout chooses among the candidates of each
place of a rationale.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from palimpsest.config import Select, Study
from palimpsest.config.study import Layout
from palimpsest.guard.importance import draw
from palimpsest.lake import Lake, LakeError, Published

COLUMNS = ["document_id", "generation_id", "strategy", "g", "tokens", "score", "weight"]
EVERY = 1 << 30


def scores(study: Study, selection: Published | None, *, split: Published, generations: Published) -> Published:
    """The selection, if it is of these very texts and has every score that layouts ask for."""
    asked = {layout.select.by for layout in study.layouts.values() if layout.select}
    remedy = f"run: python -m training select {study.name}"
    if selection is None:
        raise LakeError(
            f"study {study.name}: its layouts select by {', '.join(sorted(asked))}, and nothing is scored; {remedy}"
        )
    if not {split.digest, generations.digest} <= {parent["digest"] for parent in selection.manifest["parents"]}:
        raise LakeError(f"{selection.uri} scores other texts than this study has now; {remedy}")
    if missing := asked - set(selection.extra["methods"]):
        raise LakeError(f"{selection.uri} has no scores by {', '.join(sorted(missing))}; {remedy}")
    return selection


def latest_selection(study: Study, lake: Lake) -> Published | None:
    """The newest scores; None where no layout asks for any, or there are none yet."""
    if not any(layout.select for layout in study.layouts.values()):
        return None
    return next(reversed(lake.versions(f"studies/{study.name}/selection")), None)


def chosen(name: str, layout: Layout, selection: Published, places: int | None = None) -> dict[str, pa.Table]:
    """By kind (``generations``, ``unknown_documents``) the rows that a layout chooses among, with what it decides.

    Columns: `COLUMNS`, ``draw`` (0 to 1, the row's own) and ``keeps``; ``weight`` is the probability to be kept.
    ``places``: split points of a stretched layout's documents; sample g is a candidate for that of g mod places.
    """
    rule = layout.select
    mine = (pc.field("method") == rule.by) & (pc.field("origin") == "synthetic")
    mine &= pc.field("strategy").isin(pa.array(layout.strategies, pa.string()))
    mine &= pc.field("g") < (layout.generations or EVERY)
    file = selection.file("weights.parquet")
    found = {"generations": pq.read_table(file, columns=COLUMNS, filters=mine)}
    holds_documents = layout.kind == "real" or (layout.kind != "stretched" and layout.real != "none")
    unknown = (pc.field("method") == rule.by) & (pc.field("origin") == "unknown")
    documents = pq.read_table(file, columns=COLUMNS, filters=unknown)
    found["unknown_documents"] = documents if holds_documents else documents.slice(0, 0)
    if len(found["unknown_documents"]) and selection.extra["reserve_documents"]:
        raise LakeError(
            f"layouts.{name}.select would choose among documents of unknown origin, of which this study keeps a part "
            "for the reference alone (real_share below 1): give them to a study of real_share 1"
        )
    kept = {kind: _decided(rule, rows, places) for kind, rows in found.items()}
    for kind, rows in kept.items():
        if len(rows) and not pc.any(rows["keeps"]).as_py():
            best = pc.max(rows["score"]).as_py()
            raise LakeError(
                f"layouts.{name}.select: no score by {rule.by} of {len(rows):,} {kind.replace('_', ' ')} reaches "
                f"{rule.threshold:g}, the best is {best:.4g}; lower 'threshold'"
                if rule.threshold is not None
                else f"layouts.{name}.select: of {len(rows):,} {kind.replace('_', ' ')} none is drawn; raise 'sample'"
            )
    return kept


def lot(key: str, seed: int = 0) -> float:
    """A number from 0 to 1 that is the text's own for this seed, whatever other texts there are."""
    return draw(f"select:{seed}:{key}")


def kept_by(
    rule: Select, score: np.ndarray, weight: np.ndarray, tokens: np.ndarray, draws: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What a rule keeps, and the probability with which it kept each.

    ``share``: the best, while together they are at most the share of all tokens (one at least; equal scores in the
    order of their lots). ``sample``: each with a probability of weight times a constant, at most 1, so that the
    expected tokens are the share.
    """
    if rule.threshold is not None:
        kept = score >= rule.threshold
        return kept, kept.astype(np.float64)
    if rule.share is not None:
        order = np.lexsort((draws, -score))
        kept = np.zeros(len(score), bool)
        kept[order] = np.cumsum(tokens[order]) <= rule.share * tokens.sum()
        kept[order[:1]] = True
        return kept, kept.astype(np.float64)
    chance = chances(weight, tokens, rule.sample)
    return draws < chance, chance


def best_of_each(place: np.ndarray, score: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Where each place (any number) has its highest score; of equal ones the first of their lots."""
    order = np.lexsort((draws, -score, place))
    first = np.ones(len(order), bool)
    first[1:] = place[order][1:] != place[order][:-1]
    kept = np.zeros(len(score), bool)
    kept[order[first]] = True
    return kept


def chances(weight: np.ndarray, tokens: np.ndarray, share: float) -> np.ndarray:
    """min(1, c x weight) with the c at which the expected tokens are the share of all."""
    if not len(weight):
        return np.zeros(0)
    low, high = 0.0, 1.0
    while (tokens * np.minimum(high * weight, 1)).sum() < share * tokens.sum() and high < 1e12:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        enough = (tokens * np.minimum(middle * weight, 1)).sum() >= share * tokens.sum()
        low, high = (low, middle) if enough else (middle, high)
    return np.minimum(high * weight, 1)


def _decided(rule: Select, rows: pa.Table, places: int | None) -> pa.Table:
    keys = [
        f"{strategy}:{text}" if strategy else document
        for document, text, strategy in zip(*(rows[name].to_pylist() for name in COLUMNS[:3]), strict=True)
    ]
    draws = np.array([lot(key, rule.seed) for key in keys])
    score = draws if rule.by == "random" else rows["score"].to_numpy()
    if places:
        documents = np.unique(rows["document_id"].to_numpy(zero_copy_only=False), return_inverse=True)[1]
        kept = best_of_each(documents * places + rows["g"].to_numpy().astype(np.int64) % places, score, draws)
        chance = kept.astype(np.float64)
    else:
        kept, chance = kept_by(rule, score, rows["weight"].to_numpy(), rows["tokens"].to_numpy(), draws)
    changed: Mapping[str, object] = {"score": score, "weight": chance}
    for name, values in changed.items():
        rows = rows.set_column(rows.schema.get_field_index(name), name, pa.array(values, pa.float64()))
    return rows.append_column("draw", pa.array(draws)).append_column("keeps", pa.array(kept, pa.bool_()))
