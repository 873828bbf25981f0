"""A crawl after another: of the same site a day later, or of one that was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from palimpsest.config import Corpus, load_corpus
from palimpsest.fetch import opening
from palimpsest.fetch.crawls import crawl_corpus, crawled_days, crawls
from palimpsest.ingest.stage import extract_days
from palimpsest.lake import REPOSITORY, Lake
from tests.palimpsest.fetch.conftest import LOOPBACK, Fault, html, outcomes, paths


def test_the_next_crawl_asks_only_whether_pages_have_changed(web, corpus, lake):
    first = crawl_corpus(corpus(), lake)
    days = extract_days(corpus(), crawled_days(first), lake)
    web.files["a"] = html("a, mended", "/new")
    web.files["new"] = html("new")
    del web.files["deep/2"]
    web.faults["target"] = [Fault(status=200, plain=True)]  # the same page from a server that forgot its ETag
    web.asked.clear()
    second = crawl_corpus(corpus(), lake)
    found = outcomes(second, web)
    assert {path for path, outcome in found.items() if outcome == "captured"} == {"a", "new"}
    assert found["deep/2"] == "http_status"
    assert found["target"] == "identical"
    assert found["b"] == found["deep/1"] == found["deep/3"] == "unchanged"
    known = {row["url"].removeprefix(web.url) for row in pq.read_table(second.file("known.parquet")).to_pylist()}
    assert "deep/2" not in known and {"a", "b", "new", "deep/3"} <= known
    again = extract_days(corpus(), crawled_days(second), lake)
    assert sum(day.manifest["rows"]["kept"] for day in again) == sum(d.manifest["rows"]["kept"] for d in days) + 2
    assert [parent["uri"] for parent in second.manifest["parents"]] == [first.uri]


def test_what_an_unchanged_page_links_to_is_asked_for_until_it_is_had(web, corpus, lake):
    web.faults["b"] = [Fault(status=503)] * 2
    web.files["robots.txt"] = b"User-agent: *\nDisallow: /secret/\n"
    first = outcomes(crawl_corpus(corpus(), lake), web)
    assert (first["b"], first["secret/x"]) == ("no_answer", "robots")
    web.files["robots.txt"] = b""
    second = outcomes(crawl_corpus(corpus(), lake), web)
    assert (second[""], second["b"], second["secret/x"]) == ("unchanged", "captured", "captured")


def test_a_site_of_more_pages_than_a_crawl_may_have_is_gone_through_in_turns(site, corpus, lake):
    site.types = True
    site.files |= {"": html("start", *(f"/{name}" for name in "abcdef")), **{name: html(name) for name in "abcdef"}}
    asked = []
    for _ in range(7):
        site.asked.clear()
        crawl = outcomes(crawl_corpus(corpus(max_pages=3, sitemaps=False), lake), site)
        assert len(crawl) == 7
        asked.append({path.removeprefix("/") for path in paths(site)} - {"robots.txt", ""})
    assert [len(names) for names in asked] == [2] * 7
    assert set.union(*asked[:3]) == set("abcdef"), "all are had before one is asked for again"
    assert asked[3:6] == asked[:3], "and then in the same order"


def test_of_a_site_without_end_so_many_addresses_are_kept(site, corpus, lake, monkeypatch):
    for module in ("visits", "crawl"):
        monkeypatch.setattr(f"palimpsest.fetch.{module}.CRAWLS_AHEAD", 2)
    site.types = True
    site.files |= {"": html("start", *(f"/{n}" for n in range(9)))}
    crawl = crawl_corpus(corpus(max_pages=1, sitemaps=False), lake)
    assert crawl.manifest["rows"]["dropped"] == {"over_budget": 1}, "the start is one of two"
    assert crawl.extra["sites_with_more"] == [site.url.rstrip("/")]
    monkeypatch.setattr("palimpsest.fetch.crawl.CRAWLS_AHEAD", 10)
    crawl = crawl_corpus(corpus(max_pages=1, sitemaps=False), Lake(f"{lake.root}-other"))
    assert crawl.manifest["rows"]["dropped"] == {"over_budget": 9}
    assert crawl.extra["sites_with_more"] == []
    assert len(pq.read_table(crawl.file("known.parquet"))) == 3


@pytest.mark.parametrize("removed", range(3))
def test_a_crawl_that_was_killed_once_it_was_published_is_left_as_it_is(web, corpus, lake, monkeypatch, removed):
    """Killed with so many files of its journal removed: the next crawl is another one."""
    left, dying, unlink = [removed], [], Path.unlink

    def dies(path, *args, **options):
        if dying and path.name in ("begun", "visits.jsonl", "pages.warc.gz"):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
        unlink(path, *args, **options)

    dying.append(True)
    monkeypatch.setattr(Path, "unlink", dies)
    with pytest.raises(KeyboardInterrupt):
        crawl_corpus(corpus(), lake)
    dying.clear()
    [first] = crawls(corpus(), lake)
    web.files["a"] = html("a, mended")
    second = crawl_corpus(corpus(), lake)
    assert [crawl.dataset for crawl in crawls(corpus(), lake)] == [first.dataset, second.dataset]
    assert [parent["uri"] for parent in second.manifest["parents"]] == [first.uri]
    assert outcomes(second, web)["a"] == "captured"
    assert crawls(corpus(), lake)[0].manifest == first.manifest


KILLED = """
import sys
from palimpsest.config import load_corpus
from palimpsest.fetch.crawls import crawl_corpus
from palimpsest.lake import Lake
crawl_corpus(load_corpus(sys.argv[1]), Lake.from_env())
"""


def killed(web, folder, requests: int, **crawl) -> Corpus:
    """The corpus of a crawl that was killed when the server had so many requests."""
    file = folder / "site.yaml"
    crawl = {"sites": [web.url], "agent": "tests/1 (+mail@host)", "delay_s": 0.3, "private_networks": LOOPBACK} | crawl
    source = json.dumps({"kind": "crawl", "crawl": crawl})
    file.write_text(f"name: site\ndescription: x\nstart: 2020-01-01\nend: 2099-01-01\nsource: {source}\n")
    environment = {
        **os.environ,
        "PYTHONPATH": f"{REPOSITORY / 'plugins'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
    }
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(file)], env=environment)
    deadline = time.monotonic() + 120
    while len(web.asked) < requests:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return load_corpus(file)


def test_a_crawl_that_was_killed_is_gone_on_from(web, lake, tmp_path):
    names = [f"p{n}" for n in range(8)]
    web.files = {"": html("start", *names), **{name: html(name) for name in names}}
    corpus = killed(web, tmp_path, 5, sitemaps=False)
    before = paths(web)[1:]
    web.asked.clear()
    crawl = crawl_corpus(corpus, lake)
    assert outcomes(crawl, web) == dict.fromkeys(["", *names], "captured")
    asked_again = set(paths(web)) & set(before)
    assert len(asked_again) <= 1  # the page that was on its way
    assert crawl.extra["records"]["response"] == 9


def test_a_crawl_that_was_killed_reads_the_sitemaps_that_its_indexes_had_named(web, lake, tmp_path, monkeypatch):
    """As many as without the interruption: those that it had read count."""
    maps = [f"{n}.xml" for n in range(6)]
    listed = "".join(f"<sitemap><loc>{web.url}{name}</loc></sitemap>" for name in maps)
    web.files = {"robots.txt": b"Sitemap: /index.xml\n", "index.xml": f"<sitemapindex>{listed}</sitemapindex>".encode()}
    web.files |= {"": html("start"), **{f"p{n}": html(f"p{n}") for n in range(6)}}
    for n, name in enumerate(maps):
        web.files[name] = f"<urlset><url><loc>{web.url}p{n}</loc></url></urlset>".encode()
    corpus = killed(web, tmp_path, 3)  # robots.txt, the index and the first sitemap, which may be asked for again
    assert paths(web)[:3] == ["robots.txt", "index.xml", "0.xml"]
    web.asked.clear()
    monkeypatch.setattr(opening, "MOST_SITEMAPS", 5)
    found = outcomes(crawl_corpus(corpus, lake), web)
    assert found == {
        **dict.fromkeys(["index.xml", *maps[:4]], "sitemap"),
        **dict.fromkeys(maps[4:], "over_budget"),
        **dict.fromkeys(["", "p0", "p1", "p2", "p3"], "captured"),
    }
    assert "index.xml" not in paths(web)
