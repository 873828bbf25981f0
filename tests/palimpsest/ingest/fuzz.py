"""Damaged crawl files and pages made at random, steered by the lines of the code that they reach (``make fuzz``).

Every input must end in records, and every page in a row of ``pages`` or of ``quarantine``; the records come in the
order of the file, and the sound one that stands behind an input that is plain or in gzip is the last of them (or in
the stretch of damage that is, in gzip). Any other exception, or an input that takes more than `SLOW_S` of processor
time, is a finding: it is written to .bench/fuzz and ends the run.
``python tests/palimpsest/ingest/fuzz.py --seconds 1200 [--seed N]``
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import random
import sys
import tempfile
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from palimpsest.config import Limits
from palimpsest.ingest import identifiers, pages, profiles, tokens
from palimpsest.ingest.records import SourceFile
from palimpsest.ingest.salvage import salvage_records
from palimpsest.ingest.worker import Poisoned
from tests.palimpsest.ingest.conftest import record, response
from tests.palimpsest.ingest.damage import damaged_files

CODE = str(Path(pages.__file__).parent)
FINDINGS = Path(__file__).parents[3] / ".bench" / "fuzz"
LIMIT = 200_000
SLOW_S = 10.0
LARGEST = 100_000  # bytes of an input that is changed further
LAST = "https://the-last.example/WARC/1.0"
BEHIND = {b"WARC/": response(LAST), b"\x1f\x8b": gzip.compress(response(LAST))}
"""The sound record behind an input that begins so."""
TOKENS = (
    b"WARC/1.0\r\n", b"\r\n\r\n", b"Content-Length: ", b"HTTP/1.1 200 OK\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Content-Encoding: gzip\r\n", b"\x1f\x8b\x08", b"<div>" * 300, b"<table><tr><td>", b"<![CDATA[", b"<!--", b"</p>",
    b"<pre>", b"<li>", b"&#xD800;", b"&amp;", b"\xff\xfe", b"\xef\xbb\xbf", b"\0", b"<meta charset=utf-16>", b"<svg>",
    b"/WARC/1.1", b"charset=x-user-defined", b"-1", b"99999999999", b"<noscript>", b"\xed\xa0\x80",
    b"DE89 3704 0044 0532 0130 00", b"4111 1111 1111 1111", b"https://u:word@a.example/", b"eyJhbGciOiJIUzI1NiJ9.e30.",
    b"-----BEGIN RSA PRIVATE KEY-----\n", b"AKIAIOSFODNN7EXAMPLE", b"192.0.2.1", b"+44 1632 960571", b"a.b@c.example",
    b"{ lorem ipsum ... \xe2\x80\xa6 \xe2\x80\xa2 ", b"[edit]", "Слово за словом. 文字。 ".encode(),
)  # fmt: skip


def run(seconds: float, seed: int, most: int = sys.maxsize) -> tuple[int, int]:
    """Inputs tried and lines reached: the damaged files as they are, then at most ``most`` that are changed at random.
    Raises what an input raised, after keeping the input.
    """
    chance = random.Random(seed)
    profiles.load("best")
    tokens.load()
    known = [content for content in damaged_files(response, record).values() if len(content) < LARGEST]
    reached: set[tuple[str, int]] = set()
    tried, fixed, end = 0, len(known), time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="palimpsest-fuzz-") as folder:
        while time.monotonic() < end and tried < fixed + most:
            first = tried < fixed
            content = known[tried] if first else _changed(chance, known)
            lines = _lines_reached(content, Path(folder), chance.choice(("resiliparse", "fast", "best")))
            if not first and lines - reached and len(content) < LARGEST:
                known.append(content)
            reached |= lines
            tried += 1
    return tried, len(reached)


def examine_all(path: Path, profile: profiles.Profile) -> None:
    """What the stage does with a file, without the process around a page that would hide a crash."""
    last, url, kind, content = -1, "", "", path.read_bytes()
    packed = not content.startswith(b"WARC/")  # its records may be in one frame, which has one offset
    for found in salvage_records(SourceFile(path.name, path), LIMIT):
        assert found.offset > last - packed, f"the record at offset {found.offset} comes behind the one at {last}"
        last, url, kind = found.offset, found.url, found.kind
        if not found.is_page:
            continue
        try:
            pages.check(found, Limits(max_page_bytes=LIMIT))
            asked = {"personal": identifiers.KINDS, "by_paragraph": True, "definitions": "datatrove"}
            pages.examine(found.payload, found.charset, 5, found.title, profile, **asked)
        except (pages.Quarantined, Poisoned):
            continue
    is_had = url == LAST or (packed and kind == "damage")
    assert is_had or not content.endswith(tuple(BEHIND.values())), f"the last record is lost behind {last}"


def _lines_reached(content: bytes, folder: Path, profile: profiles.Profile) -> set[tuple[str, int]]:
    lines: set[tuple[str, int]] = set()

    def trace(frame: FrameType, event: str, _: object) -> object:
        if not frame.f_code.co_filename.startswith(CODE):
            return None
        if event == "line":
            lines.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    path = folder / "input.warc.gz"
    path.write_bytes(content + next((last for mark, last in BEHIND.items() if content.startswith(mark)), b""))
    began = time.process_time()
    sys.settrace(trace)
    try:
        examine_all(path, profile)
        spent = time.process_time() - began
        if spent > SLOW_S:
            raise TimeoutError(f"{len(content)} bytes took {spent:.1f} s of processor time")
    except Exception as error:
        sys.settrace(None)
        FINDINGS.mkdir(parents=True, exist_ok=True)
        kept = FINDINGS / f"{hashlib.sha256(content).hexdigest()[:16]}.warc.gz"
        kept.write_bytes(content)
        raise AssertionError(f"{type(error).__name__}: {error} (profile {profile}; the input is {kept})") from error
    finally:
        sys.settrace(None)
    return lines


def _changed(chance: random.Random, known: Sequence[bytes]) -> bytes:
    """A known input after one to eight changes; a compressed one is mostly changed inside."""
    content = chance.choice(known)
    packed = content.startswith(b"\x1f\x8b") and chance.random() < 0.7
    if packed:
        try:
            content = gzip.decompress(content)[:LARGEST]
        except (OSError, EOFError, zlib.error):
            packed = False
    data = bytearray(content)
    for _ in range(chance.randint(1, 8)):
        at, length = chance.randint(0, len(data)), chance.choice((1, 2, 8, 64, 500))
        match chance.randrange(6):
            case 0:
                data[at : at + length] = b""
            case 1:
                data[at:at] = chance.choice(TOKENS)
            case 2:
                data[at : at + length] = chance.randbytes(length)
            case 3:
                data[at:at] = data[at : at + length] * chance.choice((1, 2, 50))
            case 4:
                other = chance.choice(known)
                start = chance.randint(0, len(other))
                data[at:at] = other[start : start + 2_000]
            case _:
                if at < len(data):
                    data[at] ^= 1 << chance.randrange(8)
    return gzip.compress(bytes(data)) if packed else bytes(data)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1_200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tried, lines = run(options.seconds, options.seed)
    print(f"{tried} inputs in {options.seconds:g} s, {lines} lines of the ingest reached, no finding")
    return 0


if __name__ == "__main__":
    sys.exit(main())
