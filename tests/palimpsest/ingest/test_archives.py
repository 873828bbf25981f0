"""Every format and compression of an archive gives the same records, and none can be cut off without an error."""

from __future__ import annotations

import gzip
import io
import itertools
import mmap
import random

import pyarrow as pa
import pytest
from fastwarc.stream_io import Lz4Writer, ZstdWriter

from palimpsest.config import resolve
from palimpsest.ingest.frames import frame_end
from palimpsest.ingest.sources import SourceFile
from palimpsest.ingest.warc import read_records
from palimpsest.lake import LakeError

HEAD = b"filedesc://a.arc 0.0.0.0 20260101000000 text/plain %d\n%s\n"
HEAD_2 = b"filedesc://a.arc 0.0.0.0 20260101000000 text/plain 200 - - 0 a.arc %d\n%s\n"
PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>A page of the time before WARC.</p>"


def packed(records: list[bytes], form: str) -> bytes:
    """The records compressed one by one, or (``-one``) as a single stream."""
    form, _, whole = form.partition("-")
    out = io.BytesIO()
    for part in [b"".join(records)] if whole else records:
        if form == "plain":
            out.write(part)
        elif form == "gzip":
            out.write(gzip.compress(part, mtime=0))
        else:
            writer = {"zstd": ZstdWriter, "lz4": Lz4Writer}[form](out)
            writer.write(part)
            writer.close()
    return out.getvalue()


def arc_record(url: bytes, block: bytes, version: int, media: bytes = b"text/html", date: bytes = b"20260102030405"):
    rest = b"" if version == 1 else b"200 - - 0 a.arc "
    return b"%s 192.0.2.1 %s %s %s%d\n%s\n" % (url, date, media, rest, len(block), block)


def arc(version: int) -> list[bytes]:
    note = b"%d 0 Made for a test\nURL IP-address Archive-date Content-type Archive-length\n" % version
    return [
        (HEAD if version == 1 else HEAD_2) % (len(note), note),
        arc_record(b"dns:a.example", b"192.0.2.1", version, b"text/dns"),
        arc_record(b"http://a.example/with a space", PAGE, version),
        arc_record(b"http://a.example/old", b"<p>HTTP 0.9</p>", version),
        arc_record(b"https://a.example/undated", PAGE, version, date=b"2026"),
    ]


def read(path):
    return list(read_records(SourceFile(path.name, path), 10_000))


def content(path):
    return [(r.kind, r.url, r.date, r.http_status, r.content_type, r.payload, bool(r.fault)) for r in read(path)]


@pytest.fixture(scope="module")
def sample() -> list[bytes]:
    """The first records of the sample corpus, each uncompressed."""
    plain = gzip.decompress(resolve("sample/pages.warc.gz").read_bytes())
    starts = [0]
    while len(starts) < 5:
        starts.append(plain.index(b"\r\n\r\nWARC/1.", starts[-1]) + 4)
    return [plain[start:end] for start, end in zip(starts, starts[1:], strict=False)]


@pytest.mark.parametrize("form", ["gzip", "gzip-one", "zstd", "zstd-one", "lz4", "lz4-one"])
def test_every_compression_gives_the_same_records(tmp_path, sample, form):
    plain, other = tmp_path / "a.warc", tmp_path / "a.warc.packed"
    plain.write_bytes(packed(sample, "plain"))
    other.write_bytes(packed(sample, form))
    assert len(content(plain)) == 4
    assert content(other) == content(plain)


@pytest.mark.parametrize("form", ["plain", "gzip", "gzip-one", "zstd", "zstd-one", "lz4", "lz4-one"])
def test_a_file_cut_off_anywhere_is_an_error(tmp_path, sample, form):
    whole = packed(sample, form)
    ends = {len(packed(sample[:n], form)) for n in range(5)}  # a file that ends with a record is a shorter file
    path = tmp_path / "cut.warc"
    for size in {*random.Random(0).sample(range(1, len(whole)), 25), len(whole) - 1, len(whole) - 4} - ends:
        path.write_bytes(whole[:size])
        with pytest.raises(LakeError, match=r"cut\.warc: (truncated|damaged|not a WARC)"):
            read(path)


@pytest.mark.parametrize("form", ["gzip", "gzip-one", "zstd", "lz4-one"])
def test_a_record_cut_off_before_it_was_compressed_is_an_error(tmp_path, sample, form):
    path = tmp_path / "cut.warc"
    last = sample[-1]
    for size in (len(last) - 1, len(last) - 5, len(last) // 2, last.index(b"\r\n\r\n", last.index(b"HTTP/")) + 4):
        path.write_bytes(packed([*sample[:-1], last[:size]], form))
        with pytest.raises(LakeError, match=r"cut\.warc: (truncated|damaged)"):
            read(path)


def test_records_behind_an_empty_member_are_not_lost_in_silence(tmp_path, sample):
    empty = packed([b""], "gzip")
    path = tmp_path / "gap.warc.gz"
    for content in (
        packed(sample[:2], "gzip") + empty + packed(sample[2:], "gzip"),
        empty * 3 + packed(sample, "gzip"),
    ):
        path.write_bytes(content)
        with pytest.raises(LakeError, match=r"gap\.warc\.gz: (truncated|damaged)"):
            read(path)
    path.write_bytes(packed(sample, "gzip") + empty)
    assert len(read(path)) == 4


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("form", ["plain", "gzip", "gzip-one"])
def test_the_records_of_an_arc_file(tmp_path, form, version):
    path = tmp_path / "a.arc.gz"
    records = arc(version)
    path.write_bytes(packed(records, form))
    found = read(path)
    assert [r.kind for r in found] == ["warcinfo", "resource", "response", "response", "response"]
    page, old, undated = found[2:]
    assert (page.url, page.http_status, page.content_type) == ("http://a.example/with a space", 200, "text/html")
    assert page.payload == PAGE.split(b"\r\n\r\n", 1)[1]
    assert page.date.isoformat() == "2026-01-02T03:04:05+00:00"
    assert old.fault and old.payload == b"<p>HTTP 0.9</p>"
    assert undated.date is None
    if form != "gzip-one":
        assert [r.offset for r in found] == [len(packed(records[:n], form)) for n in range(5)]


@pytest.mark.parametrize("form", ["plain", "gzip", "gzip-one"])
def test_an_arc_file_cut_off_anywhere_is_an_error(tmp_path, form):
    whole = packed(arc(1), form)
    ends = {len(packed(arc(1)[:n], form)) - back for n in range(6) for back in (0, form == "plain")}
    path = tmp_path / "cut.arc"
    for size in {*random.Random(1).sample(range(60, len(whole)), 40), len(whole) - 2} - ends:
        path.write_bytes(whole[:size])
        with pytest.raises(LakeError, match=r"cut\.arc: (damaged|truncated)"):
            read(path)


def test_an_arc_record_whose_length_spans_the_next_one_is_an_error(tmp_path):
    records = arc(1)
    line, block = records[2].split(b"\n", 1)
    more = len(block) - 1 + len(records[3])
    records[2] = line.rsplit(b" ", 1)[0] + b" %d\n" % more + block
    path = tmp_path / "long.arc.gz"
    path.write_bytes(packed(records, "gzip"))
    with pytest.raises(
        LakeError, match=r"long\.arc\.gz: damaged .*the length of the record at offset \d+ spans another"
    ):
        read(path)


def test_an_arc_file_with_a_bad_line_says_where(tmp_path):
    records = arc(1)
    path = tmp_path / "bad.arc"
    path.write_bytes(b"".join([*records[:2], b"http://a.example/ no length\n", *records[2:]]))
    with pytest.raises(LakeError, match=rf"bad\.arc: damaged .*no ARC record at offset {len(records[0] + records[1])}"):
        read(path)


@pytest.mark.parametrize("form", ["gzip", "zstd", "lz4"])
def test_where_a_frame_ends_is_seen_whatever_is_in_it(tmp_path, form):
    path, chance = tmp_path / "frames", random.Random(2)
    contents = [b"", b"x", b"x" * 3_000_000, chance.randbytes(3_000_000), b"word " * 9 + chance.randbytes(400_000)]
    packs = [lambda content: packed([content], form)]
    packs += [lambda content: pa.compress(content, form, asbytes=True)] if form == "zstd" else []
    for content, pack in itertools.product(contents, packs):
        frame = pack(content)
        path.write_bytes(frame * 2)
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            assert [frame_end(mapped, at) for at in (0, len(frame))] == [len(frame), 2 * len(frame)]
        path.write_bytes(frame[:-1])
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            assert frame_end(mapped, 0) is None
