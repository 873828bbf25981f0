"""Recordings out of somebody else's table: which text is which sample is the study's to say."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palimpsest.config import ConfigError, Engine, SampleColumns
from palimpsest.generate.engines import Recorded
from palimpsest.generate.requests import Request

VERSIONS = ("plain", "old", "literal")


@pytest.fixture
def table(tmp_path):
    rows = [
        {"split": "train", "doc": f"book {n}", "version": version, "text": f"{version} {n}"}
        for n in range(3)
        for version in VERSIONS
        if (n, version) != (2, "old")
    ]
    path = tmp_path / "translations.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def engine(table, order, **columns) -> Recorded:
    columns = {"url": "https://{split}.example/{doc}", "sample": "version", **columns}
    return Recorded(Engine(kind="recorded", file=str(table), columns=SampleColumns(order=order, **columns)))


def replayed(recorded, document: int, samples: int = 2, kind: str = "rephrase") -> list[str | None]:
    url = f"https://train.example/book%20{document}"
    requests = [Request(f"{document}{g}", url, kind, g, "the source", g) for g in range(samples)]
    return [outcome.text for outcome in recorded.generate(requests)]


def test_samples_come_in_the_order_the_study_gives(table):
    assert replayed(engine(table, ["literal", "old"]), 1) == ["literal 1", "old 1"]
    assert replayed(engine(table, ["old", "literal", "plain"]), 1, 3) == ["old 1", "literal 1", "plain 1"]
    assert replayed(engine(table, ["literal", "old"]), 1, kind="continuation") == ["literal 1", "old 1"]


def test_a_text_the_table_lacks_fails_by_name(table):
    recorded = engine(table, ["literal", "old"])
    assert replayed(recorded, 2) == ["literal 2", None]
    assert replayed(recorded, 9) == [None, None]


def test_a_row_whose_address_no_document_has_is_no_recording(tmp_path):
    rows = [{"split": "train", "doc": doc, "version": "old", "text": doc[:6]} for doc in ("\ud800", "book 1")]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert replayed(engine(path, ["old", "plain"]), 1) == ["book 1", None]


def test_a_recorded_text_may_hold_any_character(tmp_path):
    path = tmp_path / "told.jsonl"
    row = {"url": "https://train.example/book%201", "strategy": "rephrase", "g": 0, "text": "told\u2028and\x85told"}
    path.write_text(json.dumps(row, ensure_ascii=False) + "\n\n")
    assert replayed(Recorded(Engine(kind="recorded", file=str(path))), 1) == ["told\u2028and\x85told", None]


def test_another_order_or_column_is_another_model_so_nothing_is_taken_for_it(table):
    models = {
        engine(table, ["literal", "old"]).model,
        engine(table, ["old", "literal"]).model,
        engine(table, ["literal", "old"], text="doc").model,
        Recorded(Engine(kind="recorded", file=str(table))).model,
    }
    assert len(models) == 4
    assert engine(table, ["literal", "old"]).model in models


def test_two_texts_for_one_sample_name_the_row(table):
    with pytest.raises(ConfigError, match=r"parquet: row 4: a second 'plain' of https://train\.example; keep"):
        replayed(engine(table, ["plain"], url="https://{split}.example"), 1)


def test_a_recording_that_is_not_there_says_where_to_put_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PALIMPSEST_DATA", str(tmp_path))
    with pytest.raises(ConfigError, match=rf"no file {tmp_path}/none\.parquet; put the data there, or set PALIMP"):
        Recorded(Engine(kind="recorded", file="$PALIMPSEST_DATA/none.parquet"))


def test_versions_are_cut_where_their_source_is(tmp_path):
    path = tmp_path / "versions.parquet"
    texts = {"plain": "a b c d e f", "old": "A B C D E F G H"}
    pq.write_table(pa.Table.from_pylist([{"doc": 1, "version": v, "text": t} for v, t in texts.items()]), path)
    recorded = engine(path, ["old"], url="https://x.example/{doc}/{piece}", pieces=2)
    requests = [Request(str(n), f"https://x.example/1/{n}", "rephrase", 0, "the source", 0) for n in (1, 2, 3)]
    assert [outcome.text for outcome in recorded.generate(requests)] == ["A B C D", "E F G H", None]
    assert recorded.model != engine(path, ["old"], url="https://x.example/{doc}/{piece}", pieces=3).model
