"""WARC files made for one test, and the corpus that reads them."""

from __future__ import annotations

import datetime as dt
import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from palimpsest.config import Corpus, Limits, Source

PAGE = (
    b"<html><head><title>A page</title></head><body><main><p>The harbour wall was finished in the spring of that year, "
    b"and the boats that had waited came in one by one. Nobody who stood on the quay that morning could have said how "
    b"many there were. The bell was rung for each.</p></main></body></html>"
)


def response(
    url: str, body: bytes = PAGE, date: str = "2026-10-01T08:00:00Z", content_type: str = "text/html; charset=utf-8",
    status: str = "200 OK", extra: str = "",
) -> bytes:  # fmt: skip
    http = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n{extra}\r\n".encode() + body
    return record("response", http, url, date, "application/http; msgtype=response")


def record(
    kind: str, block: bytes, url: str = "", date: str = "2026-10-01T08:00:00Z", media: str = "text/plain"
) -> bytes:
    head = f"WARC/1.1\r\nWARC-Type: {kind}\r\nWARC-Date: {date}\r\nContent-Type: {media}\r\n"
    head += "WARC-Record-ID: <urn:uuid:00000000-0000-4000-8000-000000000000>\r\n"
    head += f"WARC-Target-URI: {url}\r\n" if url else ""
    return f"{head}Content-Length: {len(block)}\r\n\r\n".encode() + block + b"\r\n\r\n"


@pytest.fixture(name="record")
def record_maker() -> Callable[..., bytes]:
    return record


@pytest.fixture(name="response")
def response_maker() -> Callable[..., bytes]:
    return response


@pytest.fixture
def write_warc(tmp_path: Path) -> Callable[..., Path]:
    def write(records: list[bytes], name: str = "crawl.warc.gz") -> Path:
        path = tmp_path / name
        packed = [gzip.compress(r, mtime=0) for r in records] if name.endswith(".gz") else records
        path.write_bytes(b"".join(packed))
        return path

    return write


@pytest.fixture
def make_corpus(tmp_path: Path) -> Callable[..., Corpus]:
    def make(*files: str | Path, **limits: float) -> Corpus:
        return Corpus(
            name="crawl",
            description="Made for a test.",
            source=Source(files=[str(file) for file in files]),
            start=dt.date(2026, 10, 1),
            end=dt.date(2026, 10, 28),
            limits=Limits(**limits),
            path=tmp_path / "crawl.yaml",
        )

    return make
