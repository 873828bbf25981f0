"""Which texts a layout that chooses keeps, and what that changes: the one place where rows are left out of a stream.

A layout with ``align: importance`` keeps each generated text with a probability that follows how likely it is among
real ones (`palimpsest.guard.importance`); documents of unknown origin likewise (Drayson et al. 2025, 2502.15654). One
with ``select`` keeps what a score prefers (`palimpsest.choice`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from palimpsest import choice
from palimpsest.config import Study
from palimpsest.config.study import Layout
from palimpsest.guard.importance import LEARNED, Odds, Text, draw, effective, keeps, weights
from palimpsest.lake import Facts, Lake, LakeError, Published

WEIGHTS = pa.schema(
    [
        ("layout", pa.string()),
        ("document_id", pa.string()),
        ("generation_id", pa.string()),  # null for a document of unknown origin
        ("strategy", pa.string()),
        ("g", pa.int32()),
        ("score", pa.float64()),  # align: log-odds real : generated, nats; select: of its method
        ("weight", pa.float64()),  # align: clipped, mean 1 over first generations; select: the chance to be kept
        ("draw", pa.float64()),
        ("keeps", pa.bool_()),  # align: draw * clip < weight
    ]
)
EFFECTS = pa.schema(
    [
        ("layout", pa.string()),
        ("strategy", pa.string()),
        ("measure", pa.string()),
        ("before", pa.float64()),  # of as many texts of the stream at random
        ("after", pa.float64()),  # of the texts that were kept
        ("real_mean", pa.float64()),
        ("real_sd", pa.float64()),
        ("texts", pa.int64()),  # on each side
    ]
)
CODE = ("plugins/palimpsest/align.py", "plugins/palimpsest/choice.py", "plugins/palimpsest/guard")
EVERY = choice.EVERY
CLIP = 2.0
AT_A_TIME = 2_000
"""Texts in memory, besides those that are learned from."""
REAL = """
    select document_id, document_id as key, text from train where origin = 'real' and not is_reserve
    order by md5('learn:' || document_id), document_id limit ?
"""
WRITTEN = """
    select document_id, generation_id as key, text from generations where g = 0 and strategy in (select unnest(?))
    order by md5('learn:' || generation_id), strategy limit ?
"""
ROWS = {
    "generations": """
        select document_id, generation_id, strategy, g, text from generations
        where list_contains($names, strategy) and g < $most order by document_id, strategy, g
    """,
    "unknown_documents": """
        select document_id, null as generation_id, null as strategy, null as g, text from train
        where origin = 'unknown' order by document_id
    """,
}
"""The rows of a layout that are weighed."""


def aligned(study: Study) -> dict[str, Layout]:
    """The layouts that choose among their texts."""
    return {name: layout for name, layout in study.layouts.items() if layout.align or layout.select}


def weigh(
    study: Study, lake: Lake, *, split: Published, generations: Published, selection: Published | None = None
) -> Published | None:
    """``studies/<s>/alignment``: weights.parquet (a row per text that a layout chooses among) and effects.parquet.

    ``extra['layouts']``: texts, kept, effective sample size and clip, or the rule, of each. None for a study whose
    layouts take all texts; ``selection`` has the scores for those that 'select'. The classifiers of 'align' learn from
    first generations (g = 0) alone, and each row is drawn by its own id: with more generations the rows that there
    were keep their weights and their fate.
    """
    layouts = aligned(study)
    if not layouts:
        return None
    is_scored = any(layout.select for layout in layouts.values())
    scored = choice.scores(study, selection, split=split, generations=generations) if is_scored else None

    def write(directory: Path) -> Facts:
        from threadpoolctl import threadpool_limits

        from palimpsest.guard.effects import measure

        connection = _opened(split, generations)
        told, effects, learned = {}, [], {}
        with threadpool_limits(1), pq.ParquetWriter(directory / "weights.parquet", WEIGHTS) as writer:
            for name, layout in layouts.items():
                if layout.select:
                    told[name] = {"rule": layout.select.words, "by": layout.select.by}
                    for kind, rows in choice.chosen(name, layout, scored, study.places_of(layout)).items():
                        told[name][kind] = _told(rows) | _told_tokens(rows)
                        writer.write_table(_of_layout(name, rows))
                    continue
                names = tuple(layout.strategies or study.strategies)
                if names not in learned:
                    learned[names] = _odds(study, connection, name, names)
                told[name] = {"clip": layout.clip or CLIP}
                most = layout.generations or EVERY
                asked = {"generations": {"names": layout.strategies, "most": most}, "unknown_documents": {}}
                for kind, query in ROWS.items():
                    rows = _weighed(connection, learned[names], layout.clip or CLIP, name, query, asked[kind])
                    writer.write_table(rows)
                    told[name][kind] = _told(rows)
        chosen = pq.read_table(directory / "weights.parquet")
        for name, layout in layouts.items():
            for strategy in layout.strategies:
                found, why = measure(connection, name, strategy, chosen)
                effects += [{"layout": name, "strategy": strategy, **row} for row in found]
                told[name].setdefault("unmeasured", {})[strategy] = why
        pq.write_table(pa.Table.from_pylist(effects, EFFECTS), directory / "effects.parquet")
        return Facts(extra={"layouts": told})

    config = {name: layout.model_dump(mode="json") for name, layout in layouts.items()}
    config = {"layouts": config, "strategies": sorted(study.strategies)}
    dataset = f"studies/{study.name}/alignment"
    parents = [split, generations, *([scored] if scored else [])]
    return lake.publish(dataset, write, config=config, parents=parents, code=CODE)


def of_mixes(lake: Lake, mixes: Published) -> Published | None:
    """The weights that mixes were built with, if they have aligned layouts."""
    found = [parent for parent in mixes.manifest["parents"] if parent["dataset"].endswith("/alignment")]
    return lake.open(found[0]["uri"], found[0]["digest"]) if found else None


def told(lake: Lake, mixes: Published) -> str:
    """A line per layout that chooses, and per kind of text: how much of it mixes were built with."""
    weights = of_mixes(lake, mixes)
    lines = []
    for name, own in (weights.extra["layouts"] if weights else {}).items():
        how = own.get("rule") or f"by importance, clip {own['clip']:g}"
        for kind in ROWS:
            if not (texts := own[kind]["texts"]):
                continue
            tokens = f", {own[kind]['kept_tokens'] / own[kind]['tokens']:.1%} of the tokens" if "rule" in own else ""
            kept = f"{own[kind]['kept']:,} of {texts:,} {kind.replace('_', ' ')}"
            lines.append(f"layout {name} ({how}) keeps {kept}{tokens}")
    return "\n".join(lines)


def _opened(split: Published, generations: Published):
    import duckdb

    connection = duckdb.connect()
    for name, file in (
        ("train", split.file("train.parquet")),
        ("generations", generations.file("generations.parquet")),
    ):
        connection.read_parquet(str(file)).create_view(name)
    return connection


def _odds(study: Study, connection, layout: str, names: tuple[str, ...]) -> Odds:
    real, written = (
        [Text(key, document, text) for document, key, text in connection.execute(query, given).fetchall()]
        for query, given in ((REAL, [LEARNED]), (WRITTEN, [list(names), LEARNED]))
    )
    try:
        return Odds(real, written)
    except ValueError as error:
        raise LakeError(
            f"study {study.name}: layouts.{layout}.align: {error}; give it more text, or take 'align' out of "
            f"{study.path}"
        ) from None


def _weighed(connection, odds: Odds, clip: float, name: str, query: str, asked: Mapping[str, object]) -> pa.Table:
    """The rows of `WEIGHTS` of a layout's generations, or of the documents of unknown origin."""
    parts, scores = [], []
    for rows in _batches(connection, query, asked):
        texts = [Text(key or document, document, text) for document, key, *_, text in rows]
        scores.append(odds.of(texts))
        columns = list(zip(*(row[:-1] for row in rows), strict=True))
        parts += [pa.table(dict(zip(("document_id", "generation_id", "strategy", "g"), columns, strict=True)))]
    if not parts:
        return WEIGHTS.empty_table()
    found = pa.concat_tables([part.cast(pa.schema([WEIGHTS.field(n) for n in part.column_names])) for part in parts])
    keys = pc.coalesce(found["generation_id"], found["document_id"]).to_pylist()
    score, draws = np.concatenate(scores), np.array([draw(key) for key in keys])
    basis = pc.equal(pc.fill_null(found["g"], 0), 0).to_numpy()
    weight = weights(score, basis, clip)
    more = {"layout": [name] * len(score), "score": score, "weight": weight, "draw": draws}
    more["keeps"] = keeps(weight, draws, clip)
    whole = {key: found[key] for key in found.column_names} | more
    return pa.table({field.name: whole[field.name] for field in WEIGHTS}, schema=WEIGHTS)


def _of_layout(name: str, rows: pa.Table) -> pa.Table:
    whole = {"layout": pa.array([name] * len(rows), pa.string())} | {key: rows[key] for key in rows.column_names}
    return pa.table({field.name: whole[field.name] for field in WEIGHTS}, schema=WEIGHTS)


def _told_tokens(rows: pa.Table) -> dict[str, int]:
    kept = rows.filter(rows["keeps"])
    return {"tokens": pc.sum(rows["tokens"]).as_py() or 0, "kept_tokens": pc.sum(kept["tokens"]).as_py() or 0}


def _told(rows: pa.Table) -> dict[str, float]:
    weight = rows["weight"].to_numpy()
    return {"texts": len(rows), "kept": int(rows["keeps"].to_numpy().sum()), "effective": effective(weight)}


def _batches(connection, query: str, asked: Mapping[str, object]) -> Iterator[list[tuple]]:
    connection.execute(query, asked)
    while rows := connection.fetchmany(AT_A_TIME):
        yield rows
