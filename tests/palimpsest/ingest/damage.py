"""Crawl files with one damage each, by name: what disks, networks and enemies do to a WARC file."""

from __future__ import annotations

import gzip
import io
import re
import struct
from collections.abc import Callable

from fastwarc.stream_io import Lz4Writer, ZstdWriter

GOOD = "https://a.example/good"


def damaged_files(response: Callable[..., bytes], record: Callable[..., bytes]) -> dict[str, bytes]:
    """Each begins or ends with a readable record where the damage leaves one; names end in the suffix to give them."""
    good = response(GOOD)
    files: dict[str, bytes] = {
        "empty.warc": b"",
        "zeros.warc": bytes(1_000),
        "picture.warc": b"\x89PNG\r\n\x1a\n" * 50,
        "no-record.warc.gz": gzip.compress(b""),
        "garbage-between.warc": good + b"\0garbage\r\n" * 50 + good,
        "garbage-after.warc.gz": gzip.compress(good) + b"garbage",
    }
    for suffix, pack in ((".warc", bytes), (".warc.gz", gzip.compress)):
        files |= _cut(good, pack, suffix)
        for length in ("", "abc", "-5", "3", "1000000", "9" * 20):
            wrong = _with_length(response("https://a.example/wrong"), length)
            files[f"length-{length or 'none'}{suffix}"] = pack(wrong) + pack(good) + pack(good)
        files[f"takes-in{suffix}"] = b"".join(map(pack, taking_in(response)))
    files |= _bad_members(good) | _other_formats(response, good) | _enemies(response, good)
    files["type-unknown.warc"] = record("nonsense", b"block", "https://a.example/") + good
    return files


def _cut(good: bytes, pack: Callable[[bytes], bytes], suffix: str) -> dict[str, bytes]:
    """A first record whole, the second cut at every boundary of its structure and inside every part of it."""
    body = good.index(b"<html>")
    http = good.index(b"HTTP/1.1")
    if suffix == ".warc":
        places = [3, 10, good.index(b"WARC-Date") + 4, http - 4, http - 2, http, http + 9, body - 2, body, body + 40]
        places += [len(good) - 5, len(good) - 4, len(good) - 2, len(good) - 1]
    else:
        packed = len(pack(good))
        places = [1, 3, 9, 10, 11, packed // 2, packed - 9, packed - 8, packed - 4, packed - 1]
    return {f"cut-{place}{suffix}": pack(good) + pack(good)[:place] for place in places}


def _with_length(record: bytes, length: str) -> bytes:
    return re.sub(rb"(\r\n)Content-Length: \d+", rb"\1Content-Length: " + length.encode(), record, count=1)


def taking_in(response: Callable[..., bytes], more: int = 0, **about: str) -> list[bytes]:
    """Four records, /1 to /4. The Content-Length of the second spans the third, which fastwarc then does not see."""
    records = [response(f"https://a.example/{number}", **about) for number in range(1, 5)]
    own = int(re.search(rb"\r\nContent-Length: (\d+)", records[1])[1])
    records[1] = _with_length(records[1], str(own + len(records[2]) + more))
    return records


def _bad_members(good: bytes) -> dict[str, bytes]:
    member = gzip.compress(good)
    flipped = bytearray(member)
    flipped[40] ^= 0xFF
    return {
        "bits.warc.gz": member + bytes(flipped) + member,
        "checksum.warc.gz": member[:-8] + bytes(4) + member[-4:] + member,
        "size.warc.gz": member[:-4] + struct.pack("<I", 7) + member,
        "flags.warc.gz": member[:3] + b"\xff" + member[4:] + member,
        "method.warc.gz": b"\x1f\x8b\x07" + member[3:] + member,
        "stored-empty.warc.gz": gzip.compress(b"") * 50 + member,
    }


def frame(content: bytes, suffix: str) -> bytes:
    """The content as one frame of zstd (``.zst``) or LZ4 (``.lz4``)."""
    out = io.BytesIO()
    writer = {".zst": ZstdWriter, ".lz4": Lz4Writer}[suffix](out)
    writer.write(content)
    writer.close()
    return out.getvalue()


def _other_formats(response: Callable[..., bytes], good: bytes) -> dict[str, bytes]:
    files = {}
    for suffix in (".zst", ".lz4"):
        whole = frame(good, suffix)
        # A flipped bit in the content of an LZ4 frame can go unseen: its checksum is optional.
        files[f"header.warc{suffix}"] = whole + whole[:4] + b"\xff" * 8 + whole[12:] + whole + whole
        files[f"cut.warc{suffix}"] = whole + whole[: len(whole) // 2]
        files[f"one-stream.warc{suffix}"] = frame(good * 3, suffix)[:-20]
        files[f"takes-in.warc{suffix}"] = b"".join(frame(each, suffix) for each in taking_in(response))
        files[f"length.warc{suffix}"] = whole + frame(_with_length(good, "9" * 5_000), suffix) + whole
    head = b"filedesc://a.arc 0.0.0.0 20261001000000 text/plain 8\n1 0 Test\n\n"
    page = good[good.index(b"HTTP/1.1") : -4]
    line = b"https://a.example/arc 192.0.2.1 20261001080000 text/html "
    arc = line + b"%d\n%s\n" % (len(page), page)
    return files | {
        "line.arc": head + arc + line + b"many\n" + page + arc,
        "length.arc": head + arc + line + b"9" * 5_000 + b"\n" + page,
        "head.arc": head.replace(b" 8\n", b"\n") + arc,
        "cut.arc.gz": gzip.compress(head) + gzip.compress(arc) + gzip.compress(arc)[:-30],
        "version.arc": head.replace(b"1 0", b"7 0") + arc,
    }


def _enemies(response: Callable[..., bytes], good: bytes) -> dict[str, bytes]:
    many = "".join(f"X-H{number}: v\r\n" for number in range(1_000_000))
    bomb = gzip.compress(bytes(30_000_000))
    return {
        "http-headers.warc": response("https://a.example/headers", extra=many) + good,
        "warc-headers.warc": good.replace(b"WARC-Type", many.encode() + b"WARC-Type", 1) + good,
        "long-line.warc": response("https://a.example/" + "x" * 5_000_000) + good,
        "body-bomb.warc": response("https://a.example/bomb", bomb, extra="Content-Encoding: gzip\r\n") + good,
        "bomb-in-bomb.warc": response(
            "https://a.example/bomb", gzip.compress(bomb), extra="Content-Encoding: gzip, gzip\r\n"
        ) + good,
        "member-bomb.warc.gz": gzip.compress(response("https://a.example/bomb", bytes(30_000_000)))
        + gzip.compress(good),
        "header-injection.warc": response("https://a.example/\r\nWARC-Type: request\r\nX: ") + good,
        "status-injection.warc": response("https://a.example/", status="200 OK\r\nContent-Length: 99999999") + good,
        "chunks.warc": response("https://a.example/", b"F" * 16 + b"\r\n<p>", extra="Transfer-Encoding: chunked\r\n")
        + good,
        "paths.warc": response("file:///../../etc/passwd") + response("https://a.example/../../../etc/passwd%00")
        + response("https://../..//") + response("https://a.example:99999/\x00\x1b[31m")
        + response("https://a.example/WARC/1.0") + response("https://a.example/?as=WARC/1.1") + good,
    }  # fmt: skip
