"""Damaged crawl files end in pages or in a named quarantine: never a crash, a hang, or a record that is nowhere."""

from __future__ import annotations

import base64
import datetime as dt
import gzip
import hashlib
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from palimpsest.config import Source
from palimpsest.fetch.verify import check_warc
from palimpsest.fetch.warcfile import record as with_digest
from palimpsest.ingest.records import SourceFile
from palimpsest.ingest.salvage import FRUITLESS, salvage_records
from palimpsest.ingest.stage import extract_days
from palimpsest.ingest.warc import read_records
from palimpsest.lake import LakeError
from tests.palimpsest.ingest.damage import GOOD, damaged_files, frame, taking_in

LIMIT = 1_000_000


def salvaged(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    return list(salvage_records(SourceFile(name, tmp_path / name), LIMIT))


def test_every_damaged_file_ends_in_pages_or_in_quarantine(tmp_path, lake, response, record, make_corpus):
    files = damaged_files(response, record)
    assert len(files) > 50
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    corpus = make_corpus(*(tmp_path / name for name in files), max_page_bytes=LIMIT)
    corpus = corpus.model_copy(update={"source": corpus.source.model_copy(update={"damaged": "quarantine"})})
    (published,) = extract_days(corpus, [dt.date(2026, 10, 1)], lake)
    pages, quarantine = (
        pq.read_table(published.file(f"{table}.parquet")).to_pylist() for table in ("pages", "quarantine")
    )
    named = {row["warc_file"].rsplit("/", 1)[-1] for row in pages + quarantine}
    assert named == set(files)
    assert published.manifest["rows"]["input"] == len(pages) + len(quarantine)
    for row in quarantine:
        assert row["cause"] in {"damaged", "duplicate_record", "bad_http", "bad_url", "too_large", "binary", "no_text"}
        assert row["detail"]
        assert row["payload"] is not None


@pytest.mark.parametrize("suffix", [".warc", ".warc.gz"])
def test_what_lies_before_and_behind_the_damage_is_kept(tmp_path, response, record, suffix):
    files = damaged_files(response, record)
    for length in ("none", "abc", "-5", "3", "1000000", "9" * 20):
        found = salvaged(tmp_path, f"length-{length}{suffix}", files[f"length-{length}{suffix}"])
        kept = [r for r in found if r.kind == "response" and r.url == GOOD and not r.fault]
        assert [r.kind for r in found].count("damage") == 1, length
        assert len(kept) == 2, length


PACKED = {
    "plain": bytes,
    "gzip": gzip.compress,
    "zstd": lambda content: frame(content, ".zst"),
    "lz4": lambda content: frame(content, ".lz4"),
}


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_header_that_is_cut_off_takes_no_page_away(tmp_path, response, pack):
    first, cut, last = (response(f"https://a.example/{n}") for n in range(3))
    file = tmp_path / "x.warc"
    for end in range(1, cut.index(b"\r\n\r\n") + 3):
        file.write_bytes(pack(first + cut[:end] + last))
        with pytest.raises(LakeError, match="damaged"):
            list(read_records(SourceFile("x.warc", file), LIMIT))
        if pack is bytes:
            found = list(salvage_records(SourceFile("x.warc", file), LIMIT))
            assert [(r.kind, r.url) for r in found if not r.fault][-1] == ("response", "https://a.example/2"), cut[:end]
            assert sum(r.kind == "response" for r in found) <= 2
            assert "damage" in {r.kind for r in found}


@pytest.mark.parametrize("pack", ["plain", "one stream", "by record"])
def test_an_address_that_ends_as_a_record_begins_is_one(tmp_path, response, pack):
    addresses = ["https://a.example/1", "https://a.example/?as=WARC/1.1", "https://a.example/WARC/1.0"]
    records = [response(address) for address in addresses]
    file = tmp_path / "x.warc"
    packed = map(gzip.compress, records) if pack == "by record" else records
    file.write_bytes(gzip.compress(b"".join(packed)) if pack == "one stream" else b"".join(packed))
    assert [r.url for r in read_records(SourceFile("x.warc", file), LIMIT)] == addresses
    check_warc(file)


@pytest.mark.parametrize("form", PACKED)
@pytest.mark.parametrize("more", [0, 4])
def test_a_record_whose_length_spans_the_next_one_takes_no_page_away(tmp_path, response, form, more):
    path, pieces = tmp_path / "x.warc", [PACKED[form](each) for each in taking_in(response, more)]
    found = salvaged(tmp_path, path.name, b"".join(pieces))
    assert [(r.kind, r.url[-1]) for r in found] == [
        ("response", "1"), ("damage", "2"), ("response", "3"), ("response", "4")
    ]  # fmt: skip
    assert found[1].payload == pieces[1]
    for read in (lambda: list(read_records(SourceFile("x.warc", path), LIMIT)), lambda: check_warc(path)):
        with pytest.raises(LakeError, match=rf"damaged after offset {len(pieces[0])}: "):
            read()
    path.write_bytes(b"".join(pieces[:3]))  # the record that is taken in is the file's last
    assert [r.kind for r in salvaged(tmp_path, path.name, path.read_bytes())] == ["response", "damage", "response"]


def test_in_one_stream_too_a_length_that_spans_the_next_record_is_an_error(tmp_path, response):
    path = tmp_path / "x.warc.gz"
    path.write_bytes(gzip.compress(b"".join(taking_in(response))))
    with pytest.raises(LakeError, match="damaged: its Content-Length spans another whole record"):
        list(read_records(SourceFile("x.warc.gz", path), LIMIT))


@pytest.mark.parametrize("form", ["plain", "one stream"])
@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "md5"])
@pytest.mark.parametrize("write", [lambda d: d.hex(), lambda d: base64.b32encode(d).decode()], ids=["hex", "base32"])
def test_a_block_is_held_to_the_digest_that_its_record_gives(tmp_path, response, form, algorithm, write):
    good = response(GOOD)
    head, block = good[:-4].split(b"\r\n\r\n", 1)
    said = f"\r\nWARC-Block-Digest: {algorithm}:{write(hashlib.new(algorithm, block).digest())}"
    whole = head + said.encode() + b"\r\n\r\n" + block + b"\r\n\r\n"
    pack = gzip.compress if form == "one stream" else bytes
    assert [r.kind for r in salvaged(tmp_path, "x.warc", pack(whole * 3))] == ["response"] * 3
    broken = salvaged(tmp_path, "x.warc", pack(whole + whole.replace(b"harbour", b"HARBOUR") + whole))
    assert "has not the WARC-Block-Digest" in next(r.fault for r in broken if r.kind == "damage")
    if form == "plain":
        assert [r.kind for r in broken] == ["response", "damage", "response"]


@pytest.mark.parametrize("form", PACKED)
def test_a_page_that_holds_records_is_a_page(tmp_path, response, form):
    """Of a digest, or of its own frame, it is known that nothing was taken in."""
    pack, inner = PACKED[form], response(GOOD)
    bodies = {"packed": pack(inner) * 2, "plain": b"<p>" + inner, "ends as a record": b"<p>" + inner[:-4]}
    for body in bodies.values():
        block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + body
        page = gzip.decompress(with_digest("response", "https://a.example/", dt.datetime(2026, 10, 1), block))
        stored = gzip.compress(page, compresslevel=0) if form == "gzip" else pack(page)
        found = salvaged(tmp_path, "x.warc", pack(inner) + stored + pack(inner))
        assert [r.kind for r in found] == ["response"] * 3


@pytest.mark.parametrize("suffix", [".zst", ".lz4"])
def test_frames_behind_a_damaged_one_are_found(tmp_path, response, record, suffix):
    content = damaged_files(response, record)[f"header.warc{suffix}"]
    size = len(frame(response(GOOD), suffix))
    found = salvaged(tmp_path, f"header.warc{suffix}", content)
    assert [(r.kind, r.offset) for r in found if r.kind == "response"] == [
        ("response", 0), ("response", 2 * size), ("response", 3 * size)
    ]  # fmt: skip
    assert [(r.offset, r.payload) for r in found if r.kind == "damage"] == [(size, content[size : 2 * size])]


@pytest.mark.parametrize("form", PACKED)
@pytest.mark.parametrize("damage", ["first byte", "garbage in front"])
def test_a_damaged_beginning_takes_no_page_away(tmp_path, response, form, damage):
    """Of what begins there it cannot be told how the file is compressed; of what follows it can."""
    pieces = [PACKED[form](response(f"https://a.example/{number}")) for number in range(4)]
    front = b"\xff" + pieces.pop(0)[1:] if damage == "first byte" else b"\0garbage" * 900 + b"\x1f\x8bWARC/"
    content = front + b"".join(pieces)
    found = salvaged(tmp_path, "x.warc", content)
    assert [r.kind for r in found] == ["damage"] + ["response"] * len(pieces)
    assert [r.url[-1] for r in found[1:]] == list("0123"[-len(pieces) :])
    assert (found[0].offset, found[0].payload) == (0, front)
    assert "begins behind it" not in found[0].fault


@pytest.mark.parametrize("form", ["gzip", "zstd", "lz4"])
def test_a_record_that_takes_in_the_next_is_seen_behind_a_damaged_beginning_too(tmp_path, response, form):
    pieces = [PACKED[form](each) for each in taking_in(response)]
    found = salvaged(tmp_path, "x.warc", b"\0garbage" + b"".join(pieces))
    assert [(r.kind, r.url[-1:]) for r in found] == [
        ("damage", ""), ("response", "1"), ("damage", "2"), ("response", "3"), ("response", "4")
    ]  # fmt: skip


def test_one_stream_behind_a_damaged_beginning_is_read(tmp_path, response):
    pieces = b"".join(response(f"https://a.example/{number}") for number in range(3))
    found = salvaged(tmp_path, "x.warc.gz", b"\0garbage" + gzip.compress(pieces))
    assert [r.kind for r in found] == ["damage"] + ["response"] * 3


@pytest.mark.parametrize("form", ["gzip", "zstd", "lz4"])
@pytest.mark.parametrize("damage", ["garbage", "cut", "zeros", "header"])
def test_a_record_whose_own_frame_is_whole_is_a_page_whatever_follows(tmp_path, response, form, damage):
    good = PACKED[form](response(GOOD))
    bad = {
        "garbage": b"\0garbage" * 9, "cut": good[: len(good) // 2], "zeros": bytes(100_000),
        "header": good[:4] + b"\xff" * 8 + good[12:],
    }[damage]  # fmt: skip
    found = salvaged(tmp_path, "x.warc", good * 2 + bad + good)
    size = len(good)
    assert [(r.kind, r.offset) for r in found] == [
        ("response", 0), ("response", size), ("damage", 2 * size), ("response", 2 * size + len(bad))
    ]  # fmt: skip
    assert found[2].payload == bad[: 1 << 16]
    found = salvaged(tmp_path, "x.warc", good * 2 + bad)
    assert [(r.kind, r.offset) for r in found] == [("response", 0), ("response", size), ("damage", 2 * size)]


@pytest.mark.parametrize("place", [-8, -2], ids=["checksum", "size"])
def test_a_record_whose_own_frame_is_not_whole_is_damage(tmp_path, response, place):
    """Its page can be read to the end, yet gzip says that it is another."""
    good = gzip.compress(response(GOOD))
    bad = bytearray(good)
    bad[place] ^= 0xFF
    found = salvaged(tmp_path, "x.warc.gz", good + bytes(bad) + good)
    assert [r.kind for r in found] == ["response", "damage", "response"]
    assert found[1].payload == bad


@pytest.mark.parametrize("more", [b"more", b"WARC/1.1\r\nWARC-Ty"], ids=["text", "the next record"])
def test_a_frame_that_holds_more_than_its_record_is_damage(tmp_path, response, more):
    """What is behind the record would be nowhere."""
    good = response(GOOD)
    bad = gzip.compress(good + more)
    found = salvaged(tmp_path, "x.warc.gz", bad + b"\0garbage" + gzip.compress(good))
    assert [r.kind for r in found] == ["damage", "response"]
    assert found[0].payload == bad + b"\0garbage"


def test_a_record_with_two_lengths_takes_no_page_away(tmp_path, response):
    """One reader goes by the first of them, another by the last, by which the record is whole."""
    good = gzip.compress(response(GOOD))
    bad = gzip.compress(response(GOOD).replace(b"WARC-Record-ID", b"Content-Length: 5\r\nWARC-Record-ID", 1))
    found = salvaged(tmp_path, "x.warc.gz", good + bad + good)
    assert [r.kind for r in found] == ["response", "damage", "response"]
    assert found[1].payload == bad


@pytest.mark.parametrize("digest", ["right", "wrong", "none"])
def test_a_plain_record_before_the_damage_is_a_page_if_it_has_its_digest(tmp_path, response, digest):
    good = response(GOOD)
    head, block = good[:-4].split(b"\r\n\r\n", 1)
    said = hashlib.sha1(block if digest == "right" else b"another").hexdigest().encode()
    whole = good if digest == "none" else head + b"\r\nWARC-Block-Digest: sha1:" + said + good[len(head) :]
    bad = b"\0garbage" * 9
    found = salvaged(tmp_path, "x.warc", whole + bad + good)
    kinds = ["response", "damage", "response"] if digest == "right" else ["damage", "response"]
    assert [r.kind for r in found] == kinds
    assert found[-2].payload == (bad if digest == "right" else whole + bad)


def test_an_arc_file_is_read_up_to_its_damage(tmp_path, response, record):
    files = damaged_files(response, record)
    found = salvaged(tmp_path, "line.arc", files["line.arc"])
    assert [r.kind for r in found] == ["warcinfo", "damage"]  # the record before the damage is not trusted
    assert found[1].url == "https://a.example/arc"
    assert "no ARC record at offset" in found[1].fault
    assert "no record that can be read begins behind it" in found[1].fault


def test_a_damage_says_where_it_is_and_carries_its_bytes(tmp_path, response):
    good = response(GOOD)
    content = good + b"\0garbage" * 9 + good + good
    found = salvaged(tmp_path, "x.warc", content)
    assert [(r.kind, r.offset) for r in found] == [
        ("damage", 0), ("response", len(good) + 72), ("response", 2 * len(good) + 72)
    ]  # fmt: skip
    assert found[0].payload == content[: len(good) + 72]  # no byte of the next page: it may be taken down one day
    assert "damaged after offset 0" in found[0].fault


def test_a_whole_file_is_read_as_without_salvage(tmp_path, response):
    content = b"".join(gzip.compress(response(f"https://a.example/{n}")) for n in range(4))
    assert [r.url[-1] for r in salvaged(tmp_path, "whole.warc.gz", content)] == list("0123")


@pytest.mark.parametrize("case", ["bits", "empty members", "heads without an end", "long heads"])
def test_what_salvage_reads_grows_with_the_file_not_with_its_square(tmp_path, response, case):
    good = response(GOOD, b"<p>" + b"word " * 500)
    member = gzip.compress(good, compresslevel=0)
    spoiled = bytes(byte ^ (place in (40, 600)) for place, byte in enumerate(member))
    piece = {
        "bits": member + spoiled,
        "empty members": member + gzip.compress(b""),
        "heads without an end": b"WARC/1.0\r\nA: b\r\n" * 5,
        "long heads": b"WARC/1.0\r\nA: b\r\n" + b"B: " + b"x" * 5_000 + b"\r\n",
    }[case]
    few, many = (_read_by(lambda n=n: salvaged(tmp_path, "x.warc", piece * n)) for n in (200, 1_600))
    assert many < 2 * 8 * few


def test_a_stretch_is_looked_through_in_one_opening_of_the_file(tmp_path, response, monkeypatch):
    """However often what looks like the beginning of a record stands in it."""
    opened, really = [], Path.open
    monkeypatch.setattr(Path, "open", lambda self, *how, **more: opened.append(self) or really(self, *how, **more))
    counts = []
    for beginnings in (1, 1_000):
        good = response(GOOD)
        found = salvaged(tmp_path, "x.warc", good + b"\0" + b"WARC/ is no header\r\n" * beginnings + good * 2)
        assert [record.kind for record in found] == ["damage", "response", "response"]
        counts.append(len(opened))
        opened.clear()
    assert counts[0] == counts[1]


def _read_by(work) -> int:
    """Bytes that this process reads of files meanwhile."""

    def count() -> int:
        return int(dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())["rchar"])

    before = count()
    work()
    return count() - before


def test_a_file_of_nothing_but_beginnings_is_one_stretch_in_the_end(tmp_path, response):
    head = b"WARC/1.0\r\nA: b\r\n" + b"B: " + b"x" * 5_000 + b"\r\n"
    found = salvaged(tmp_path, "x.warc", response(GOOD) * 2 + head * (FRUITLESS + 100))
    assert [r.kind for r in found] == ["response"] + ["damage"] * (FRUITLESS + 1)
    assert "no record that can be read begins behind it" in found[-1].fault


def test_a_stretch_counts_for_the_day_of_the_record_before_it(tmp_path, response):
    """Also where that is whole and no part of it: a run of that day alone has to name what it could not read."""
    second = gzip.compress(response(GOOD, date="2026-10-02T00:00:00Z"))
    found = salvaged(tmp_path, "x.warc.gz", gzip.compress(response(GOOD)) + second + b"\0garbage" * 9 + second)
    assert [(r.kind, str(r.date)[:10]) for r in found[1:]] == [
        ("response", "2026-10-02"),
        ("damage", "2026-10-02"),
        ("response", "2026-10-02"),
    ]


def test_good_records_between_bad_ones_do_not_end_the_reading(tmp_path, response):
    """Each good one is the record before a damage, so it is quarantined; yet it could be read."""
    good, bad = response(GOOD), b"\0garbage" * 9
    found = salvaged(tmp_path, "x.warc", (good + bad) * (FRUITLESS + 100) + good * 2)
    assert [r.kind for r in found[-2:]] == ["response", "response"]
    assert {r.kind for r in found[:-2]} == {"damage"}
    assert [r.url for r in found].count(GOOD) == FRUITLESS + 102


def test_records_that_reach_beyond_the_file_cost_so_many_times_its_size(tmp_path, response, monkeypatch):
    """Each is read to the end of the file before it is known that it has none."""
    monkeypatch.setattr("palimpsest.ingest.salvage.REREAD", 3)
    monkeypatch.setattr("palimpsest.ingest.salvage.SMALL", 1)
    many = 60
    reaching = response(GOOD, b"<p>x</p>" * 20_000).replace(b"Content-Length: ", b"Content-Length: 9999", 1)
    content = response(GOOD) * 2 + reaching * many
    file = tmp_path / "x.warc"
    file.write_bytes(content)
    found = []
    read = _read_by(lambda: found.extend(salvage_records(SourceFile("x.warc", file), 1_000)))
    assert [r.kind for r in found] == ["response"] * 2 + ["damage"] * (len(found) - 2)
    assert read < 3 * 10 * len(content), "not the square of what is in it"
    assert found[-1].offset > 0 and "no record that can be read begins behind it" in found[-1].fault
    ends = [r.offset for r in found]
    assert ends == sorted(ends) and len(found) < many


def test_only_crawl_files_can_be_salvaged():
    with pytest.raises(ValueError, match="source kind 'table' takes no 'damaged'"):
        Source(kind="table", files=["a.jsonl"], damaged="quarantine")
