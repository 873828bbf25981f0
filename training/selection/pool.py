"""All that a study could train on, as a table without text, and the texts again and again in its order."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from palimpsest.guard.importance import fold
from palimpsest.lake import LakeError, Published

AT_A_TIME = 2_000
"""Texts in memory."""
ROWS = """
    select
        document_id as id, document_id, null::varchar as generation_id, null::varchar as strategy, null::integer as g,
        origin, tokens, text
    from train where not is_reserve
    union all
    select generation_id, document_id, generation_id, strategy, g, 'synthetic', tokens, text
    from generations
"""
ORDER = "order by origin, strategy nulls first, document_id, g nulls first"


@dataclass(frozen=True)
class Text:
    """A text, its number in the pool's table, and the fold that it shares with its document and its siblings."""

    place: int
    origin: str
    fold: int
    text: str


class Pool:
    """Documents that mixes may use and the generations over them. Columns: id to tokens of `ROWS`."""

    def __init__(self, split: Published, generations: Published) -> None:
        import duckdb

        self.split, self.generations = split, generations
        self._connection = duckdb.connect()
        files = {"train": split.file("train.parquet"), "generations": generations.file("generations.parquet")}
        for name, file in files.items():
            self._connection.read_parquet(str(file)).create_view(name)
        columns = "id, document_id, generation_id, strategy, g, origin, tokens"
        self.rows: pa.Table = self._connection.sql(f"select {columns} from ({ROWS}) {ORDER}").to_arrow_table()
        reserve = self._connection.execute("select count(*) from train where is_reserve").fetchall()
        self.reserve: int = reserve[0][0]
        self.origin = np.array(self.rows["origin"].to_pylist(), dtype=object)
        self.tokens = self.rows["tokens"].to_numpy().astype(np.int64)
        self._places = np.arange(len(self.rows))
        if not (self.origin == "synthetic").any():
            raise LakeError(f"{generations.uri} holds no generated text, so there is nothing to choose from")

    def __len__(self) -> int:
        return len(self.rows)

    def without(self, left_out: int) -> Pool:
        """The same less a fold: less its documents and whatever stands over them."""
        stays = np.array([fold(document) != left_out for document in self.rows["document_id"].to_pylist()], bool)
        found = copy.copy(self)
        found.rows, found.origin, found.tokens = self.rows.filter(stays), self.origin[stays], self.tokens[stays]
        found._places = np.where(stays, np.cumsum(stays) - 1, -1)
        return found

    def batches(self, origin: str | None = None) -> Iterator[list[Text]]:
        """The texts, some at a time, in the table's order; of one origin, if that is asked."""
        query = f"select row_number() over ({ORDER}) - 1 as place, origin, document_id, text from ({ROWS})"
        found = self._connection.cursor()
        found.execute(f"select * from ({query}) where origin = coalesce(?, origin) order by place", [origin])
        while rows := found.fetchmany(AT_A_TIME):
            places = ((self._places[place], *row) for place, *row in rows)
            yield [Text(int(place), own, fold(key), text) for place, own, key, text in places if place >= 0]
