"""Tables row by row: every form they come in, and what is said of a damaged one."""

from __future__ import annotations

import bz2
import gzip
import json
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palimpsest.lake import LakeError
from palimpsest.table import fill, read_table

ROWS = [{"id": n, "kind": "odd" if n % 2 else "even", "text": f"text {n} — é\u2028x"} for n in range(2_500)]


def lines(rows=ROWS) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def zstd(content: bytes) -> bytes:
    return pa.compress(content, "zstd", asbytes=True)


@pytest.fixture
def parquet(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist([{**row, "unused": "x"} for row in ROWS]), path, row_group_size=700)
    return path


PACKED = {"jsonl": bytes, "ndjson": bytes, "jsonl.gz": gzip.compress, "jsonl.bz2": bz2.compress, "json.zst": zstd}


@pytest.mark.parametrize("ending", [*PACKED, "parquet"])
def test_every_form_of_table_gives_the_same_rows_in_order(tmp_path, parquet, ending):
    path = parquet
    if ending in PACKED:
        path = tmp_path / f"rows.{ending}"
        path.write_bytes(PACKED[ending](lines()))
    found = list(read_table(path, ["id", "text"], {"kind": "odd"}))
    assert [row["text"] for _, _, row in found] == [row["text"] for row in ROWS if row["kind"] == "odd"]
    assert [number for number, _, _ in found] == list(range(2, 2_501, 2)), "rows are numbered in the file, from 1"
    positions = [position for _, position, _ in found]
    assert positions == sorted(positions)
    assert 0 < positions[0] <= positions[-1] <= path.stat().st_size
    assert "unused" not in found[0][2] or ending != "parquet"


@pytest.mark.parametrize("ending", ["jsonl.gz", "json.zst", "parquet"])
def test_a_file_that_is_cut_off_is_an_error_with_its_name(tmp_path, parquet, ending):
    path = tmp_path / f"cut.{ending}"
    path.write_bytes((PACKED[ending](lines()) if ending in PACKED else parquet.read_bytes())[:-40])
    with pytest.raises(LakeError, match=rf"cut\.{ending}: damaged after row \d+: .*fetch the file again"):
        list(read_table(path, ["id"]))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{'id': 1}", r"row 3: no JSON"),
        (b"[1]", r"row 3: a JSON object is expected, found list"),
        (b"\xff", "row 3: no"),
    ],
)
def test_a_line_that_is_no_object_names_file_and_row(tmp_path, line, said):
    path = tmp_path / "bad.jsonl"
    path.write_bytes(lines(ROWS[:1]) + b"\n" + line + b"\n" + lines(ROWS[1:2]))
    with pytest.raises(LakeError, match=rf"bad\.jsonl: {said}"):
        list(read_table(path, ["id"]))


def test_a_column_that_no_row_has_is_named_with_those_there_are(tmp_path, parquet):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(lines([{"id": 1, "body": "x"}, {"id": 2, "extra": None}]))
    with pytest.raises(LakeError, match=r"rows\.jsonl: no column 'text'; it has body, extra, id; correct"):
        list(read_table(path, ["text"]))
    with pytest.raises(LakeError, match=r"rows\.parquet: no column 'lang'"):
        list(read_table(parquet, ["id"], {"lang": "en"}))
    assert len(list(read_table(path, ["extra"]))) == 2, "a key that some rows lack is null there"


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(LakeError, match=r"rows\.csv: '\.csv' is no table that can be read; write it as \.parquet"):
        list(read_table(tmp_path / "rows.csv", ["id"]))


def test_an_address_is_a_column_or_made_of_several():
    row = {"url": "https://a.example/?q=1", "site": "b.example", "id": "Song of/Songs", "empty": ""}
    assert fill("{url}", row, 7) == "https://a.example/?q=1"
    assert fill("https://{site}/{id}", row, 7) == "https://b.example/Song%20of%2FSongs"
    assert fill("https://{site}/{row}", row, 7) == "https://b.example/7"
    assert fill("https://{site}/{empty}", row, 7) is None
    assert fill("https://{site}/{absent}", row, 7) is None


def test_a_parquet_file_is_read_a_few_rows_at_a_time(tmp_path):
    """Its dictionary holds the text once; two hundred rows of it would take 200 MB."""
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": ["x" * 1_000_000] * 200}), path)
    tracemalloc.start()
    assert sum(len(row["text"]) for _, _, row in read_table(path, ["text"])) == 200_000_000
    assert tracemalloc.get_traced_memory()[1] < 40_000_000
    tracemalloc.stop()
