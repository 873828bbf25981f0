"""Runs of words that two texts share: near-copies of a source, and validation text inside training text.

DuckDB hashes the words, numpy the runs of n words (a polynomial over the words' hashes): memory for one batch of
texts. Leaks are compared word by word afterwards, because they stop a study and a collision must not; in a share of
near-copies a collision in 2^64 cannot be seen.
"""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

BASE = np.uint64(0x9E3779B97F4A7C15)
BATCH = 4_096

SOURCED = """
    select
        generations.strategy,
        word_hashes(generations.text) as own,
        word_hashes(coalesce(train.text, '')) as source
    from generations
    left join train on generations.document_id = train.document_id
"""
HELD_OUT = "select url, words(text) as words, word_hashes(text) as hashes from validation"
PARTS = """
    select
        text,
        words(text) as words,
        word_hashes(text) as hashes
    from (select distinct text from megadoc_parts)
"""


def source_overlaps(connection: duckdb.DuckDBPyConnection, words: int) -> pd.DataFrame:
    """Per generation: its strategy, and the share of its distinct runs of so many words that its source holds too."""
    found = [pd.DataFrame({"strategy": pd.Series(dtype=str), "overlap": pd.Series(dtype=float)})]
    for batch in connection.sql(SOURCED).to_arrow_reader(BATCH):
        own, source = (_runs(batch.column(name), words)[["row", "run"]].drop_duplicates() for name in ("own", "source"))
        shared = own.merge(source, on=["row", "run"])
        counts = [np.bincount(frame["row"], minlength=batch.num_rows) for frame in (shared, own)]
        overlap = counts[0] / np.maximum(counts[1], 1)
        found.append(pd.DataFrame({"strategy": batch.column("strategy").to_pylist(), "overlap": overlap}))
    return pd.concat(found, ignore_index=True)


def validation_leaks(connection: duckdb.DuckDBPyConnection, words: int) -> pd.DataFrame:
    """Each distinct text of a megadoc part that holds a run of so many words of a validation document, and whose."""
    held = list(_hashed(connection, HELD_OUT, words))
    forbidden = np.unique(np.concatenate([runs["run"].to_numpy() for _, runs in held] or [np.array([], np.uint64)]))
    leaks = []
    for batch, runs in _hashed(connection, PARTS, words):
        hits = runs[np.isin(runs["run"], forbidden)]
        for row, own in hits.groupby("row"):
            leak = _confirm(batch.column("words")[row].as_py(), own, held, words)
            if leak:
                leaks.append((batch.column("text")[row].as_py(), *leak))
    return pd.DataFrame(leaks, columns=["text", "run_text", "validation_url"], dtype=str)


def _confirm(
    text: list[str], own: pd.DataFrame, held: list[tuple[pa.RecordBatch, pd.DataFrame]], words: int
) -> tuple[str, str] | None:
    """The first run that is equal word by word, and the URL it comes from."""
    for batch, runs in held:
        for match in own.merge(runs, on="run", suffixes=("", "_held")).itertuples():
            run = text[match.start : match.start + words]
            other = batch.column("words")[match.row_held].as_py()
            if run == other[match.start_held : match.start_held + words]:
                return " ".join(run), batch.column("url")[match.row_held].as_py()
    return None


def _hashed(
    connection: duckdb.DuckDBPyConnection, query: str, words: int
) -> Iterator[tuple[pa.RecordBatch, pd.DataFrame]]:
    for batch in connection.sql(query).to_arrow_reader(BATCH):
        yield batch, _runs(batch.column("hashes"), words)


def _runs(lists: pa.ListArray, words: int) -> pd.DataFrame:
    """Row, start inside the row and hash of every run of so many words; rows shorter than that have none."""
    offsets = lists.offsets.to_numpy().astype(np.int64)
    values = lists.values.to_numpy()
    counts = np.maximum(np.diff(offsets) - words + 1, 0)
    row = np.repeat(np.arange(len(counts)), counts)
    start = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    first = offsets[row] + start
    run = np.zeros(len(row), dtype=np.uint64)
    for place in range(words):
        run = run * BASE + values[first + place]
    return pd.DataFrame({"row": row, "start": start, "run": run})
