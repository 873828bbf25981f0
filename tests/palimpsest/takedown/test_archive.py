"""Records cut out of crawl files: the others stay as they are, byte by byte, in every form in which they are marked."""

from __future__ import annotations

import gzip

import pytest

from palimpsest.ingest.records import SourceFile
from palimpsest.ingest.warc import read_records
from palimpsest.lake import LakeError
from palimpsest.takedown import archive
from tests.palimpsest.ingest.conftest import record, response
from tests.palimpsest.ingest.damage import frame

GONE = "https://a.example/1"
PACKED = {
    ".warc": bytes,
    ".warc.gz": gzip.compress,
    ".warc.zst": lambda content: frame(content, ".zst"),
    ".warc.lz4": lambda content: frame(content, ".lz4"),
}


@pytest.fixture
def records():
    kept = [record("warcinfo", b"software: x\r\n"), response("https://a.example/0"), response("https://a.example/11")]
    asked = record("request", b"GET /1 HTTP/1.1\r\n\r\n", GONE, media="application/http; msgtype=request")
    return [kept[0], kept[1], asked, response(GONE), kept[2], response(GONE, b"<p>Captured again.</p>")]


@pytest.mark.parametrize("suffix", PACKED)
def test_what_stays_is_what_it_was(tmp_path, records, suffix):
    path = tmp_path / f"crawl{suffix}"
    packed = [PACKED[suffix](one) for one in records]
    path.write_bytes(b"".join(packed))
    assert archive.held(path, {GONE}) == (3, True)
    assert archive.held(path, {"https://a.example/"}) == (0, True)
    archive.cut(path, {GONE})
    assert path.read_bytes() == packed[0] + packed[1] + packed[4]
    assert archive.held(path, {GONE}) == (0, True)
    assert [one.url for one in read_records(SourceFile("x", path), 10_000)] == [
        "",
        *(f"https://a.example/{n}" for n in (0, 11)),
    ]
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_of_one_stream_cannot_be_cut(tmp_path, records):
    path = tmp_path / "crawl.warc.gz"
    path.write_bytes(gzip.compress(b"".join(records)))
    before = path.read_bytes()
    assert archive.held(path, {GONE}) == (3, False)
    with pytest.raises(LakeError, match="left as it is"):
        archive.cut(path, {GONE})
    assert path.read_bytes() == before


def test_a_file_that_loses_all_its_records_is_still_a_crawl_file(tmp_path):
    path = tmp_path / "crawl.warc.gz"
    path.write_bytes(gzip.compress(response(GONE)))
    archive.cut(path, {GONE})
    assert [one.kind for one in read_records(SourceFile("x", path), 10_000)] == ["warcinfo"]


def test_tables_hold_no_records(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"url": "https://a.example/1"}\n' * 9))
    assert archive.held(path, {GONE}) == (0, True)
    assert not archive.is_warc(path)
    with pytest.raises(LakeError, match="no WARC file"):
        archive.cut(path, {GONE})
