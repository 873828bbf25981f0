"""Damaged and foreign files are errors that name file, offset and fix; nothing is ever lost in silence."""

from __future__ import annotations

import gzip
import re

import pytest

from palimpsest.config import load_corpus, resolve
from palimpsest.ingest.sources import SourceFile, source_files
from palimpsest.ingest.warc import read_records
from palimpsest.lake import LakeError

LIMIT = 10_000_000
SAMPLE = "sample/pages.warc.gz"


def read(path):
    return list(read_records(SourceFile(path.name, path), LIMIT))


def test_plain_compressed_and_single_member_files_hold_the_same_records(tmp_path):
    packed = resolve(SAMPLE).read_bytes()
    plain = gzip.decompress(packed)
    found = []
    for name, content in {"a.warc.gz": packed, "a.warc": plain, "b.warc.gz": gzip.compress(plain)}.items():
        path = tmp_path / name
        path.write_bytes(content)
        found.append([(r.kind, r.url, r.date, r.payload) for r in read(path)])
    assert len(found[0]) == 93
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("cut", [1, 4, 9, 100, 3_000, 71_572, 271_000, 271_472])
def test_a_truncated_gzip_is_an_error(tmp_path, cut):
    path = tmp_path / "cut.warc.gz"
    path.write_bytes(resolve(SAMPLE).read_bytes()[:-cut])
    size = path.stat().st_size
    with pytest.raises(LakeError, match=rf"cut\.warc\.gz: truncated: .* offset \d+ .*offset {size}\); fetch the file"):
        read(path)


@pytest.mark.parametrize("cut", [1, 3, 50, 6_000, 300_000])
def test_a_truncated_plain_file_is_an_error(tmp_path, cut):
    path = tmp_path / "cut.warc"
    path.write_bytes(gzip.decompress(resolve(SAMPLE).read_bytes())[:-cut])
    with pytest.raises(LakeError, match=r"cut\.warc: (truncated|damaged).*offset \d+.*fetch the file again"):
        read(path)


def test_a_damaged_member_is_an_error(tmp_path):
    content = bytearray(resolve(SAMPLE).read_bytes())
    content[100_000:100_012] = b"XXXXXXXXXXXX"
    path = tmp_path / "bad.warc.gz"
    path.write_bytes(content)
    with pytest.raises(LakeError, match=r"bad\.warc\.gz: damaged after offset \d+: .*fetch the file again"):
        read(path)


def test_bytes_after_the_last_record_are_an_error(tmp_path):
    path = tmp_path / "tail.warc.gz"
    path.write_bytes(resolve(SAMPLE).read_bytes() + b"garbage")
    with pytest.raises(LakeError, match=r"tail\.warc\.gz: (damaged|truncated)"):
        read(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (gzip.compress(b"", mtime=0), "the file holds no record"),
        (b"<html><body>hello</body></html>", "not a WARC file: it begins with b'<html><bod' at offset 0"),
        (b"filedesc://example.arc 0.0.0.0 20140216050221 text/plain 76\n1 0", "damaged after offset 0: 73 bytes are"),
        (gzip.compress(b"just some text, compressed\n" * 50, mtime=0), "damaged after offset 0: Invalid WARC header"),
    ],
    ids=["empty", "no record", "html", "cut-off arc", "compressed text"],
)
def test_what_is_no_warc_is_named(tmp_path, content, message):
    path = tmp_path / "other.warc.gz"
    path.write_bytes(content)
    with pytest.raises(LakeError, match=re.escape(f"other.warc.gz: {message}")):
        read(path)


def test_a_missing_file_names_the_key_and_the_place(tmp_path, make_corpus, lake):
    with pytest.raises(LakeError, match=r"crawl\.yaml: source\.files\[0\]: no file matches '.*/none-\*\.warc\.gz'"):
        source_files(make_corpus(tmp_path / "none-*.warc.gz"), lake)


def test_globs_are_filled_in_sorted_and_each_file_is_read_once(tmp_path, make_corpus, lake):
    for name in ("b.warc.gz", "a.warc.gz"):
        (tmp_path / name).write_bytes(b"x")
    found = source_files(make_corpus(tmp_path / "*.warc.gz", tmp_path / "b.warc.gz"), lake)
    assert [file.path.name for file in found] == ["a.warc.gz", "b.warc.gz"]


def test_files_of_the_repository_are_named_as_the_corpus_names_them(lake):
    assert [file.name for file in source_files(load_corpus("sample"), lake)] == [SAMPLE]


def test_bodies_are_decoded_if_they_are_what_their_header_says(write_warc, response):
    page = b"<p>plain</p>"
    headers = {
        "gzip": (gzip.compress(page), "Content-Encoding: gzip\r\n"),
        "claimed": (page, "Content-Encoding: gzip\r\n"),
        "unknown": (page, "Content-Encoding: utf-8\r\n"),
        "chunked": (b"5\r\n<p>pl\r\n7\r\nain</p>\r\n0\r\n\r\n", "Transfer-Encoding: chunked\r\n"),
    }
    records = [response(f"https://a.example/{name}", body, extra=extra) for name, (body, extra) in headers.items()]
    broken = response("https://a.example/broken", b"no page at all", extra="Content-Encoding: br\r\n")
    found = read(write_warc([*records, broken, response("https://a.example/after")]))
    assert [(r.payload, r.fault) for r in found[:4]] == [(page, "")] * 4
    assert found[4].fault.startswith("Content-Encoding br: ")
    assert found[4].payload.endswith(b"no page at all")
    assert not found[5].fault


@pytest.mark.parametrize("encoded", [False, True])
def test_a_body_that_does_not_begin_with_a_chunk_is_taken_as_it_is(write_warc, response, encoded):
    """Many writers keep the header of a body that they have put together."""
    page, extra = b"<p>plain</p>", "Transfer-Encoding: chunked\r\n" + "Content-Encoding: gzip\r\n" * encoded
    bodies = [page, gzip.compress(page), b"0x5\r\n" + page, b"ZZZ\r\n" + page, b"<p>\r\nfeed\r\n"][
        : 2 if encoded else 5
    ]
    found = read(write_warc([response(f"https://a.example/{n}", body, extra=extra) for n, body in enumerate(bodies)]))
    assert [(r.payload, r.fault) for r in found] == [(page if encoded else body, "") for body in bodies]


@pytest.mark.parametrize(
    "body", [b"5\r\n<p>pl\r\nain</p>", b"c\r\n<p>pl", b"FFFFFFFFFFFFFFFF\r\n<p>", b"5;a=b\r\n<p>pl\r\n0\r\n"]
)
def test_a_body_that_begins_with_a_chunk_and_breaks_later_is_a_fault(write_warc, response, body):
    [found] = read(write_warc([response("https://a.example/", body, extra="Transfer-Encoding: chunked\r\n")]))
    assert found.fault
    assert found.payload.endswith(body)


@pytest.mark.parametrize("end", ["LF", "CRLF, the last LF", "LF in one line", "LF, the last CRLF"])
@pytest.mark.parametrize("body", [b"<p>a\n\nb\r\n\r\nc\n</p>\r\n", b"\n\r\n\n<p>\n", b""])
@pytest.mark.parametrize("archive", ["warc", "arc"])
def test_lines_of_an_http_head_may_end_with_lf_alone(tmp_path, record, end, body, archive):
    lines = ["HTTP/1.1 200 OK", "Content-Type: text/html; charset=latin-1", "X-A: b", ""]
    ends = {
        "LF": ["\n"] * 4, "CRLF, the last LF": ["\r\n"] * 3 + ["\n"],
        "LF in one line": ["\r\n", "\n", "\r\n", "\r\n"], "LF, the last CRLF": ["\n"] * 3 + ["\r\n"],
    }[end]  # fmt: skip
    block = "".join(line + how for line, how in zip(lines, ends, strict=True)).encode() + body
    path = tmp_path / f"x.{archive}"
    path.write_bytes(record("response", block, "https://a.example/", media="application/http; msgtype=response"))
    if archive == "arc":
        head = b"filedesc://a.arc 0.0.0.0 20261001000000 text/plain 8\n1 0 Test\n\n"
        path.write_bytes(head + b"https://a.example/ 192.0.2.1 20261001080000 text/html %d\n%s\n" % (len(block), block))
    found = read(path)[-1]
    assert (found.payload, found.fault) == (body, "")
    assert (found.http_status, found.content_type, found.charset) == (200, "text/html", "latin-1")


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("<https://a.example/>", "https://a.example/"),
        ("https://a.example/?q=a>", "https://a.example/?q=a>"),
        ("<https://a.example/?q=<b>>", "https://a.example/?q=<b>"),
        ("  https://a.example/  ", "https://a.example/"),
        ("https://me:pass@word@a.example/@me?to=x@y", "https://a.example/@me?to=x@y"),
        ("https://a.example?to=x@y", "https://a.example?to=x@y"),
        ("//me:word@a.example/", "//a.example/"),
        ("ht\ttps://me:word@a.example/", "https://a.example/"),
    ],
)
def test_an_address_loses_one_pair_of_brackets_and_a_password_only(write_warc, response, written, url):
    assert [record.url for record in read(write_warc([response(written)]))] == [url]


@pytest.mark.parametrize("spoil", [lambda c: b"<html>" + c, lambda c: c[:-9], lambda c: c[:600] + b"X" * 60 + c[660:]])
def test_an_error_names_both_ways_out(tmp_path, spoil):
    path = tmp_path / "x.warc.gz"
    path.write_bytes(spoil(resolve(SAMPLE).read_bytes()))
    with pytest.raises(
        LakeError, match=r"(source\.files|fetch the file again).*or set source\.damaged: quarantine to keep"
    ):
        read(path)
