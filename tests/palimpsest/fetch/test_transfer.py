"""A file comes whole and unchanged through every fault of the way, or there is an error and what came is kept."""

from __future__ import annotations

import bz2
import gzip
import socket
import time
from pathlib import Path

import pytest

from palimpsest.fetch.addresses import chooser
from palimpsest.fetch.connection import Client
from palimpsest.fetch.transfer import fetch_file, fetch_range, fetch_small
from palimpsest.fetch.verify import check_table, check_warc
from palimpsest.lake import LakeError
from tests.palimpsest.fetch.conftest import Fault

LARGE = "aut_archive-org-2008.warc.gz"
SMALL = "commoncrawl_whirlwind.warc.gz"


@pytest.fixture
def serve(site, genuine):
    def put(name: str) -> bytes:
        site.files[name] = (genuine / name).read_bytes()
        return site.files[name]

    return put


@pytest.fixture
def target(tmp_path):
    return tmp_path / "part"


def test_cut_connections_are_gone_on_from(site, serve, client, how, target):
    content = serve(LARGE)
    site.faults[LARGE] = [Fault(cut=n) for n in (300_000, 700_000, 100_000, 200_000, 70_000)]
    facts = fetch_file(site.url + LARGE, target, client, how, check_warc)
    assert target.read_bytes() == content
    assert facts["records"] == {"metadata": 261, "request": 261, "response": 299, "warcinfo": 1}
    starts = [300_000, 1_000_000, 1_100_000, 1_300_000, 1_370_000]
    assert site.ranges(LARGE) == ["", *(f"bytes={n}-" for n in starts)]
    assert site.sent == len(content)


def test_a_run_that_gave_up_is_gone_on_from_by_the_next(site, serve, client, how, target):
    content = serve(LARGE)
    site.faults[LARGE] = [Fault(cut=1_000_000), *[Fault(status=503)] * 3]
    with pytest.raises(ConnectionError, match=r"HTTP 503 \(tried 3 times; what came is kept, run it again"):
        fetch_file(site.url + LARGE, target, client, how, check_warc)
    fetch_file(site.url + LARGE, target, client, how, check_warc)
    assert target.read_bytes() == content
    assert site.ranges(LARGE)[-1] == "bytes=1000000-"


def test_a_busy_server_is_asked_again_when_it_says(site, serve, client, how, target):
    serve(SMALL)
    site.faults[SMALL] = [Fault(status=503, headers=(("Retry-After", "1"),)), Fault(status=429), Fault(cut=10)]
    started = time.monotonic()
    with pytest.raises(ConnectionError, match="without sending complete message body"):
        fetch_file(site.url + SMALL, target, client, how, check_warc)
    assert time.monotonic() - started >= 1
    assert len(site.asked) == how.attempts
    assert target.stat().st_size == 10


@pytest.mark.parametrize("drip", ["headers", "body"])
def test_a_connection_that_drips_is_cut(site, serve, client, how, target, drip):
    content = serve(SMALL)
    site.faults[SMALL] = [Fault(drip=drip)]
    started = time.monotonic()
    fetch_file(site.url + SMALL, target, client, how, check_warc)
    assert time.monotonic() - started < 20  # dripping all of it takes minutes
    assert target.read_bytes() == content
    assert len(site.asked) == 2
    assert (site.ranges(SMALL)[1] != "") == (drip == "body")


def test_a_slow_connection_that_is_steady_is_not_cut(site, serve, client, how, target):
    """Each second ends between two pieces, and has brought more than a KiB."""
    content = serve(SMALL)
    site.faults[SMALL] = [Fault(drip="body", piece=len(content) // 8, pause_s=0.45, plain=True)]
    fetch_file(site.url + SMALL, target, client, how, check_warc)
    assert target.read_bytes() == content
    assert len(site.asked) == 1


def test_a_server_that_always_drips_is_given_up(site, serve, client, how, target):
    serve(SMALL)
    site.faults[SMALL] = [Fault(drip="headers")] * 3
    with pytest.raises(TimeoutError, match="too slow a one"):
        fetch_file(site.url + SMALL, target, client, how, check_warc)


@pytest.mark.parametrize("header", [("Content-Range", f"bytes 0-9/{'9' * 5_000}"), ("Retry-After", "\xb2")])
def test_a_number_that_is_none_is_weather(site, serve, client, how, target, header):
    content = serve(SMALL)
    site.faults[SMALL] = [Fault(status=206 if header[0] == "Content-Range" else 503, headers=(header,))] * 2
    fetch_file(site.url + SMALL, target, client, how, check_warc)
    assert target.read_bytes() == content


@pytest.mark.parametrize("length", [5_000, 30_000])
def test_a_wrong_length_is_no_end_of_the_file(site, serve, client, how, target, length):
    """Shorter than the file: the server's own numbers agree, so only the content tells. Longer: bytes are missing."""
    content = serve(SMALL)
    site.faults[SMALL] = [Fault(announce=length, truncate=min(length, len(content)))]
    fetch_file(site.url + SMALL, target, client, how, check_warc)
    assert target.read_bytes() == content


def test_a_file_cut_off_at_the_server_is_an_error(site, serve, client, how, target):
    site.files[SMALL] = serve(SMALL)[:-7]
    with pytest.raises(LakeError, match=rf"{SMALL}: .*truncated.*damaged each time"):
        fetch_file(site.url + SMALL, target, client, how, check_warc)
    assert len(site.asked) == 2
    assert not target.exists()


def test_a_flipped_byte_on_the_way_is_found_and_fetched_again(site, serve, client, how, target):
    content = serve(SMALL)
    site.faults[SMALL] = [Fault(change=lambda body: body[:9_000] + bytes([body[9_000] ^ 1]) + body[9_001:])]
    fetch_file(site.url + SMALL, target, client, how, check_warc)
    assert target.read_bytes() == content


def test_a_record_that_is_not_what_its_digest_says_is_an_error(site, serve, client, how, target):
    plain = gzip.decompress(serve(SMALL))
    site.files[SMALL] = gzip.compress(plain.replace(b"<title>", b"<TITLE>", 1))
    with pytest.raises(LakeError, match="has not the WARC-Block-Digest sha1:"):
        fetch_file(site.url + SMALL, target, client, how, check_warc)


def test_a_file_that_changes_on_the_way_is_begun_again(site, serve, client, how, target):
    serve(LARGE)
    site.faults[LARGE] = [Fault(cut=1_000_000)] + [Fault(status=503)] * 3
    with pytest.raises(ConnectionError):
        fetch_file(site.url + LARGE, target, client, how, check_warc)
    site.files[LARGE] = serve("dolma_sample-0000.warc.gz")
    fetch_file(site.url + LARGE, target, client, how, check_warc)
    assert target.read_bytes() == site.files[LARGE]


@pytest.mark.parametrize("etag", ["\xa712", 'W/"1"'])
def test_a_file_whose_version_cannot_be_asked_for_is_begun_again(site, serve, client, how, target, etag):
    """Its ETag cannot be sent, or says nothing of bytes."""
    content = serve(LARGE)
    named = Fault(cut=300_000, plain=True, headers=(("ETag", etag),))
    site.faults[LARGE] = [named, named]
    fetch_file(site.url + LARGE, target, client, how, check_warc)
    assert target.read_bytes() == content
    assert site.ranges(LARGE) == ["", "", ""]
    dated = Fault(cut=300_000, plain=True, headers=(("ETag", etag), ("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")))
    site.faults[LARGE] = [dated]
    fetch_file(site.url + LARGE, target.with_name("dated"), client, how, check_warc)
    assert site.ranges(LARGE)[-1] == "bytes=300000-"


def test_killed_before_the_part_of_an_older_version_is_cut_the_file_is_of_one_version(
    site, client, how, target, monkeypatch
):
    rows = "".join(f'{{"url": "https://a.example/{n}", "text": "old"}}\n' for n in range(9_000)).encode()
    site.files["x.jsonl"] = rows
    site.faults["x.jsonl"] = [Fault(cut=100_000)] + [Fault(status=503)] * 3
    with pytest.raises(ConnectionError):
        fetch_file(site.url + "x.jsonl", target, client, how, check_table)
    site.files["x.jsonl"] = rows.replace(b"old", b"new")
    opened = Path.open

    def dies(path, mode="r", *args, **options):
        if path == target and mode == "wb":
            raise KeyboardInterrupt
        return opened(path, mode, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", dies)
        with pytest.raises(KeyboardInterrupt):
            fetch_file(site.url + "x.jsonl", target, client, how, check_table)
    fetch_file(site.url + "x.jsonl", target, client, how, check_table)
    assert target.read_bytes() == site.files["x.jsonl"]


def test_cuts_that_bring_the_same_beginning_again_are_no_progress(site, serve, client, how, target):
    """A server that says nothing of versions: each try begins anew."""
    serve(LARGE)
    site.faults[LARGE] = [Fault(cut=n, plain=True) for n in (300_000, 10)] * 9
    with pytest.raises(ConnectionError, match="tried 3 times"):
        fetch_file(site.url + LARGE, target, client, how, check_warc)
    assert len(site.ranges(LARGE)) == 4  # the first, and three that brought no more


@pytest.mark.parametrize("announced", [True, False])
def test_a_file_beyond_the_bound_is_an_error_and_not_kept(site, serve, client, how, target, announced):
    content = serve(LARGE)
    bounded = how.model_copy(update={"max_file_bytes": len(content) - 1})
    if not announced:
        site.faults[LARGE] = [Fault(announce=-1)]
    with pytest.raises(LakeError, match=r"more than \d+ bytes \(source.transfer.max_file_bytes\); raise it"):
        fetch_file(site.url + LARGE, target, client, bounded, check_warc)
    assert len(site.ranges(LARGE)) == 1
    assert list(target.parent.iterdir()) == []
    exact = how.model_copy(update={"max_file_bytes": len(content)})
    fetch_file(site.url + LARGE, target, client, exact, check_warc)


def test_a_range_that_was_not_asked_for_is_not_taken(site, serve, client, how, target):
    content = serve(SMALL)
    site.faults[SMALL] = [Fault(cut=10_000), Fault(shift=3)]
    fetch_file(site.url + SMALL, target, client, how, check_warc)
    assert target.read_bytes() == content


def test_what_the_server_does_not_have_is_asked_for_once(site, client, how, target):
    with pytest.raises(LakeError, match="HTTP 404: the server does not give it out"):
        fetch_file(site.url + "none", target, client, how, check_warc)
    assert len(site.asked) == 1


def test_redirects_are_followed_but_not_for_ever(site, serve, client, how, target):
    content = serve(SMALL)
    site.files["moved"] = b""
    site.faults["moved"] = [Fault(status=302, headers=(("Location", f"/{SMALL}"),))]
    fetch_file(site.url + "moved", target, client, how, check_warc)
    assert target.read_bytes() == content
    site.faults["moved"] = [Fault(status=302, headers=(("Location", "/moved"),))] * 9
    with pytest.raises(LakeError, match="more than 5 redirects"):
        fetch_file(site.url + "moved", target.with_name("other"), client, how, check_warc)


@pytest.mark.parametrize(
    ("where", "said"),
    [("http://[::1", "leads to 'http://.*no address"), ("http://h:99999/", "no address that can be asked for: Port"),
     ("ftp://h/x", "write it with http:// or https:// and a host"), ("http://a..b/", "no address that can be asked")],
)  # fmt: skip
def test_a_redirect_to_no_address_is_an_error(site, client, how, target, where, said):
    site.files["moved"] = b""
    site.faults["moved"] = [Fault(status=302, headers=(("Location", where),))]
    with pytest.raises(LakeError, match=said):
        fetch_file(site.url + "moved", target, client, how, check_warc)


def test_a_byte_range_comes_whole_or_not_at_all(site, serve, client, how):
    content = serve(SMALL)
    site.faults[SMALL] = [Fault(cut=50), Fault(status=500), Fault(shift=1)]
    with pytest.raises(ConnectionError):
        fetch_range(site.url + SMALL, 100, 900, client, how, lambda found: None)
    assert fetch_range(site.url + SMALL, 100, 900, client, how, lambda found: None) == content[100:1_000]
    site.faults[SMALL] = [Fault(ranges=False)]
    with pytest.raises(LakeError, match="answers 200 to a byte range"):
        fetch_range(site.url + SMALL, 100, 900, client, how, lambda found: None)


def test_a_small_answer_that_comes_steadily_for_ever_is_given_up(site, serve, client, how):
    content = serve(LARGE)
    assert fetch_small(site.url + LARGE, client, how)[0] == content
    with pytest.raises(LakeError, match="bytes came in 0 s, and more are to come"):
        fetch_small(site.url + LARGE, client, how, longest_s=0)


def test_an_answer_that_is_always_about_to_come_is_given_up(site, how):
    site.files["page"] = b"hello"
    site.faults["page"] = [Fault(hints=100_000)] * how.attempts
    with Client(1, 2.0, longest_s=0.5) as client, pytest.raises(TimeoutError, match="no answer, or too slow a one"):
        fetch_small(site.url + "page", client, how)


def test_a_host_is_tried_at_its_other_addresses(site, how, monkeypatch):
    """Nobody listens at the first."""
    real = socket.getaddrinfo

    def resolve(host, port, *rest, **options):
        hosts = ["127.0.0.2", "127.0.0.1"] if host == "two.example" else [host]
        return [entry for one in hosts for entry in real(one, port, *rest, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    site.files["page"] = b"hello"
    url = f"http://two.example:{site.server.server_port}/page"
    with Client(1, 2.0, chooser(["127.0.0.0/8"])) as client:
        assert fetch_small(url, client, how)[0] == b"hello"
    with Client(1, 2.0, chooser(["127.0.0.2/32"])) as client, pytest.raises(ConnectionError, match="refused"):
        fetch_small(url, client, how)


@pytest.mark.parametrize(("ending", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress)])
def test_a_table_is_checked_too(site, client, how, target, ending, pack):
    name = f"rows.jsonl.{ending}"
    site.files[name] = pack(b'{"url": "https://a.example/"}\n' * 99)[:-3]
    with pytest.raises(LakeError, match="damaged or cut off"):
        fetch_file(site.url + name, target.with_name(name), client, how, check_table)
