"""Days as datasets: conservation, the same bytes however they are extracted, and death at any write."""

from __future__ import annotations

import datetime as dt
import os
import signal
import sys
import time

import pyarrow.parquet as pq
import pytest

from palimpsest.config import Extraction, load_corpus
from palimpsest.ingest import extract, langid, stage
from palimpsest.ingest.day import Day
from palimpsest.ingest.pages import QUARANTINE, pages_schema
from palimpsest.ingest.stage import extract_days
from palimpsest.lake import Lake, LakeError, NotPublished
from tests.palimpsest.ingest.conftest import PAGE

DAYS = [dt.date(2026, 10, d) for d in range(1, 29)]


def rows(published, table):
    return pq.read_table(published.file(f"{table}.parquet")).to_pylist()


def test_the_sample_becomes_28_days_and_a_day_alone_gives_the_same_bytes(lake, tmp_path):
    corpus = load_corpus("sample")
    together = extract_days(corpus, DAYS, lake)
    assert [p.dataset for p in together] == [f"corpora/sample/pages/{day}" for day in DAYS]
    assert sum(p.manifest["rows"]["input"] for p in together) == 92
    other = Lake(tmp_path / "other")
    for number in (0, 13, 27):
        (alone,) = extract_days(corpus, [DAYS[number]], other)
        assert alone.manifest == together[number].manifest
    assert [p.uri for p in extract_days(corpus, DAYS, lake)] == [p.uri for p in together]


def test_a_corpus_with_days_of_another_year_is_told_to_set_its_start_and_end(
    lake, write_warc, make_corpus, response, caplog
):
    old = response("https://a.example/old", PAGE, "2008-04-30T12:00:00Z")
    with pytest.raises(LakeError, match="1 of 1 pages, captured 2008-04-30 to 2008-04-30, .* set start and end"):
        extract_days(make_corpus(write_warc([old])), DAYS[:1], lake)
    new = response("https://a.example/new", PAGE, "2026-10-02T12:00:00Z")
    both = make_corpus(write_warc([old, new]))
    assert [p.manifest["rows"]["kept"] for p in extract_days(both, DAYS[:2], lake)] == [0, 1]
    assert "1 of 2 pages, captured 2008-04-30 to 2026-10-02, lie outside" in caplog.text


def test_a_page_carries_what_the_contract_says(lake, write_warc, make_corpus, response):
    body = "<main><p>Ask jo@mail.example or call +44 1632 960571 about the café. It is open all day.</p></main>"
    warc = write_warc([response("https://A.example/x", body.encode("cp1252"), "2026-10-02T23:59:59Z")])
    (published,) = extract_days(make_corpus(warc), [DAYS[1]], lake)
    (page,) = rows(published, "pages")
    assert page["text"] == "Ask <EMAIL> or call <PHONE> about the café. It is open all day."
    assert (page["pii_email"], page["pii_phone"], page["pii_ip"]) == (1, 1, 0)
    assert (page["site"], page["day"], page["language"]) == ("a.example", DAYS[1], "en")
    assert page["fetched_at"] == dt.datetime(2026, 10, 2, 23, 59, 59, tzinfo=dt.UTC)
    assert (page["warc_file"], page["warc_offset"], page["raw_bytes"]) == (str(warc), 0, len(body))
    assert len(page["page_id"]) == 16


def test_every_record_that_is_no_page_is_quarantined_with_its_cause(lake, write_warc, make_corpus, response, record):
    cases = {
        "http_status": response("https://a.example/404", status="404 Not Found"),
        "not_html": response("https://a.example/pdf", content_type="application/pdf"),
        "binary": response("https://a.example/png", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9),
        "too_large": response("https://a.example/big", b"<p>word</p>" * 5_000_000),
        "too_deep": response("https://a.example/deep", b"<div>" * 100_000),
        "empty": response("https://a.example/empty", b""),
        "no_text": response("https://a.example/blank", b"<html><body></body></html>"),
        "bad_url": response("nowhere"),
        "bad_http": record("response", b"no http here", "https://a.example/raw", media="application/http"),
        "bad_date": response("https://a.example/undated", date="yesterday"),
    }
    kept = response("https://a.example/good")
    broken_body = "https://a.example/gzip"
    cut = response(broken_body, b"no gzip", extra="Content-Encoding: gzip\r\n")
    others = [record("request", b"GET / HTTP/1.1\r\n\r\n", "https://a.example/"), record("metadata", b"x: y")]
    warc = write_warc([kept, *cases.values(), cut, kept, *others])
    (published,) = extract_days(make_corpus(warc), DAYS[:1], lake)
    found = {row["cause"]: row for row in rows(published, "quarantine") if row["url"] != broken_body}
    assert set(found) == {*cases, "duplicate_record"}
    found["bad_gzip"] = next(row for row in rows(published, "quarantine") if row["url"] == broken_body)
    assert published.manifest["rows"]["input"] == 13
    assert published.manifest["rows"]["kept"] == 1
    assert published.extra["records"] == {"metadata": 1, "request": 1, "response": 13}
    assert found["too_large"]["payload"] == (b"<p>word</p>" * 6_000)[:65_536]
    assert "limits.max_page_bytes" in found["too_large"]["detail"]
    assert "nested 100000 deep" in found["too_deep"]["detail"]
    assert found["too_deep"]["payload"] == b"<div>" * 100_000  # all of a page that only a look at it explains
    assert found["bad_http"]["payload"] == b"no http here"
    assert found["bad_gzip"]["cause"] == "bad_http"
    assert found["bad_gzip"]["payload"].endswith(b"no gzip")
    assert found["http_status"]["http_status"] == 404


def test_the_bytes_are_the_same_however_many_processes_examine_the_pages(
    tmp_path, write_warc, make_corpus, response, monkeypatch
):
    examine = stage.examine

    def poisoned(payload, *rest):
        if b"poison" in payload:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.2 if b"Page 3" in payload else 0)  # the others overtake it
        return examine(payload, *rest)

    monkeypatch.setattr(stage, "examine", poisoned)
    bodies = [PAGE.replace(b"A page", b"Page %d" % n) if n % 7 else b"<p>poison</p>" for n in range(24)]
    warc = write_warc([response(f"https://a.example/{n % 20}", body) for n, body in enumerate(bodies)])
    found = {}
    for count in (1, 3):
        monkeypatch.setenv("PALIMPSEST_EXTRACTION_PROCESSES", str(count))
        (published,) = extract_days(make_corpus(warc), DAYS[:1], Lake(tmp_path / f"lake-{count}"))
        files = {table: published.file(f"{table}.parquet").read_bytes() for table in ("pages", "quarantine")}
        found[count] = published.manifest, files
    assert found[1] == found[3]
    assert found[1][0]["rows"]["quarantined"] == {"crashed": 4, "duplicate_record": 2}


@pytest.mark.parametrize(("poison", "cause"), [("sleep", "timeout"), ("kill", "crashed"), ("raise", "crashed")])
def test_a_poison_page_neither_hangs_nor_kills_the_stage(
    lake, write_warc, make_corpus, response, monkeypatch, poison, cause
):
    examine = stage.examine

    def poisoned(payload, *rest):
        if b"poison" in payload:
            if poison == "sleep":
                time.sleep(60)
            elif poison == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RecursionError("too much")
        return examine(payload, *rest)

    monkeypatch.setattr(stage, "examine", poisoned)
    warc = write_warc([response(f"https://a.example/{n}", *([b"<p>poison</p>"] if n == 1 else [])) for n in range(3)])
    (published,) = extract_days(make_corpus(warc, page_timeout_s=3), DAYS[:1], lake)
    assert [row["url"] for row in rows(published, "pages")] == ["https://a.example/0", "https://a.example/2"]
    assert [row["cause"] for row in rows(published, "quarantine")] == [cause]


def test_the_depth_of_a_page_is_bounded_as_the_corpus_says_and_looked_at_in_the_worker(
    lake, write_warc, make_corpus, response, monkeypatch
):
    nested = [b"<div>" * depth + PAGE + b"</div>" * depth for depth in (30, 50)]
    warc = write_warc([response(f"https://a.example/{n}", body) for n, body in enumerate(nested)])
    look, at_work = extract.depth_at_most, os.getpid()

    def only_in_the_worker(payload, limit):
        assert os.getpid() != at_work
        return look(payload, limit)

    monkeypatch.setattr(extract, "depth_at_most", only_in_the_worker)
    (published,) = extract_days(make_corpus(warc, max_depth=40), DAYS[:1], lake)
    assert [row["url"] for row in rows(published, "pages")] == ["https://a.example/0"]
    (row,) = rows(published, "quarantine")
    assert (row["cause"], row["detail"][:14]) == ("too_deep", "nested 51 deep")


@pytest.mark.parametrize(
    ("record", "cause"),
    [(("http://[::1/page",), "bad_url"), (("https://a.example/", PAGE, "0001-01-01T00:00:00+05:00"), "bad_date")],
    ids=["url", "date"],
)
def test_an_address_or_date_that_python_refuses_does_not_end_the_stage(
    lake, write_warc, make_corpus, response, record, cause
):
    warc = write_warc([response(*record), response("https://a.example/good")])
    (published,) = extract_days(make_corpus(warc), DAYS[:1], lake)
    assert published.manifest["rows"]["quarantined"] == {cause: 1}
    assert published.manifest["rows"]["kept"] == 1


def test_a_day_without_records_is_published_empty(lake, write_warc, make_corpus, response):
    warc = write_warc([response("https://a.example/")])
    published = extract_days(make_corpus(warc), DAYS[4:6], lake)
    assert [p.manifest["rows"]["input"] for p in published] == [0, 0]
    assert rows(published[0], "pages") == rows(published[1], "quarantine") == []


def test_a_day_outside_the_corpus_is_refused(lake, write_warc, make_corpus, response):
    warc = write_warc([response("https://a.example/")])
    with pytest.raises(LakeError, match=r"crawl\.yaml: 2026-11-01 is outside the corpus' days 2026-10-01"):
        extract_days(make_corpus(warc), [dt.date(2026, 11, 1)], lake)


def test_a_truncated_file_publishes_nothing(lake, write_warc, make_corpus, response):
    warc = write_warc([response(f"https://a.example/{n}") for n in range(5)])
    warc.write_bytes(warc.read_bytes()[:-20])
    with pytest.raises(LakeError, match="truncated"):
        extract_days(make_corpus(warc), DAYS[:2], lake)
    assert lake.children("corpora/crawl/pages") == []
    assert not [f for f in os.listdir(lake.root) if f.endswith(".parquet")]


def test_new_files_and_new_limits_are_new_versions(lake, write_warc, make_corpus, response):
    warc = write_warc([response("https://a.example/")])
    (first,) = extract_days(make_corpus(warc), DAYS[:1], lake)
    (limited,) = extract_days(make_corpus(warc, max_page_bytes=50), DAYS[:1], lake)
    assert limited.manifest["rows"]["quarantined"] == {"too_large": 1}
    write_warc([response("https://a.example/"), response("https://a.example/2")])
    (grown,) = extract_days(make_corpus(warc), DAYS[:1], lake)
    assert len({first.uri, limited.uri, grown.uri}) == 3


@pytest.mark.parametrize(
    ("profile", "package", "anew"),
    [("fast", "resiliparse", True), ("best", "trafilatura", True), ("fast", "trafilatura", False)],
)
def test_another_version_of_an_extractor_extracts_anew_what_it_decided(
    lake, write_warc, make_corpus, response, monkeypatch, profile, package, anew
):
    corpus = make_corpus(write_warc([response("https://a.example/")]))
    corpus = corpus.model_copy(update={"extraction": Extraction(profile=profile)})
    (before,) = extract_days(corpus, DAYS[:1], lake)
    really = stage.version
    monkeypatch.setattr(stage, "version", lambda name: "99.0" if name == package else really(name))
    (after,) = extract_days(corpus, DAYS[:1], lake)
    assert (after.uri != before.uri) == anew


def test_rows_leave_memory_by_what_they_hold_too(tmp_path, monkeypatch):
    monkeypatch.setattr("palimpsest.ingest.day.GROUP_SIZE", 10_000)
    day = Day(tmp_path / "day", pages_schema("resiliparse"))
    for number, size in enumerate((10, 4_000, 6_000, 12_000, 10)):
        row = dict.fromkeys(pages_schema("resiliparse").names) | {"page_id": str(number), "text": "x" * size}
        day.keep(row)
        day.quarantine(dict.fromkeys(QUARANTINE.names) | {"cause": "empty", "payload": b"x" * size})
    day.close()
    for table in ("pages", "quarantine"):
        about = pq.read_metadata(tmp_path / "day" / f"{table}.parquet")
        assert [about.row_group(n).num_rows for n in range(about.num_row_groups)] == [3, 1, 1]


@pytest.mark.parametrize("charset", ["utf-8", "utf-16", "utf-16-le", "utf-16-be"])
def test_no_charset_hides_how_deep_a_page_is(lake, write_warc, make_corpus, response, charset):
    page = ("<html>" + "<div>" * 5_000 + PAGE.decode()).encode(charset)
    warc = write_warc([response("https://a.example/", page, content_type=f"text/html; charset={charset}")])
    (published,) = extract_days(make_corpus(warc), DAYS[:1], lake)
    (row,) = rows(published, "quarantine")
    assert (row["cause"], row["detail"][:13]) == ("too_deep", "nested 5001 d")


def test_a_text_with_a_bad_byte_is_a_page_that_counts_it(lake, write_warc, make_corpus, record):
    text = "The harbour wall was finished in the spring of that year, and the boats that had waited came in."
    block = text.encode() + b" caf\xe9 "
    (published,) = extract_days(
        make_corpus(write_warc([record("conversion", block, "https://a.example/")])), DAYS[:1], lake
    )
    (page,) = rows(published, "pages")
    assert (page["text"], page["replacement_characters"]) == (text + " caf\ufffd", 1)


def test_death_at_any_write_leaves_nothing_half_published(tmp_path, monkeypatch, write_warc, make_corpus, response):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # what the killed leave behind
    langid.identify("loaded once, here, for all the forks")
    warc = write_warc([response(f"https://a.example/{n}", date=f"2026-10-0{1 + n % 2}T08:00:00Z") for n in range(4)])
    corpus, days = make_corpus(warc), DAYS[:2]
    reference = [p.manifest for p in extract_days(corpus, days, Lake(tmp_path / "reference"))]
    deaths = 0
    while True:
        lake = Lake(tmp_path / f"lake-{deaths}")
        if not _die_at_event(deaths, lake, corpus, days):
            break
        for day in days:
            try:
                survivor = lake.latest(f"corpora/crawl/pages/{day}")
            except NotPublished:
                continue
            lake.verify(survivor)
        assert [p.manifest for p in extract_days(corpus, days, lake)] == reference, f"after death {deaths}"
        deaths += 1
    assert deaths > 20


def _die_at_event(number: int, lake: Lake, corpus, days) -> bool:
    """Run the stage in a child that is killed at its n-th change to the lake; False if it came to its end first."""
    child = os.fork()
    if child == 0:
        seen = 0

        def kill(event: str, arguments: tuple) -> None:
            nonlocal seen
            if event in {"open", "os.mkdir", "os.rename"} and str(arguments[0]).startswith(str(lake.base)):
                if seen == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                seen += 1

        sys.addaudithook(kill)
        try:
            extract_days(corpus, days, lake)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)
