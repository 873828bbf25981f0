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
