"""Crawls that a local server serves as Common Crawl's does: every file and record comes whole, or it is an error."""

from __future__ import annotations

import base64
import datetime as dt
import gzip
import hashlib
import io
import json
from collections.abc import Sequence
from urllib.parse import parse_qs, urlsplit

import fsspec
import pyarrow.parquet as pq
import pytest
from fastwarc.warc import ArchiveIterator, WarcRecordType

from palimpsest.config import CommonCrawl, ConfigError, Corpus, Query, Segments, Source, Transfer, load_corpus
from palimpsest.fetch.stage import fetch_corpus
from palimpsest.fetch.wanted import BATCH
from palimpsest.fetch.warcfile import record, sha1
from palimpsest.ingest.stage import extract_days
from palimpsest.lake import REPOSITORY, Corrupt, Lake, LakeError, NotPublished
from tests.palimpsest.fetch.conftest import Fault

CRAWL, LATER = "CC-MAIN-2024-22", "CC-MAIN-2024-26"
FILES = {
    CRAWL: ["commoncrawl_whirlwind.warc.gz", "dolma_sample-0000.warc.gz"],
    LATER: ["dolma_sample-0001.warc.gz"],
}
PAGES = {"commoncrawl_whirlwind.warc.gz": 1, "dolma_sample-0000.warc.gz": 22, "dolma_sample-0001.warc.gz": 15}


def path_of(crawl: str, name: str) -> str:
    return f"crawl-data/{crawl}/segments/1/{'wet' if '.wet.' in name else 'warc'}/{name}"


@pytest.fixture
def crawl(site, genuine):
    """The site, with two crawls made of real files, their lists and their index."""
    for crawl, names in FILES.items():
        for name in names:
            site.files[path_of(crawl, name)] = (genuine / name).read_bytes()
        listed = "".join(f"{path_of(crawl, name)}\n" for name in names)
        site.files[f"crawl-data/{crawl}/warc.paths.gz"] = gzip.compress(listed.encode())
        site.pages[f"{crawl}-index"] = lambda query, crawl=crawl: answer(site, crawl, query)
    return site


def answer(site, crawl: str, query: str, names: Sequence[str] = ()) -> tuple[int, bytes]:
    """What the index of a crawl says: JSON lines of its captures, two to a page before they are filtered."""
    asked = parse_qs(query)
    paths = [path_of(crawl, name) for name in names or FILES[crawl]]
    lines = [line for path in paths for line in indexed(site.files[path], path)]
    [domain] = asked["url"]
    lines = [line for line in lines if f".{urlsplit(line['url']).hostname}".endswith(f".{domain}")]
    if "showNumPages" in asked and lines:
        return 200, json.dumps({"pages": (len(lines) + 1) // 2, "pageSize": 1, "blocks": 1}).encode()
    start = 2 * int(asked.get("page", "0")[0])
    lines = lines[start : start + 2]
    for condition in asked.get("filter", []):
        key, value = condition.removeprefix("=").split(":", 1)
        lines = [line for line in lines if line[key] == value]
    if not lines:
        return 404, json.dumps({"message": f"No Captures found for: {domain}"}).encode()
    return 200, "".join(f"{json.dumps(line)}\n" for line in lines).encode()


def indexed(content: bytes, filename: str):
    found = [(r.stream_pos, r) for r in map(frozen, ArchiveIterator(io.BytesIO(content), parse_http=True))]
    ends = [offset for offset, _ in found[1:]] + [len(content)]
    for (offset, one), end in zip(found, ends, strict=True):
        if one.record_type == WarcRecordType.response:
            yield {
                "url": one.headers["WARC-Target-URI"].strip("<>"),
                "mime": one.http_content_type,
                "status": str(one.http_headers.status_code),
                "digest": one.headers["WARC-Payload-Digest"].removeprefix("sha1:"),
                "length": str(end - offset),
                "offset": str(offset),
                "filename": filename,
            }


def frozen(record):
    record.freeze()
    return record


@pytest.fixture
def corpus(crawl, tmp_path):
    """Changes of the key ``commoncrawl`` → the corpus."""

    def make(crawls=(CRAWL,), transfer=None, **keys) -> Corpus:
        chosen = {"segments": Segments(count=2)} | keys
        wanted = {"crawls": list(crawls), "server": crawl.url, "index": crawl.url} | chosen
        return Corpus(
            name="crawled",
            description="Made for a test.",
            source=Source(
                kind="commoncrawl",
                commoncrawl=CommonCrawl(**wanted),
                transfer=transfer or Transfer(connections=2, attempts=3, backoff_s=0.01, stall_s=2),
            ),
            start=dt.date(2024, 1, 1),
            end=dt.date(2024, 12, 31),
            path=tmp_path / "crawled.yaml",
        )

    return make


def days_of(published) -> list[dt.date]:
    captures = [published.lake.open(p["uri"]) for p in published.manifest["parents"]]
    return sorted({dt.date.fromisoformat(day) for c in captures for day in c.extra["days"]})


def pages(corpus, lake) -> list[dict]:
    days = extract_days(corpus, days_of(fetch_corpus(corpus, lake)), lake)
    for day in days:
        rows = day.manifest["rows"]
        assert rows["input"] == rows["kept"] + sum(rows["quarantined"].values())
    return [row for day in days for row in pq.read_table(day.file("pages.parquet")).to_pylist()]


def test_files_of_a_crawl_become_pages_and_are_fetched_once(crawl, corpus, lake):
    found = pages(corpus(), lake)
    assert len(found) == 23
    assert {row["warc_file"] for row in found} == {path_of(CRAWL, name) for name in FILES[CRAWL]}
    asked = len(crawl.asked)
    assert asked == 3
    assert pages(corpus(), lake) == found
    assert len(crawl.asked) == asked
    first = pages(corpus(segments=Segments(first=1, count=1)), lake)
    assert {row["warc_file"] for row in first} == {path_of(CRAWL, FILES[CRAWL][1])}
    assert len(crawl.asked) == asked + 1  # the list alone: the file is there


def test_bad_weather_changes_nothing_but_the_time(crawl, corpus, lake):
    calm = {row["page_id"]: row for row in pages(corpus(), lake)}
    for name in FILES[CRAWL]:
        crawl.faults[path_of(CRAWL, name)] = [Fault(cut=5_000), Fault(status=503), Fault(truncate=9_000)]
    crawl.faults[f"crawl-data/{CRAWL}/warc.paths.gz"] = [Fault(cut=20), Fault(truncate=30)]
    other = Lake(f"{lake.root}-other")
    patient = Transfer(connections=2, attempts=6, backoff_s=0.01, stall_s=2)
    assert {row["page_id"]: row for row in pages(corpus(transfer=patient), other)} == calm


def test_a_missing_file_is_an_error_and_the_others_are_kept(crawl, corpus, lake):
    path = path_of(CRAWL, FILES[CRAWL][1])
    content = crawl.files.pop(path)
    with pytest.raises(LakeError, match=rf"(?s)crawled\.yaml: 1 of 2 files could not be fetched.*{path}: .*HTTP 404"):
        fetch_corpus(corpus(), lake)
    with pytest.raises(NotPublished, match="source files are not in lake .* palimpsest fetch crawled"):
        extract_days(corpus(), [dt.date(2024, 5, 18)], lake)
    crawl.files[path] = content
    assert len(pages(corpus(), lake)) == 23
    assert len(crawl.ranges(path_of(CRAWL, FILES[CRAWL][0]))) == 1


def test_a_run_that_lost_its_connection_is_gone_on_from(crawl, corpus, lake):
    path = path_of(CRAWL, FILES[CRAWL][1])
    crawl.faults[path] = [Fault(cut=100_000), *[Fault(status=500)] * 3]
    with pytest.raises(ConnectionError, match="1 of 2 files could not be fetched"):
        fetch_corpus(corpus(), lake)
    assert len(pages(corpus(), lake)) == 23
    assert crawl.ranges(path)[-1] == "bytes=100000-"


def test_a_crawl_added_later_leaves_the_pages_of_the_first_alone(crawl, corpus, lake):
    one = corpus(segments=Segments(count=1))
    days = days_of(fetch_corpus(one, lake))
    before = [p.uri for p in extract_days(one, days, lake)]
    both = corpus([CRAWL, LATER], segments=Segments(count=1))
    with pytest.raises(NotPublished, match="'source' has changed"):
        extract_days(both, days, lake)
    assert len(days_of(fetch_corpus(both, lake))) > len(days)
    assert [p.uri for p in extract_days(both, days, lake)] == before


def test_a_crawl_added_later_leaves_the_captures_of_the_first_alone(crawl, corpus, lake):
    """More of them than are kept in one file."""
    body = b"<p>The harbour wall was finished in the spring of that year.</p>"
    block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + body
    for at, (of, month, count) in enumerate([(CRAWL, 5, BATCH + 3), (LATER, 6, 2)]):
        when = dt.datetime(2024, month, 18, tzinfo=dt.UTC)
        urls = [f"https://many.example/{at}/{n}" for n in range(count)]
        crawl.files[path_of(of, "many.warc.gz")] = b"".join(
            record("response", url, when, block, WARC_Payload_Digest=sha1(body)) for url in urls
        )
        listed = list(indexed(crawl.files[path_of(of, "many.warc.gz")], path_of(of, "many.warc.gz")))
        body_of = "".join(f"{json.dumps(line)}\n" for line in listed).encode()
        crawl.pages[f"{of}-index"] = lambda query, body=body_of: (
            200, b'{"pages": 1}' if "showNumPages" in query else body
        )  # fmt: skip
    query = {"segments": None, "query": Query(domains=["many.example"])}
    receipt = fetch_corpus(corpus(**query), lake)
    before = [p.uri for p in extract_days(corpus(**query), [dt.date(2024, 5, 18)], lake)]
    crawl.asked.clear()
    both = corpus([CRAWL, LATER], **query)
    later = fetch_corpus(both, lake)
    assert crawl.ranges(path_of(CRAWL, "many.warc.gz")) == []
    assert len(crawl.ranges(path_of(LATER, "many.warc.gz"))) == 2
    assert later.manifest["parents"][:2] == receipt.manifest["parents"]
    assert [p.uri for p in extract_days(both, [dt.date(2024, 5, 18)], lake)] == before


def test_a_fetched_file_that_was_changed_or_lost_is_an_error_when_it_is_read(corpus, lake):
    receipt = fetch_corpus(corpus(segments=Segments(count=1)), lake)
    [capture] = [lake.open(parent["uri"]) for parent in receipt.manifest["parents"]]
    file, [day] = capture.file(FILES[CRAWL][0]), days_of(receipt)
    content = file.read_bytes()
    for spoil in (lambda: file.write_bytes(content[:-1] + b"x"), file.unlink):
        spoil()
        with pytest.raises(Corrupt, match=rf"{file.name} no longer matches its manifest; delete .* and fetch it again"):
            extract_days(corpus(segments=Segments(count=1)), [day], lake)


def test_more_files_than_a_crawl_has_are_an_error(corpus, lake):
    with pytest.raises(LakeError, match=r"segments: CC-MAIN-2024-22 has 2 warc files, none beyond number 1; lower"):
        fetch_corpus(corpus(segments=Segments(first=1, count=2)), lake)


def test_days_that_no_file_has_are_an_error(corpus, lake):
    far = corpus().model_copy(update={"start": dt.date(2001, 1, 1), "end": dt.date(2001, 1, 1)})
    fetch_corpus(far, lake)
    with pytest.raises(LakeError, match="captured 2024-.* outside the corpus' days 2001-01-01"):
        extract_days(far, [far.start], lake)


def test_plain_text_of_a_crawl_becomes_pages(crawl, corpus, lake, genuine):
    name = "commoncrawl_whirlwind.warc.wet.gz"
    crawl.files[path_of(CRAWL, name)] = (genuine / name).read_bytes()
    crawl.files[f"crawl-data/{CRAWL}/wet.paths.gz"] = gzip.compress(path_of(CRAWL, name).encode())
    [page] = pages(corpus(records="wet", segments=Segments(count=1)), lake)
    assert page["url"] == "https://an.wikipedia.org/wiki/Escopete"
    assert "Escopete" in page["text"] and "<" not in page["text"][:200]


def test_captures_of_a_domain_are_the_same_pages_as_in_the_whole_files(crawl, corpus, lake):
    whole = {row["page_id"]: row for row in pages(corpus(), lake)}
    path = path_of(CRAWL, FILES[CRAWL][1])
    crawl.faults[path] = [Fault(), Fault(cut=9), Fault(status=503), Fault(change=lambda b: b"x" * len(b))]
    crawl.faults[f"{CRAWL}-index"] = [Fault(truncate=9), Fault(), Fault(truncate=50)]
    queried = pages(corpus(segments=None, query=Query(domains=["github.io", "wikipedia.org"])), lake)
    expected = [row for row in whole.values() if row["site"].endswith((".github.io", ".wikipedia.org"))]
    assert len(expected) == 11
    where = ("warc_file", "warc_offset")
    assert {r["page_id"]: {k: v for k, v in r.items() if k not in where} for r in queried} == {
        r["page_id"]: {k: v for k, v in r.items() if k not in where} for r in expected
    }
    assert all(asked.startswith("bytes=") for asked in crawl.ranges(path)[1:])


@pytest.mark.parametrize("fault", [{"cut": 9}, {"status": 503}, {"status": 429}, {"announce": 5_000}, {"drip": "body"},
                                   {"drip": "headers"}, {"truncate": 30}])  # fmt: skip
def test_an_index_that_misbehaves_once_leaves_no_capture_out(crawl, corpus, lake, fault):
    query = {"segments": None, "query": Query(domains=["wikipedia.org"])}
    crawl.faults[f"{CRAWL}-index"] = [Fault(**fault), Fault(), Fault(**fault)]
    hasty = Transfer(connections=2, attempts=3, backoff_s=0.01, stall_s=0.5)
    assert len(pages(corpus(**query, transfer=hasty), lake)) == 1
    assert len(crawl.ranges(f"{CRAWL}-index")) == 4  # how many pages there are, and the one page: each asked for twice


def test_a_page_of_the_index_without_a_wanted_capture_does_not_end_its_domain(crawl, corpus, lake):
    path = path_of(CRAWL, "with_errors.warc.gz")
    gone = b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\n\r\n<p>nothing here</p>"
    when = dt.datetime(2024, 5, 18, tzinfo=dt.UTC)
    records = [
        record("response", f"https://wikipedia.org/{n}", when, gone, WARC_Payload_Digest=sha1(b"<p>nothing here</p>"))
        for n in range(2)
    ]
    crawl.files[path] = b"".join(records)
    crawl.pages[f"{CRAWL}-index"] = lambda query: answer(crawl, CRAWL, query, ["with_errors.warc.gz", FILES[CRAWL][0]])
    [page] = pages(corpus(segments=None, query=Query(domains=["wikipedia.org"])), lake)
    assert page["url"] == "https://an.wikipedia.org/wiki/Escopete"
    assert len(crawl.ranges(f"{CRAWL}-index")) == 3  # how many pages there are, one with nothing but errors, the other


@pytest.mark.parametrize("body", [b"<html>404 (nginx)</html>", b'{"message": "no such index"}', b"[]", b""])
def test_a_404_that_is_not_the_indexs_own_leaves_no_capture_out(crawl, corpus, lake, body):
    """That of a proxy, for the second of two pages."""

    def index(query):
        return (404, body) if "page=1" in query else answer(crawl, CRAWL, query)

    crawl.pages[f"{CRAWL}-index"] = index
    with pytest.raises(LakeError, match=r"page=1: HTTP 404: the server does not give it out"):
        pages(corpus(segments=None, query=Query(domains=["github.io"])), lake)


@pytest.mark.parametrize("body", [b'{"pages": 1000000000}', b"[" * 100_000])
def test_an_index_without_end_is_an_error(crawl, corpus, lake, body):
    crawl.pages[f"{CRAWL}-index"] = lambda query: (200, body) if "showNumPages" in query else (404, b"{}")
    with pytest.raises(LakeError, match="no readable list of files or captures, twice"):
        fetch_corpus(corpus(segments=None, query=Query(domains=["wikipedia.org"])), lake)


def test_a_bomb_is_no_list_and_no_capture(crawl, corpus, lake, monkeypatch):
    monkeypatch.setattr("palimpsest.fetch.commoncrawl.LARGEST_LIST", 1_000_000)
    bomb = gzip.compress(bytes(30_000_000))
    crawl.files[f"crawl-data/{CRAWL}/warc.paths.gz"] = bomb
    with pytest.raises(LakeError, match=r"no readable list .* twice: more than 1000000 bytes in it"):
        fetch_corpus(corpus(), lake)
    line = {**json.loads(answer(crawl, CRAWL, "url=wikipedia.org&page=0")[1]), "length": str(len(bomb)), "offset": "0"}
    crawl.pages[f"{CRAWL}-index"] = lambda query: (
        200, b'{"pages": 1}' if "showNumPages" in query else json.dumps(line).encode()
    )  # fmt: skip
    crawl.files[line["filename"]] = bomb
    with pytest.raises(LakeError, match="a gzip member of more than 1000000 bytes, no capture"):
        fetch_corpus(corpus(segments=None, query=Query(domains=["wikipedia.org"])), lake)


def test_a_domain_without_captures_is_named(corpus, lake):
    with pytest.raises(LakeError, match=r"domains\[1\]: CC-MAIN-2024-22 has no capture of 'nowhere.example' with mime"):
        fetch_corpus(corpus(segments=None, query=Query(domains=["wikipedia.org", "nowhere.example"])), lake)


def test_a_record_that_is_not_the_one_of_the_index_is_an_error(crawl, corpus, lake):
    names = [path_of(CRAWL, name) for name in FILES[CRAWL]]
    honest = answer(crawl, CRAWL, "url=wikipedia.org&page=0")[1]
    wrong = base64.b32encode(hashlib.sha1(b"another page").digest()).decode()
    line = {**json.loads(honest), "digest": wrong}
    crawl.pages[f"{CRAWL}-index"] = lambda query: (
        200, b'{"pages": 1}' if "showNumPages" in query else json.dumps(line).encode()
    )  # fmt: skip
    with pytest.raises(LakeError, match=rf"(?s){names[0]}.*the index has https://an.wikipedia.org.* with sha1:{wrong}"):
        fetch_corpus(corpus(segments=None, query=Query(domains=["wikipedia.org"])), lake)


def test_an_index_that_does_not_filter_is_found_out(crawl, corpus, lake):
    crawl.pages[f"{CRAWL}-index"] = lambda query: answer(crawl, CRAWL, query.replace("filter=", "ignored="))
    with pytest.raises(LakeError, match="does not filter as asked"):
        fetch_corpus(corpus(segments=None, query=Query(domains=["wikipedia.org"], mime="application/pdf")), lake)


def test_a_bucket_serves_the_same_files(crawl, corpus, lake, s3, monkeypatch):
    for name, value in {
        "AWS_ENDPOINT_URL": s3,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    bucket = f"crawl{abs(hash(lake.root))}"
    fs = fsspec.filesystem("s3", use_listings_cache=False)
    fs.mkdir(bucket)
    paths = [f"crawl-data/{CRAWL}/warc.paths.gz", *(path_of(CRAWL, name) for name in FILES[CRAWL])]
    for path in paths[:2]:
        fs.pipe_file(f"{bucket}/{path}", crawl.files[path])
    inside = {"server": f"s3://{bucket}/"}
    with pytest.raises(LakeError, match=rf"1 of 2 files[\s\S]*{paths[2]}: there is no such file"):
        fetch_corpus(corpus(**inside), lake)
    fs.pipe_file(f"{bucket}/{paths[2]}", crawl.files[paths[2]])
    assert len(pages(corpus(**inside), lake)) == 23
    domain = {"segments": None, "query": Query(domains=["wikipedia.org"])}
    assert len(pages(corpus(**inside, **domain), lake)) == 1
    assert {path for path, _ in crawl.asked} == {f"{CRAWL}-index"}


def test_the_example_is_a_valid_corpus():
    loaded = load_corpus(REPOSITORY / "docs" / "examples" / "commoncrawl.yaml")
    assert loaded.source.is_remote


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("kind: commoncrawl", "source: source kind 'commoncrawl' needs the key 'commoncrawl'"),
        ("kind: commoncrawl\n  commoncrawl: {crawls: [CC-MAIN-2024-22]}", "give one of 'segments' .* and 'query'"),
        ("kind: commoncrawl\n  commoncrawl: {crawls: [2024-22], segments: {count: 1}}", r"crawls.0: .*2024-22"),
        (
            "kind: commoncrawl\n  commoncrawl: {crawls: [CC-MAIN-2024-22], records: wet, query: {domains: [a.org]}}",
            "the index knows those of WARC files only",
        ),
        (
            "kind: commoncrawl\n  commoncrawl: {crawls: [CC-MAIN-2024-22], server: host, segments: {count: 1}}",
            "'host' is no address; write it with its scheme",
        ),
        ("kind: warc\n  files: [a]\n  transfer: {conections: 3}", "unknown key; did you mean 'connections'"),
    ],
)
def test_a_file_that_cannot_be_followed_is_explained(tmp_path, source, message):
    file = tmp_path / "bad.yaml"
    file.write_text(f"name: bad\ndescription: x\nsource:\n  {source}\nstart: 2024-01-01\nend: 2024-01-02\n")
    with pytest.raises(ConfigError, match=message):
        load_corpus(file)
