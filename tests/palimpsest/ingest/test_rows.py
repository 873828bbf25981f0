"""Tables as sources: the pages they become, what is quarantined, and how their pages are judged."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import re
import sysconfig
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from expectations.gate import gate_documents
from palimpsest.config import Columns, Corpus, DocumentRules, Limits, Source
from palimpsest.documents import build_documents
from palimpsest.ingest.sources import cpython_table
from palimpsest.ingest.stage import extract_days
from palimpsest.lake import LakeError

DAY = dt.date(2026, 10, 1)
PROSE = (
    "The harbour wall was finished in the spring of year {n}, and the boats that had waited came in one by one. "
    "Nobody who stood on the quay that morning could have said how many there were, {n} or more. The bell was rung "
    "for each of them, and the keeper of light {n} wrote their names in the book that lies with the others. That was "
    "all anybody asked of him, and he did it for {n} summers."
)


@pytest.fixture
def make_table_corpus(tmp_path: Path):
    def make(file: Path, *, documents: DocumentRules | None = None, end: dt.date = DAY, **source) -> Corpus:
        return Corpus(
            name="rows",
            description="Made for a test.",
            source=Source(kind="table", files=[str(file)], **source),
            start=DAY,
            end=end,
            documents=documents or DocumentRules(),
            path=tmp_path / "rows.yaml",
        )

    return make


@pytest.fixture
def write_lines(tmp_path: Path):
    def write(*rows: dict, name: str = "rows.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


def rows(published, table):
    return pq.read_table(published.file(f"{table}.parquet")).to_pylist()


def test_a_row_becomes_a_page_as_its_columns_say(lake, make_table_corpus, write_lines):
    body = PROSE.format(n=1) + " Ask jo@mail.example about the cafÃ©."
    file = write_lines(
        {"id": "a b", "body": "other", "lang": "de"}, {"id": "a b", "body": body, "lang": "en", "t": " A\nwall "}
    )
    corpus = make_table_corpus(
        file, columns=Columns(url="https://{lang}.Rows.example/{id}", text="body", title="t"), where={"lang": "en"}
    )
    (published,) = extract_days(corpus, [DAY], lake)
    (page,) = rows(published, "pages")
    assert page["text"] == PROSE.format(n=1) + " Ask <EMAIL> about the café."
    assert (page["url"], page["site"]) == ("https://en.Rows.example/a%20b", "en.rows.example")
    assert (page["title"], page["language"], page["pii_email"], page["repaired"]) == ("A wall", "en", 1, True)
    assert (page["warc_file"], page["warc_offset"], page["day"]) == (str(file), 2, DAY)
    assert page["http_status"] is None
    assert published.manifest["rows"] == {"input": 1, "kept": 1, "dropped": {}, "quarantined": {}}


def test_rows_go_to_their_days_and_every_row_is_kept_or_quarantined(lake, make_table_corpus, write_lines):
    good = {"url": "https://a.example/1", "text": PROSE.format(n=1), "at": "2026-10-02T23:30:00-01:00"}
    bad = {
        "bad_date": {**good, "at": "yesterday"},
        "bad_url": {**good, "url": "nowhere"},
        "bad_text": {**good, "url": "https://a.example/2", "text": ["list"]},
        "empty": {**good, "url": "https://a.example/3", "text": None},
        "no_text": {**good, "url": "https://a.example/4", "text": " \n "},
        "too_large": {**good, "url": "https://a.example/5", "text": "word " * 3_000_000},
        "duplicate_record": good,
    }
    lone = {**good, "url": "https://a.example/6", "text": PROSE.format(n=6) + " \ud83d"}
    file = write_lines(good, lone, *bad.values())
    corpus = make_table_corpus(file, columns=Columns(date="at"), end=dt.date(2026, 10, 3))
    days = extract_days(corpus, [dt.date(2026, 10, d) for d in (1, 2, 3)], lake)
    assert [day.manifest["rows"]["input"] for day in days] == [1, 0, 8]
    quarantined = {row["cause"]: row for day in days for row in rows(day, "quarantine")}
    assert set(quarantined) == set(bad)
    assert quarantined["bad_date"]["day"] == DAY
    assert quarantined["bad_text"]["detail"] == "column 'text' holds list, not text"
    kept = rows(days[2], "pages")
    assert [page["url"] for page in kept] == ["https://a.example/1", "https://a.example/6"]
    assert days[2].extra["records"] == {"row": 8}


@pytest.mark.parametrize(
    "address", ["https://me:word@a.example/@1", " https://me:word@a.example/@1", "https:/\n/me:word@a.example/@1"]
)
def test_a_password_in_an_address_is_not_part_of_it(lake, make_table_corpus, write_lines, address):
    file = write_lines({"url": address, "t": "", "text": PROSE.format(n=1)})
    (published,) = extract_days(make_table_corpus(file, columns=Columns(url="{url}", title="t")), [DAY], lake)
    (page,) = rows(published, "pages")
    assert (page["url"], page["site"]) == ("https://a.example/@1", "a.example")


@pytest.mark.parametrize("address", ["https://h.example/\ud800", "\ud800"])
@pytest.mark.parametrize("template", ["{url}", "https://h.example/{url}"])
def test_half_a_character_in_an_address_costs_that_row_alone(lake, make_table_corpus, write_lines, address, template):
    file = write_lines(
        {"url": "https://a.example/1", "t": "half \ud800", "text": PROSE.format(n=1)},
        {"url": address, "t": "whole", "text": PROSE.format(n=2)},
    )
    (published,) = extract_days(make_table_corpus(file, columns=Columns(url=template, title="t")), [DAY], lake)
    assert published.manifest["rows"] == {"input": 2, "kept": 1, "dropped": {}, "quarantined": {"bad_url": 1}}
    (row,) = rows(published, "quarantine")
    assert row["payload"] == PROSE.format(n=2).encode()
    assert row["url"] == address.replace("\ud800", "\\ud800")
    assert "\\ud800" in row["detail"]


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz"])
def test_a_line_without_end_costs_that_row_alone_and_no_memory(lake, tmp_path, make_table_corpus, ending):
    good = [json.dumps({"url": f"https://a.example/{n}", "text": PROSE.format(n=n)}).encode() + b"\n" for n in (1, 3)]
    endless = b'{"url": "https://a.example/2", "text": "' + b"word " * 4_000_000 + b'"}\n'
    file = tmp_path / f"rows.{ending}"
    file.write_bytes((gzip.compress if ending.endswith("gz") else bytes)(good[0] + endless + good[1]))
    corpus = make_table_corpus(file).model_copy(update={"limits": Limits(max_page_bytes=100_000)})
    tracemalloc.start()
    (published,) = extract_days(corpus, [DAY], lake)
    assert tracemalloc.get_traced_memory()[1] < 15_000_000
    tracemalloc.stop()
    assert [page["url"][-1] for page in rows(published, "pages")] == ["1", "3"]
    (row,) = rows(published, "quarantine")
    assert (row["cause"], row["warc_offset"], row["payload"]) == ("too_large", 2, endless[:65_536])
    assert f"row 2 is a line of {len(endless)} bytes" in row["detail"]


@pytest.mark.parametrize("kind", ["timestamp", "date"])
def test_a_parquet_table_brings_its_dates_in_its_own_types(lake, tmp_path, make_table_corpus, kind):
    when = dt.datetime(2026, 10, 2, 6) if kind == "timestamp" else dt.date(2026, 10, 2)
    file = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist([{"url": "https://a.example/1", "text": PROSE, "at": when}]), file)
    corpus = make_table_corpus(file, columns=Columns(date="at"), end=dt.date(2026, 10, 2))
    (published,) = extract_days(corpus, [dt.date(2026, 10, 2)], lake)
    assert published.manifest["rows"]["kept"] == 1


def test_a_selection_without_rows_and_a_damaged_row_publish_nothing(lake, make_table_corpus, write_lines):
    file = write_lines({"url": "https://a.example/1", "text": PROSE, "lang": "en"})
    with pytest.raises(LakeError, match=r"the file holds no row with lang = 'fr'; correct source\.where"):
        extract_days(make_table_corpus(file, where={"lang": "fr"}), [DAY], lake)
    file.write_text(file.read_text() + '{"url": "https://a.example/2", "te')
    with pytest.raises(LakeError, match=rf"{re.escape(str(file))}: row 2: no JSON"):
        extract_days(make_table_corpus(file), [DAY], lake)
    assert not lake.children("corpora/rows/pages")


def test_documents_of_a_table_pass_the_same_rules_and_gate_as_pages_unless_they_are_switched_off(
    lake, make_table_corpus, write_lines
):
    texts = {"short": "Too short to keep.", "spam": "Buy now and save. " * 60, "1": PROSE.format(n=1)}
    texts |= {"copy": texts["1"].upper()} | {str(n): PROSE.format(n=n) * 2 for n in (2, 31)}
    file = write_lines(*({"url": f"https://{k}.example/", "text": t} for k, t in texts.items()))

    def reasons(documents: DocumentRules) -> dict[str, str]:
        corpus = make_table_corpus(file, documents=documents)
        extract_days(corpus, [DAY], lake)
        published = build_documents(corpus, lake)
        found = published.manifest["rows"]
        assert found["input"] == 6 == found["kept"] + sum(found["dropped"].values())
        assert gate_documents(corpus, lake, documents=published).dataset == "corpora/rows/gate"
        return {row["url"]: row["rule"] for row in rows(published, "document_drops")}

    found = reasons(DocumentRules(min_words=20))
    assert found["https://short.example/"] == "gopher_quality.min_words"
    assert found["https://spam.example/"].startswith("gopher_repetition.")
    fewer = reasons(DocumentRules(min_words=20, disabled=["gopher_quality.min_words"]))
    assert fewer["https://short.example/"] != "gopher_quality.min_words"
    assert reasons(DocumentRules(disabled=["all"])) == {}


def test_the_table_of_cpython_is_of_the_standard_library_that_is_asked(tmp_path, state, monkeypatch):
    texts = {}
    for name in ("one", "other"):
        functions = (f'def f{n}():\n    """{PROSE.format(n=n)} In the {name} library."""\n' for n in range(1000))
        (tmp_path / name).mkdir()
        (tmp_path / name / "told.py").write_text("".join(functions))
        monkeypatch.setattr(sysconfig, "get_path", lambda place, name=name: str(tmp_path / name))
        texts[name] = cpython_table().read_text()
    assert "In the one library" in texts["one"]
    assert "In the other library" in texts["other"]


def test_texts_are_cut_into_pieces_that_together_are_the_text(lake, make_table_corpus, write_lines):
    long = PROSE.format(n=7).split()
    file = write_lines({"id": "a", "text": " ".join(long)}, {"id": "b", "text": "one  two"}, {"id": "c", "text": " "})
    columns = Columns(url="https://rows.example/{id}/{piece}", pieces=3)
    days = extract_days(make_table_corpus(file, columns=columns), [DAY], lake)
    pages = {row["url"].removeprefix("https://rows.example/"): row for row in rows(days[0], "pages")}
    assert sorted(pages) == ["a/1", "a/2", "a/3", "b/1", "b/2"]
    assert [pages[f"a/{n}"]["text"].split() for n in (1, 2, 3)] == [long[:26], long[26:52], long[52:]]
    assert [pages[f"b/{n}"]["text"] for n in (1, 2)] == ["one", "two"]
    assert {name: row["warc_offset"] for name, row in pages.items()} == {
        "a/1": 1,
        "a/2": 2,
        "a/3": 3,
        "b/1": 4,
        "b/2": 5,
    }
    (whole,) = rows(days[0], "quarantine")
    assert (whole["warc_offset"], whole["cause"]) == (7, "no_text")


def test_a_tables_own_pieces_are_not_taken_for_ours(lake, make_table_corpus, write_lines):
    file = write_lines(*({"piece": n, "text": PROSE.format(n=n)} for n in (4, 9)))
    whole = make_table_corpus(file, columns=Columns(url="https://rows.example/{piece}"))
    (day,) = extract_days(whole, [DAY], lake)
    assert {row["url"] for row in rows(day, "pages")} == {"https://rows.example/4", "https://rows.example/9"}
    cut = make_table_corpus(file, columns=Columns(url="https://rows.example/{piece}", pieces=2))
    with pytest.raises(LakeError, match="the table has a column 'piece' of its own; rename it"):
        extract_days(cut, [DAY], lake)


def test_pieces_need_addresses_of_their_own_and_whole_texts_keep_their_datasets():
    with pytest.raises(ValueError, match=r"with pieces: 2 each piece needs its own address; write \{piece\}"):
        Columns(url="https://rows.example/{id}", pieces=2)
    assert "pieces" not in Columns().model_dump() and Columns(url="{id}/{piece}", pieces=2).model_dump()["pieces"] == 2
