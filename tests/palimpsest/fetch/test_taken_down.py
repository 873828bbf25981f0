"""Pages that are taken down leave the archives that were fetched or crawled, and are not asked for again."""

from __future__ import annotations

import datetime as dt
import gzip
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from palimpsest.catalog import Catalog
from palimpsest.config import Corpus
from palimpsest.fetch.crawls import crawl_corpus, crawled_days
from palimpsest.fetch.stage import fetch_corpus, fetched
from palimpsest.ingest.stage import extract_days
from palimpsest.takedown import order
from tests.palimpsest.ingest.conftest import response

DAY = dt.date(2026, 10, 1)
PAGES = {name: f"<p>The harbour wall was finished in the spring of that year. {name}.</p>" for name in ("a", "b", "c")}


@pytest.fixture
def make(tmp_path):
    def make(start: dt.date, end: dt.date, **source) -> Corpus:
        source["transfer"] = {"attempts": 2, "backoff_s": 0.01, "stall_s": 10}
        days = {"start": start, "end": end, "path": tmp_path / "site.yaml"}
        return Corpus(name="site", description="Made for a test.", source=source, **days)

    return make


def urls(days):
    return [row["url"] for day in days for row in pq.read_table(day.file("pages.parquet")).to_pylist()]


def archives(lake):
    return [gzip.decompress(file.read_bytes()) for file in sorted(Path(lake.base).rglob("*.warc.gz"))]


def take_down(lake, url):
    return order.take_down(lake, Catalog.from_env(), url, reason="its author asked for it")


def test_a_fetched_file_loses_the_record_and_is_not_fetched_again(site, make, lake):
    records = [response(f"https://a.example/{name}", body.encode()) for name, body in PAGES.items()]
    site.files["crawl.warc.gz"] = b"".join(gzip.compress(one) for one in records)
    corpus = make(DAY, DAY, kind="warc", files=[site.url + "crawl.warc.gz"])
    fetch_corpus(corpus, lake)
    assert urls(extract_days(corpus, [DAY], lake)) == [f"https://a.example/{name}" for name in PAGES]
    done = take_down(lake, "https://a.example/b")
    assert {row["uri"].split("/")[0] for row in done.plan.rewritten} == {"captures", "corpora"}
    assert done.plan.left == []
    (content,) = archives(lake)
    assert content == records[0] + records[2]
    site.asked.clear()
    fetch_corpus(corpus, lake)
    assert site.asked == []
    lake.verify(fetched(corpus, lake))
    assert urls(extract_days(corpus, [DAY], lake)) == ["https://a.example/a", "https://a.example/c"]


def test_a_crawl_loses_the_page_and_the_next_one_does_not_ask_for_it(site, make, lake):
    site.types = True
    links = "".join(f'<a href="/{name}">{name}</a>' for name in PAGES)
    site.files |= {name: f"<html><body><main>{body}</main></body></html>".encode() for name, body in PAGES.items()}
    site.files[""] = f"<html><body><main>{PAGES['a']}</main>{links}</body></html>".encode()
    crawl = {"sites": [site.url], "agent": "tests/1 (+mail@host)", "delay_s": 0, "sitemaps": False}
    corpus = make(
        dt.date(2020, 1, 1), dt.date(2099, 1, 1), kind="crawl", crawl=crawl | {"private_networks": ["127.0.0.0/8"]}
    )
    first = crawl_corpus(corpus, lake)
    extract_days(corpus, crawled_days(first), lake)
    take_down(lake, f"{site.url}b")
    crawled = lake.latest(first.dataset)
    lake.verify(crawled)
    assert crawled.manifest["rows"]["kept"] == crawled.extra["records"]["response"] == 3
    for name in ("visits", "known"):
        assert f"{site.url}b" not in pq.read_table(crawled.file(f"{name}.parquet"))["url"].to_pylist()
    site.asked.clear()
    site.files["c"] = site.files["c"].replace(b"finished", b"mended")
    second = crawl_corpus(corpus, lake)
    assert "b" not in [path for path, _ in site.asked]
    visits = pq.read_table(second.file("visits.parquet")).to_pylist()
    assert [row["url"] for row in visits if row["outcome"] == "captured"] == [f"{site.url}c"]
    days = extract_days(corpus, crawled_days(second), lake)
    assert set(urls(days)) == {site.url, f"{site.url}a", f"{site.url}c"}
    assert not any(f"{site.url}b".encode() + b"\r\n" in content for content in archives(lake))
