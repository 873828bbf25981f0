"""A crawl of a real web server on loopback: what it asks for, what it leaves alone, what becomes of each address."""

from __future__ import annotations

import datetime as dt
import gzip
import ipaddress
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from palimpsest.config import ConfigError, Corpus, load_corpus
from palimpsest.fetch import crawl as crawl_module
from palimpsest.fetch import opening
from palimpsest.fetch.addresses import PrivateAddress, chooser, is_public
from palimpsest.fetch.crawls import crawl_corpus, crawled_days, crawls
from palimpsest.fetch.links import canonical, read_page, read_sitemap
from palimpsest.ingest.stage import extract_days
from palimpsest.lake import REPOSITORY, Lake, LakeError
from tests.palimpsest.fetch.conftest import Fault, Site

TEXT = "<p>The harbour wall was finished in the spring of that year, and the boats came in one by one. Page {}.</p>"
LOOPBACK = ["127.0.0.0/8"]


def html(name: str, *links: str, head: str = "") -> bytes:
    anchors = "".join(f'<li><a href="{link}">{link}</a></li>' for link in links)
    return f"<html><head>{head}</head><body><main>{TEXT.format(name)}</main><ul>{anchors}</ul></body></html>".encode()


@pytest.fixture
def web(site):
    """A small site whose pages say that they are HTML."""
    site.types = True
    site.files |= {
        "": html("start", "/a", "/b#part", "/secret/x", "https://elsewhere.example/", "mailto:a@b.example", "/a"),
        "a": html("a", "/deep/1", "/image.png"),
        "b": html("b", "/moved", "/outside"),
        "deep/1": html("1", "2"),
        "deep/2": html("2", "/deep/3"),
        "deep/3": html("3"),
        "target": html("target"),
        "secret/x": html("secret"),
        "mapped": html("mapped"),
        "robots.txt": b"User-agent: *\nDisallow: /secret/\nDisallow: /*.pdf$\nSitemap: /sitemap.xml\n",
        "image.png": b"\x89PNG",
        "moved": b"",
        "outside": b"",
    }
    mapped = f"<urlset><url><loc>{site.url}mapped</loc></url><url><loc>{site.url}file.pdf</loc></url></urlset>"
    site.files["sitemap.xml"] = mapped.encode()
    site.faults["moved"] = [Fault(status=301, headers=(("Location", "/target"),))] * 9
    site.faults["outside"] = [Fault(status=302, headers=(("Location", "https://elsewhere.example/"),))] * 9
    return site


@pytest.fixture
def other():
    """A second web server."""
    other = Site()
    other.types = True
    other.files |= {"": html("other"), "sitemap.xml": b"<urlset/>"}
    yield other
    other.close()


@pytest.fixture
def corpus(site, tmp_path):
    def make(limits=None, stall_s=10, **crawl) -> Corpus:
        crawl = {"sites": [site.url], "agent": "tests/1 (+mail@host)", "delay_s": 0} | crawl
        crawl.setdefault("private_networks", LOOPBACK)
        transfer = {"attempts": 2, "backoff_s": 0.01, "stall_s": stall_s}
        days = {"start": dt.date(2020, 1, 1), "end": dt.date(2099, 1, 1), "path": tmp_path / "site.yaml"}
        source = {"kind": "crawl", "crawl": crawl, "transfer": transfer}
        return Corpus(name="site", description="Made for a test.", source=source, limits=limits or {}, **days)

    return make


def outcomes(crawl, site) -> dict[str, str]:
    """By path below the site, or whole address."""
    rows = pq.read_table(crawl.file("visits.parquet")).to_pylist()
    assert len({row["url"] for row in rows}) == len(rows) == crawl.manifest["rows"]["input"]
    return {row["url"].removeprefix(site.url): row["outcome"] for row in rows}


def paths(site) -> list[str]:
    return [path for path, _ in site.asked]


def test_a_site_becomes_pages_and_every_address_has_its_outcome(web, corpus, lake):
    crawl = crawl_corpus(corpus(max_depth=3), lake)
    assert outcomes(crawl, web) == {
        **dict.fromkeys(("", "a", "b", "deep/1", "deep/2", "mapped", "target"), "captured"),
        "secret/x": "robots",
        "file.pdf": "robots",
        "deep/3": "too_deep",
        "image.png": "not_html",
        "moved": "redirect",
        "outside": "other_site",
        "sitemap.xml": "sitemap",
    }
    assert not {"secret/x", "file.pdf", "deep/3"} & set(paths(web))
    assert len(paths(web)) == len(set(paths(web)))
    assert {asked["User-Agent"] for asked in web.headers} == {"tests/1 (+mail@host)"}
    (day,) = extract_days(corpus(max_depth=3), crawled_days(crawl), lake)
    assert day.manifest["rows"]["kept"] == 7
    assert day.extra["records"] == {"metadata": 1, "response": 7, "warcinfo": 1}


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


def test_budgets_end_a_crawl_and_say_what_was_left(web, corpus, lake):
    crawl = crawl_corpus(corpus(max_pages=3, sitemaps=False), lake)
    found = outcomes(crawl, web)
    assert list(found.values()).count("captured") == 3
    assert "over_budget" in found.values()
    web.asked.clear()
    small = crawl_corpus(corpus(max_bytes=10, sitemaps=False), Lake(f"{lake.root}-other"))
    assert len(paths(web)) == 2  # robots.txt and one page, which is finished
    assert small.manifest["rows"]["dropped"]["over_budget"] >= 1


def test_the_pace_of_robots_txt_goes_first(web, corpus, lake):
    web.files = {"": html("start", "/a"), "a": html("a"), "robots.txt": b"User-agent: tests\nCrawl-delay: 0.5\n"}
    crawl_corpus(corpus(sitemaps=False), lake)
    assert paths(web) == ["robots.txt", "", "a"]
    pauses = [later - before for before, later in zip(web.times, web.times[1:], strict=False)]
    assert all(0.5 <= pause < 5 for pause in pauses)


@pytest.mark.parametrize(
    "rule", ["Crawl-delay: 61", "Crawl-delay: 1e300", "Request-rate: 1/2m", f"Request-rate: 1/{'9' * 400}h"]
)
def test_a_site_that_asks_for_too_long_pauses_is_left_alone(web, other, corpus, lake, rule):
    other.files["robots.txt"] = f"User-agent: *\n{rule}\n".encode()
    crawl = crawl_corpus(corpus(sites=[other.url, web.url]), lake)
    assert outcomes(crawl, web)["a"] == "captured"
    assert crawl.manifest["rows"]["quarantined"] == {"crawl_delay": 1}
    assert paths(other) == ["robots.txt"]
    [told] = [row for row in pq.read_table(crawl.file("visits.parquet")).to_pylist() if row["url"] == other.url]
    assert "between requests, more than 60" in told["detail"]


def test_a_site_that_dies_is_given_up(web, other, corpus, lake, monkeypatch):
    monkeypatch.setattr(crawl_module, "MOST_SILENT", 4)
    names = [f"p{n}" for n in range(30)]
    other.files |= {"": html("start", "late", *names), "late": html("late"), **{name: html(name) for name in names}}
    for name in names:
        other.faults[name] = [Fault(cut=0), Fault(status=503)]
    other.faults["late"] = [Fault(cut=0)] * 2
    crawl = crawl_corpus(corpus(sites=[other.url, web.url], sitemaps=False), lake)
    rows = {row["url"]: row for row in pq.read_table(crawl.file("visits.parquet")).to_pylist()}
    assert rows[f"{web.url}a"]["outcome"] == rows[other.url]["outcome"] == "captured"
    assert paths(other) == ["robots.txt", "", "late", "p0", "p1", "p2"]
    for name in ("late", *names):
        told = rows[other.url + name]
        assert (told["outcome"], told["detail"]) == (
            "no_answer", "not asked for any more: 4 tries of the site in a row had no answer"
        )  # fmt: skip


def test_a_site_that_answers_now_and_then_is_not_given_up(web, corpus, lake, monkeypatch):
    monkeypatch.setattr(crawl_module, "MOST_SILENT", 3)
    names = [f"p{n}" for n in range(12)]
    web.files = {"": html("start", *names), **{name: html(name) for name in names}}
    for n, name in enumerate(names):
        web.faults[name] = [Fault(status=503)] if n % 3 else []
    found = outcomes(crawl_corpus(corpus(sitemaps=False), lake), web)
    assert found == dict.fromkeys(["", *names], "captured")


def test_a_site_that_drips_does_not_hold_the_others_up_for_long(web, other, corpus, lake, monkeypatch):
    monkeypatch.setattr(crawl_module, "PAGE_S", 0.8)
    monkeypatch.setattr(crawl_module, "PATIENCE_S", 1.5)
    monkeypatch.setattr(crawl_module, "PATIENCE_PAGE_S", 0.2)
    names = [f"p{n}" for n in range(30)]
    other.files = {"": html("start", "huge", *names), "huge": b"a" * 200, **dict.fromkeys(names, b"<p>slow</p>" * 2)}
    for name in ("huge", *names):
        other.faults[name] = [Fault(drip="body")]
    crawl = crawl_corpus(corpus(sites=[other.url, web.url], sitemaps=False), lake)
    rows = {row["url"]: row for row in pq.read_table(crawl.file("visits.parquet")).to_pylist()}
    assert rows[f"{web.url}a"]["outcome"] == "captured"
    assert (rows[f"{other.url}huge"]["outcome"], rows[f"{other.url}huge"]["detail"]) == (
        "no_answer", "not whole after 0.8 s"
    )  # fmt: skip
    assert paths(other).count("huge") == 1
    assert rows[f"{other.url}p0"]["outcome"] == "captured"
    assert rows[f"{other.url}p29"]["outcome"] == "over_budget"
    assert "pages of the site took" in rows[f"{other.url}p29"]["detail"]
    assert len(paths(other)) < 20


def test_a_page_that_is_not_had_whole_is_paid_for(web, corpus, lake):
    web.files = {"": html("start", "cut", "fine"), "cut": b"x" * 20_000, "fine": html("fine")}
    web.faults["cut"] = [Fault(cut=15_000)] * 2
    found = outcomes(crawl_corpus(corpus(sitemaps=False, max_bytes=10_000), lake), web)
    assert found == {"": "captured", "cut": "over_budget", "fine": "over_budget"}


def test_a_site_that_never_answers_does_not_hold_the_others_up_for_long(web, other, corpus, lake):
    other.faults["robots.txt"] = [Fault(status=503)] * 9
    wanted = corpus(sites=[other.url, web.url])
    patient = wanted.source.transfer.model_copy(update={"attempts": 8})
    wanted = wanted.model_copy(update={"source": wanted.source.model_copy(update={"transfer": patient})})
    assert outcomes(crawl_corpus(wanted, lake), web)["a"] == "captured"
    assert paths(other) == ["robots.txt"] * 3


def test_a_site_that_asks_for_patience_does_not_hold_the_others_up_for_long(web, other, corpus, lake):
    later = Fault(status=503, headers=(("Retry-After", "600"),))
    web.files["robots.txt"] = b"Sitemap: /1.xml\nSitemap: /sitemap.xml\n"
    web.faults["1.xml"] = [later] * 9
    other.faults["robots.txt"] = [later] * 9
    started = time.monotonic()
    found = outcomes(crawl_corpus(corpus(sites=[other.url, web.url]), lake), web)
    assert time.monotonic() - started < 100
    assert (found[other.url], found["1.xml"], found["sitemap.xml"]) == (
        "robots_unavailable", "bad_sitemap", "over_budget"
    )  # fmt: skip
    assert found["a"] == "captured"
    assert paths(other) == ["robots.txt"] and paths(web).count("1.xml") == 1


def test_a_slow_site_has_its_sitemaps_read_for_so_long_only(web, corpus, lake, monkeypatch):
    monkeypatch.setattr(opening, "OPENING_S", 2.0)
    names = [f"{n}.xml" for n in range(9)]
    web.files = dict.fromkeys(names, b"<urlset/>") | {"": html("start")}
    web.files["robots.txt"] = "\n".join(
        ["User-agent: *", "Crawl-delay: 0.8", *(f"Sitemap: /{n}" for n in names)]
    ).encode()
    found = outcomes(crawl_corpus(corpus(), lake), web)
    assert found[""] == "captured"
    assert found["8.xml"] == "over_budget"
    assert len(paths(web)) <= 4  # robots.txt, two sitemaps, the page


@pytest.mark.parametrize("status", [500, 503])
def test_a_site_that_cannot_say_what_it_allows_is_left_alone(web, corpus, lake, status):
    web.faults["robots.txt"] = [Fault(status=status)] * 2
    with pytest.raises(ConnectionError, match="not one page of source.crawl.sites could be had.*robots_unavailable"):
        crawl_corpus(corpus(), lake)
    assert set(paths(web)) == {"robots.txt"}
    crawl_corpus(corpus(), lake)  # and is asked again the next time


def test_a_site_without_robots_txt_allows_everything(web, corpus, lake):
    del web.files["robots.txt"]
    assert outcomes(crawl_corpus(corpus(), lake), web)["secret/x"] == "captured"


def test_pages_that_ask_not_to_be_kept_or_followed_are_not(web, corpus, lake):
    web.files[""] = html("start", "/a", "/b", "/c", "/d")
    web.files["a"] = html("a", "/from-a", head='<meta name="ROBOTS" content="noarchive, nofollow">')
    web.files["b"] = html("b", "/from-b", head='<meta name="robots" content="nofollow">')
    web.files |= {"c": html("c"), "d": html("d")}
    web.faults["c"] = [Fault(headers=(("X-Robots-Tag", "noindex"),))]
    web.faults["d"] = [Fault(headers=(("X-Robots-Tag", "nosnippet"), ("X-Robots-Tag", "other: all, noai")))]
    found = outcomes(crawl_corpus(corpus(sitemaps=False), lake), web)
    assert found == {"": "captured", "a": "robots_meta", "b": "captured", "c": "robots_meta", "d": "robots_meta"}


def test_a_page_of_a_bad_server_is_one_visit_and_the_crawl_goes_on(web, corpus, lake):
    names = ("cut", "drip", "busy", "never", "huge", "loop", "poison", "broken", "accent", "half;half?x=1")
    web.files = {"": html("start", *names, "fine"), "fine": html("fine"), "loop": b""}
    web.files |= {name: html(name) for name in ("cut", "drip", "busy", "broken")}
    web.files |= {"huge": html("huge" * 20_000), "poison": b"<p>" + b"<div>" * 3_000 + b"deep"}
    web.faults["cut"] = [Fault(cut=20)] * 9
    web.faults["drip"] = [Fault(drip="headers")] * 9
    web.faults["busy"] = [Fault(status=503, headers=(("Retry-After", "1"),))]
    web.files |= {"never": html("never"), "accent": b"", "r%C3%B6d": html("red"), "half;half": html("half")}
    web.faults["never"] = [Fault(status=503, headers=(("Retry-After", f"Mon, 01 Jan {9**20} 00:00:00 GMT"),))]
    web.faults["accent"] = [Fault(status=301, headers=(("Location", "/r\xc3\xb6d"),))]
    web.faults["loop"] = [Fault(status=301, headers=(("Location", f"/loop?{n}"),)) for n in range(9)]
    web.faults["broken"] = [Fault(status=302, headers=(("Location", "http://[::1"),))]
    found = outcomes(crawl_corpus(corpus({"max_page_bytes": 50_000}, stall_s=1, sitemaps=False), lake), web)
    expected = {"cut": "no_answer", "drip": "no_answer", "busy": "captured", "huge": "too_large", "poison": "captured"}
    expected |= {
        "": "captured",
        "fine": "captured",
        "loop": "redirect",
        "loop?4": "http_status",
        "broken": "other_site",
        "never": "captured",
        "accent": "redirect",
        "r%C3%B6d": "captured",
        "half;half?x=1": "captured",
    }
    assert {path: found[path] for path in expected} == expected


def test_private_addresses_are_never_asked(web, corpus, lake):
    with pytest.raises(LakeError, match=r"source\.crawl\.sites: 127\.0\.0\.1 is 127\.0\.0\.1, not a public address"):
        crawl_corpus(corpus(private_networks=["10.0.0.0/8"]), lake)
    assert web.asked == []


def test_one_site_at_a_private_address_stops_no_other(web, corpus, lake):
    crawl = crawl_corpus(corpus(sites=["http://10.0.0.1/", web.url]), lake)
    found = outcomes(crawl, web)
    assert found["http://10.0.0.1/"] == "private_address"
    assert found["a"] == "captured"
    rows = {row["url"]: row for row in pq.read_table(crawl.file("visits.parquet")).to_pylist()}
    assert "10.0.0.1 is 10.0.0.1, not a public address" in rows["http://10.0.0.1/"]["detail"]


def test_the_address_that_was_checked_is_the_one_connected_to(web, corpus, lake, monkeypatch):
    """A name that resolves to a public address when it is checked and to a private one a moment later (rebinding)."""
    import socket

    real, answers = socket.getaddrinfo, []

    def resolve(host, port, *rest, **options):
        if host != "rebound.example":
            return real(host, port, *rest, **options)
        answers.append("127.0.0.2" if not answers else "10.1.1.1")
        return real(answers[-1], port, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    port = web.url.rsplit(":", 1)[1]
    web.files["robots.txt"] = b""
    with pytest.raises(LakeError, match=r"rebound\.example is 127\.0\.0\.2, not a public"):
        crawl_corpus(corpus(sites=[f"http://rebound.example:{port}"], private_networks=["127.0.0.1/32"]), lake)
    assert web.asked == []


def test_a_site_whose_robots_txt_leads_to_a_private_address_stops_no_other(web, other, corpus, lake):
    other.faults["robots.txt"] = [Fault(status=302, headers=(("Location", "http://10.0.0.1/robots.txt"),))] * 9
    crawl = crawl_corpus(corpus(sites=[other.url, web.url], max_depth=3), lake)
    found = outcomes(crawl, web)
    assert found[other.url] == "robots_unavailable"
    assert found["a"] == "captured"
    assert paths(other) == ["robots.txt"]


@pytest.mark.parametrize("name", ["robots.txt", "sitemap.xml"])
@pytest.mark.parametrize(
    ("header", "value"),
    [("Location", "/r\xf6bots.txt"), ("Location", "http://[::1"), ("Location", "http://h:99999/"),
     ("Retry-After", f"Mon, 01 Jan {9**20} 00:00:00 GMT"), ("Retry-After", "\xb2")],
)  # fmt: skip
def test_a_site_that_answers_with_nonsense_ends_no_other(web, other, corpus, lake, name, header, value):
    other.files[name] = b""
    other.faults[name] = [Fault(status=301 if header == "Location" else 503, headers=((header, value),))] * 9
    found = outcomes(crawl_corpus(corpus(sites=[other.url, web.url]), lake), web)
    assert found["a"] == "captured"
    followed = name == "robots.txt" and value.startswith("/")  # to an address without a file: everything is allowed
    assert (found[other.url] == "captured") == (name == "sitemap.xml" or followed)


def test_sitemaps_are_of_the_site_and_count_against_its_budget(web, other, corpus, lake):
    web.files["robots.txt"] = f"Sitemap: {other.url}sitemap.xml\nSitemap: /sitemap.xml\n".encode()
    found = outcomes(crawl_corpus(corpus(max_depth=3), lake), web)
    assert (found[f"{other.url}sitemap.xml"], found["sitemap.xml"], found["mapped"]) == (
        "other_site", "sitemap", "captured"
    )  # fmt: skip
    assert other.asked == []
    web.asked.clear()
    small = crawl_corpus(corpus(max_bytes=len(web.files["sitemap.xml"]) + 1), Lake(f"{lake.root}-other"))
    assert paths(web) == ["robots.txt", "sitemap.xml", ""]
    assert outcomes(small, web)["mapped"] == "over_budget"
    rows = pq.read_table(small.file("visits.parquet")).to_pylist()
    assert {row["outcome"]: row["bytes"] for row in rows}["sitemap"] == len(web.files["sitemap.xml"])


def test_a_site_takes_no_sitemap_of_another_listed_one(web, other, corpus, lake):
    """Neither by naming it as a sitemap of its own, nor as a page, nor by naming the other's start."""
    web.files["robots.txt"] = f"Sitemap: {other.url}sitemap.xml\nSitemap: {other.url}\nSitemap: /sitemap.xml\n".encode()
    web.files["sitemap.xml"] = f"<urlset><url><loc>{other.url}sitemap.xml</loc></url></urlset>".encode()
    other.files["sitemap.xml"] = f"<urlset><url><loc>{other.url}mapped</loc></url></urlset>".encode()
    other.files |= {"robots.txt": b"Sitemap: /sitemap.xml\n", "mapped": html("the other's mapped")}
    found = outcomes(crawl_corpus(corpus(sites=[web.url, other.url]), lake), web)
    assert found[f"{other.url}sitemap.xml"] == found["sitemap.xml"] == "sitemap"
    assert found[f"{other.url}mapped"] == found[other.url] == "captured"


def test_sitemaps_beyond_the_most_that_are_read_are_said_to_be_left(web, corpus, lake):
    names = [f"{n}.xml" for n in range(opening.MOST_SITEMAPS + 3)]
    web.files |= dict.fromkeys(names, b"<urlset/>")
    web.files["robots.txt"] = "\n".join(f"Sitemap: /{name}" for name in names).encode()
    found = outcomes(crawl_corpus(corpus(), lake), web)
    assert [found[name] for name in names] == ["sitemap"] * opening.MOST_SITEMAPS + ["over_budget"] * 3


def test_a_sitemap_that_is_not_had_whole_is_paid_for(web, other, corpus, lake):
    web.files["robots.txt"] = b"Sitemap: /cut.xml\n"
    web.files["cut.xml"] = b" " * 20_000
    web.faults["cut.xml"] = [Fault(cut=5_000)] * 9
    other.files |= {"robots.txt": b"Sitemap: /large.xml\n", "large.xml": b" " * 3_000_000}
    crawl = crawl_corpus(corpus(sites=[web.url, other.url], max_bytes=100_000), lake)
    rows = {row["url"]: row for row in pq.read_table(crawl.file("visits.parquet")).to_pylist()}
    cut, large = rows[f"{web.url}cut.xml"], rows[f"{other.url}large.xml"]
    assert (cut["outcome"], cut["bytes"]) == ("bad_sitemap", 10_000)  # of two tries
    assert large["outcome"] == "over_budget" and 100_000 < large["bytes"] < 1_000_000
    assert rows[web.url]["outcome"] == "captured" and rows[other.url]["outcome"] == "over_budget"


def test_an_index_of_what_may_not_be_asked_does_not_fill_the_journal(web, corpus, lake):
    named = [f"{web.url}secret/{n}.xml" for n in range(100)] + [f"https://h.example/{n}.xml" for n in range(3_000)]
    listed = "".join(f"<sitemap><loc>{url}</loc></sitemap>" for url in named)
    web.files["sitemap.xml"] = f"<sitemapindex>{listed}</sitemapindex>".encode()
    crawl = crawl_corpus(corpus(), lake)
    found = outcomes(crawl, web)
    assert [found[f"secret/{n}.xml"] for n in (0, 48, 49, 99)] == ["robots", "robots", "over_budget", "over_budget"]
    assert sum(path.startswith("https://h.example/") for path in found) == opening.MOST_NAMED - 101


def test_a_robots_txt_that_would_fill_the_memory_closes_its_site_alone(web, other, corpus, lake):
    agents = "".join(f"User-agent: a{n}\n" for n in range(4_000))
    other.files["robots.txt"] = (agents + "Disallow: /x\n" * 4_000).encode()
    limits = {"page_memory_mb": 100, "page_timeout_s": 300}
    crawl = crawl_corpus(corpus(limits, sites=[other.url, web.url]), lake)
    found = outcomes(crawl, web)
    assert (found[other.url], found["a"]) == ("robots_unavailable", "captured")
    [told] = [row for row in pq.read_table(crawl.file("visits.parquet")).to_pylist() if row["url"] == other.url]
    assert "more than 100 MB" in told["detail"]


def test_a_sitemap_that_would_fill_the_memory_is_one_bad_sitemap(web, corpus, lake):
    web.files["robots.txt"] = f"Sitemap: {web.url}sitemap.xml\n".encode()
    web.files["sitemap.xml"] = b"<urlset>" + b"<a>" * 4_000_000
    crawl = crawl_corpus(corpus({"page_memory_mb": 100}), lake)
    assert outcomes(crawl, web)["sitemap.xml"] == "bad_sitemap"
    assert outcomes(crawl, web)["a"] == "captured"
    [told] = [row for row in pq.read_table(crawl.file("visits.parquet")).to_pylist() if "sitemap" in row["url"]]
    assert "more than 100 MB" in told["detail"]


def test_a_damaged_sitemap_is_one_bad_sitemap(web, corpus, lake):
    web.files["robots.txt"] = b"Sitemap: /sitemap.xml.gz\n"
    web.files["sitemap.xml.gz"] = gzip.compress(web.files["sitemap.xml"])[:10] + b"\xff" * 50
    crawl = crawl_corpus(corpus(), lake)
    assert outcomes(crawl, web)["sitemap.xml.gz"] == "bad_sitemap"
    assert outcomes(crawl, web)["a"] == "captured"


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True), ("2606:2800:220:1::1", True), ("127.0.0.1", False), ("10.1.2.3", False),
        ("192.168.0.1", False), ("172.16.9.9", False), ("169.254.169.254", False), ("100.64.0.1", False),
        ("0.0.0.0", False), ("224.0.0.1", False), ("255.255.255.255", False), ("::1", False), ("fe80::1", False),
        ("fc00::1", False), ("::ffff:10.0.0.1", False), ("64:ff9b::a00:1", False), ("2002:a00:1::", False),
        ("::", False), ("ff02::1", False), ("::127.0.0.1", False), ("::10.0.0.1", False), ("fec0::1", False),
        ("64:ff9b:1::a00:1", False), ("64:ff9b::5db8:d822", True), ("::ffff:0:10.0.0.1", False), ("5f00::1", False),
        ("3fff::1", False), ("2001:20::1", False), ("2001:4860:4860::8888", True), ("192.0.0.8", False),
        ("192.88.99.1", False), ("::ffff:192.0.0.8", False),
    ],
)  # fmt: skip
def test_what_counts_as_public(address, public):
    assert is_public(ipaddress.ip_address(address)) == public


def test_a_network_that_is_allowed_is_no_other():
    assert chooser(["127.0.0.0/8", "fd00::/8"])("127.0.0.1", 80) == ["127.0.0.1"]
    with pytest.raises(PrivateAddress, match=r"169\.254\.169\.254.*private_networks"):
        chooser(["127.0.0.0/8"])("169.254.169.254", 80)


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


def test_links_of_a_page():
    page = html(
        "x", "/b", "c?d=1", "/b", "http://[bad", "javascript:x()", head='<base href="https://Host.example:443/dir/">'
    )
    found = read_page(page + b'<a rel="nofollow" href="/n">n</a>', "utf-8", "http://other.example/")
    assert found["links"] == ["https://host.example/b", "https://host.example/dir/c?d=1"]
    assert canonical("http://HOST:80/a b#c") == "http://host/a%20b"
    assert canonical("http://me:pw@host/") is canonical("ftp://host/") is canonical("http://host:x/") is None


def test_sitemaps_and_what_is_none():
    namespace = 'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"'
    index = f"<sitemapindex {namespace}><sitemap><loc> https://a.example/2.xml </loc></sitemap></sitemapindex>"
    assert read_sitemap(index.encode()) == ([], ["https://a.example/2.xml"])
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaa">]><urlset>&a;</urlset>'
    for body in (bomb, b"<html></html>"):
        with pytest.raises(ValueError, match="entities|root is <html>"):
            read_sitemap(body)


def test_the_example_is_a_valid_corpus():
    assert load_corpus(REPOSITORY / "docs" / "examples" / "crawl.yaml").source.is_remote


@pytest.mark.parametrize(
    ("crawl", "message"),
    [
        ("{sites: [https://a.example/], agent: my-corpus}", "say where to complain"),
        ("{sites: [a.example], agent: 'm (+a@b)'}", r"sites\.0: 'a.example' is no address of a site"),
        (
            "{sites: [https://a.example/], agent: 'm (+a@b)', private_networks: [10.0.0.1/8]}",
            r"private_networks\.0: .*host",
        ),
        ("{sites: [], agent: 'm (+a@b)'}", "sites"),
    ],
)
def test_a_file_that_cannot_be_followed_is_explained(tmp_path, crawl, message):
    file = tmp_path / "bad.yaml"
    source = f"source:\n  kind: crawl\n  crawl: {crawl}\n"
    file.write_text(f"name: bad\ndescription: x\n{source}start: 2024-01-01\nend: 2024-01-02\n")
    with pytest.raises(ConfigError, match=message):
        load_corpus(file)
