"""What choosing among generated texts changes: distances from real text before and after, at equal size.

*Before* are as many texts of the same stream, taken at random: distances grow with the number of texts, and fewer
tokens hold fewer rare words, so that the whole stream would be no fair comparison.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from palimpsest.guard.distance import Distance, distance
from palimpsest.guard.diversity import LEAST, Blocks, Null
from palimpsest.guard.measure import Reference
from palimpsest.guard.tail import Counts, subsampled, tail
from palimpsest.guard.tokens import draw, size

SAMPLE = 12_000_000
"""Characters of real documents, and twice as many of what was written over them."""
SOURCES = """
    with sized as (
        select document_id, text, sum(len(text)) over (order by md5(document_id), document_id) - len(text) as before
        from train where origin = 'real' and not is_reserve
    )
    select document_id, text from sized where before < ? order by before
"""
WRITTEN = """
    with sized as (
        select
            generations.generation_id, generations.text, weights.keeps,
            sum(len(generations.text)) over (
                order by generations.g, md5(generations.document_id), generations.document_id
            ) - len(generations.text) as before
        from generations
        inner join chosen as weights
            on generations.generation_id = weights.generation_id and generations.strategy = weights.strategy
        where
            weights.layout = ? and generations.strategy = ?
            and generations.document_id in (select document_id from effect_sources)
    )
    select generation_id, text, keeps from sized where before < ? order by before
"""


def measure(connection, layout: str, strategy: str, chosen: pa.Table) -> tuple[list[dict[str, object]], str]:
    """Rows of measure, before, after, real_mean, real_sd and texts; and why there are none, if there are none.

    auc, mmd and vendi: `palimpsest.guard.distance`; entropy and compression: `palimpsest.guard.diversity`; rare_recall:
    rare words kept over those in as much real text.
    """
    sources = connection.execute(SOURCES, [SAMPLE]).fetchall()
    connection.register("effect_sources", pa.table({"document_id": pa.array([d for d, _ in sources], pa.string())}))
    connection.register("chosen", chosen)
    rows = connection.execute(WRITTEN, [layout, strategy, 2 * SAMPLE]).fetchall()
    after = [text for _, text, is_kept in rows if is_kept]
    shuffled = sorted(rows, key=lambda row: hashlib.sha256(b"before:" + row[0].encode()).digest())
    before = [text for _, text, _ in shuffled[: len(after)]]
    real = [text for _, text in sources]
    try:
        found = [*_distances(real, before, after), *_words(real, before, after)]
    except ValueError as error:
        return [], f"what was kept of strategy {strategy} cannot be compared with real text: {error}"
    return [row | {"texts": len(after)} for row in found], ""


def _distances(real: list[str], before: list[str], after: list[str]) -> list[dict[str, object]]:
    first: Distance = distance(real, before)
    second = distance(real, after, nulls=first)
    return [
        _row(name, getattr(first, name), getattr(second, name), getattr(second, f"{name}_null"))
        for name in ("auc", "mmd", "vendi")
    ]


def _words(real: list[str], before: list[str], after: list[str]) -> list[dict[str, object]]:
    reference = Reference(real)
    sides = [[(text, reference.vocabulary.encode(text)) for text in side] for side in (before, after)]
    tokens = min(size([document for _, document in side]) for side in sides)
    block = min(reference.block, tokens)
    if block < LEAST:
        raise ValueError(f"{tokens:,} tokens are too few: {LEAST:,} or more are needed")
    nulls = reference.nulls(block)
    means = [_block(side, block) for side in sides]
    found = [_row(name, *(mean[name] for mean in means), nulls[name]) for name in ("entropy", "compression")]
    usual = subsampled(reference.source, tokens / max(reference.source.tokens, 1))
    if usual and len(reference.source.rare):
        recalls = [_recall([document for _, document in side], tokens, reference) / usual for side in sides]
        found.append(_row("rare_recall", *recalls, None))
    return found


def _block(side: Sequence[tuple[str, np.ndarray]], tokens: int) -> dict[str, float]:
    blocks = Blocks(tokens)
    for text, document in side:
        blocks.add(text, document)
    blocks.close()
    return blocks.means


def _recall(documents: list[np.ndarray], tokens: int, reference: Reference) -> float:
    counts = Counts()
    counts.add(draw(documents, tokens, np.random.default_rng(0)))
    return tail(counts, reference.source).recall


def _row(name: str, before: float, after: float, null: Null | None) -> dict[str, object]:
    mean, sd = (null.mean, null.sd) if null else (None, None)
    return {"measure": name, "before": before, "after": after, "real_mean": mean, "real_sd": sd}
