"""From a crawl file to texts and to pages beside datatrove's pipeline and a bare loop, on the same file and one core.

* *texts*: records read, pages extracted with profile ``fast`` in the bounded worker, lines of JSON written; against
  datatrove's WARC reader, its default extractor (trafilatura, precision favoured) and writer, and against resiliparse
  alone over fastwarc's reader, with no bounds, quarantine, charsets by bytes or repair.
* *pages*: the whole stage as a corpus runs it: texts with language, personal data, scores and MinHash signatures, as
  Parquet, against datatrove's texts alone.

Processor seconds are counted, of all processes that take part, so other load weighs on all alike. The file is made of
the 528 pages of $PALIMPSEST_DATA/html, a compressed WARC record each.
"""

from __future__ import annotations

import gzip
import itertools
import json
import sys
import tempfile
import uuid
from pathlib import Path

from fastwarc.warc import ArchiveIterator, WarcRecordType
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import bytes_to_str, detect_encoding

from palimpsest.config import Limits, load_corpus
from palimpsest.config.files import data_dir
from palimpsest.ingest import extract, profiles
from palimpsest.ingest.pages import check, check_depth
from palimpsest.ingest.records import SourceFile
from palimpsest.ingest.stage import extract_days
from palimpsest.ingest.warc import read_records
from palimpsest.ingest.worker import Worker
from palimpsest.lake import Lake
from tests.benchmarks.serving import one_core
from tests.benchmarks.serving.clients import datatrove_python

BASE = Path(__file__).parents[2] / ".bench"
PEER = [
    "datatrove==0.10.1", "trafilatura==2.3.1", "warcio==1.8.1", "faust-cchardet==3.2.0", "python-magic==0.4.27",
    "orjson==3.13.0", "lxml==6.1.3", "lxml_html_clean==0.4.6", "numpy==2.4.6", "regex==2026.11.15",
]  # fmt: skip
DAY = "2024-01-01"
ROUNDS = 3


def run() -> list[dict]:
    html = data_dir() / "html" / "wcxb_dev"
    if not html.exists():
        print(f"ingest: no pages in {html}; set PALIMPSEST_DATA to the data folder")
        return []
    python = datatrove_python(BASE, "datatrove-ingest", PEER)
    with tempfile.TemporaryDirectory(prefix="palimpsest-bench-") as scratch:
        file = Path(scratch) / "pages.warc.gz"
        count = write(html, file)
        commands = {side: [sys.executable, __file__, side] for side in SIDES}
        if python:
            commands["datatrove"] = [str(python), str(Path(__file__).parent / "filters" / "warc.py")]
        took = {side: [] for side in commands}
        for number in range(ROUNDS):
            for side, command in commands.items():
                out = Path(scratch) / f"{side}{number}"
                out.mkdir()
                took[side].append(one_core.run([*command, str(file), str(out)]))
    found = {side: min(took[side], key=lambda once: once["seconds"]) for side in took}
    for side, once in found.items():
        print(f"ingest: {side}: {once['texts']} texts of {count} pages in {once['seconds']:.1f} s")
    rows = []
    for ours, peer in itertools.product(("texts", "pages"), ("datatrove", "bare")):
        if peer in found:
            name = f"ingest: WARC to {ours}, profile fast, against {PEERS[peer]}"
            speeds = {"ours": count / found[ours]["seconds"], "peer": count / found[peer]["seconds"]}
            rows.append({"name": name, **speeds, "unit": "pages/s"})
    return rows


def write(html: Path, file: Path) -> int:
    """The pages as one compressed WARC, a member each; how many."""
    lines = gzip.decompress((html / "gold.jsonl.gz").read_bytes()).splitlines()
    with file.open("wb") as archive:
        for number, line in enumerate(lines):
            page = json.loads(line)
            payload = gzip.decompress((html / page["file"]).read_bytes())
            http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(payload)
            body = http + payload
            head = (
                f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:{uuid.UUID(int=number)}>\r\n"
                f"WARC-Target-URI: {page['url']}\r\nWARC-Date: {DAY}T00:00:{number % 60:02d}Z\r\n"
                f"Content-Type: application/http;msgtype=response\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            archive.write(gzip.compress(head.encode() + body + b"\r\n\r\n"))
    return len(lines)


def texts(file: Path, out: Path) -> int:
    """Our reader, checks, worker and `fast`."""
    limits, count = Limits(), 0
    profiles.load("fast")
    with (
        Worker(_text, limits.page_timeout_s, limits.page_memory_mb) as worker,
        (out / "texts.jsonl").open("w") as lines,
    ):
        for record in read_records(SourceFile(file.name, file), limits.max_page_bytes):
            check(record, limits)
            if text := worker(record.payload, record.charset, limits.max_depth):
                count += 1
                lines.write(json.dumps({"url": record.url, "text": text}) + "\n")
    return count


def _text(payload: bytes, charset: str, max_depth: int) -> str:
    check_depth(payload, max_depth, charset)
    return extract.extract(payload, charset, "fast").text


def pages(file: Path, out: Path) -> int:
    """The stage as a corpus runs it."""
    corpus = load_corpus(_corpus(file, out))
    [published] = extract_days(corpus, [corpus.start], Lake(str(out / "lake")))
    return published.manifest["rows"]["kept"]


def _corpus(file: Path, out: Path) -> Path:
    said = {
        "name": "bench",
        "description": "Pages with a gold text.",
        "source": {"kind": "warc", "files": [str(file)]},
        "schedule": "@daily",
    }
    said |= {"start": DAY, "end": DAY, "extraction": {"profile": "fast"}}
    made = out / "bench.yaml"
    made.write_text(json.dumps(said))
    return made


def bare(file: Path, out: Path) -> int:
    count = 0
    with file.open("rb") as stream, (out / "texts.jsonl").open("w") as lines:
        for record in ArchiveIterator(stream, record_types=WarcRecordType.response, parse_http=True):
            payload = record.reader.read()
            page = bytes_to_str(payload, record.http_charset or detect_encoding(payload))
            if text := extract_plain_text(page, main_content=True, alt_texts=False, list_bullets=False):
                count += 1
                lines.write(json.dumps({"url": record.headers["WARC-Target-URI"], "text": text}) + "\n")
    return count


SIDES = {"texts": texts, "pages": pages, "bare": bare}
PEERS = {"datatrove": "datatrove with its default extractor", "bare": "bare resiliparse over fastwarc"}


if __name__ == "__main__":
    began = one_core.seconds()  # imports are not counted, on either side
    count = SIDES[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
    print(json.dumps({"texts": count, "seconds": one_core.seconds() - began}))
