"""A crawl of a real web server on loopback: what it asks for, what it leaves alone, what becomes of each address."""

from __future__ import annotations

import gzip
import time

import pyarrow.parquet as pq
import pytest

from palimpsest.fetch import crawl as crawl_module
from palimpsest.fetch import opening
from palimpsest.fetch.crawls import crawl_corpus, crawled_days
from palimpsest.ingest.stage import extract_days
from palimpsest.lake import Lake, LakeError
from tests.palimpsest.fetch.conftest import Fault, html, outcomes, paths


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
