"""One response record, or row of a table, becomes one row of ``pages`` or one of ``quarantine``."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

from palimpsest.config import Limits
from palimpsest.ingest import extract, langid, minhash, pii, scores
from palimpsest.ingest.records import Record
from palimpsest.ingest.worker import Poisoned, Worker

PAYLOAD_CAP = 65_536  # bytes of a quarantined payload kept, as captured (not redacted); the rest lies in the WARC
HTML = ("text/html", "application/xhtml+xml")

SCORES = pa.schema(
    [(name, pa.int64() if isinstance(value, int) else pa.float64()) for name, value in scores.score("a b c").items()]
)
UTC = pa.timestamp("us", tz="UTC")
PAGES = pa.schema(
    [
        ("page_id", pa.string()),
        ("url", pa.string()),
        ("site", pa.string()),
        ("title", pa.string()),
        ("text", pa.string()),
        ("fetched_at", UTC),
        ("day", pa.date32()),
        ("warc_file", pa.string()),
        ("warc_offset", pa.int64()),
        ("http_status", pa.int32()),
        ("content_type", pa.string()),
        ("charset", pa.string()),
        ("raw_sha256", pa.string()),
        ("raw_bytes", pa.int64()),
        ("language", pa.string()),
        ("language_score", pa.float64()),
        ("repaired", pa.bool_()),
        ("pii_email", pa.int32()),
        ("pii_phone", pa.int32()),
        ("pii_ip", pa.int32()),
        *SCORES,
        ("minhash_bands", pa.list_(pa.int64())),
    ]
)
QUARANTINE = pa.schema(
    [
        ("url", pa.string()),
        ("fetched_at", UTC),
        ("day", pa.date32()),
        ("warc_file", pa.string()),
        ("warc_offset", pa.int64()),
        ("http_status", pa.int32()),
        ("content_type", pa.string()),
        ("cause", pa.string()),
        ("detail", pa.string()),
        ("payload", pa.binary()),
    ]
)


class Quarantined(Exception):
    """A record that cannot become a page."""

    def __init__(self, cause: str, detail: str) -> None:
        super().__init__(detail)
        self.cause = cause


def examine(payload: bytes, charset: str, shingle_words: int, title: str | None = None) -> dict[str, Any]:
    """Everything that takes looking at the page; runs in the worker. With a ``title`` the payload is its text."""
    found = extract.extract(payload, charset) if title is None else extract.plain(payload, charset, title)
    redacted, counts = pii.redact(found.text)
    title, _ = pii.redact(found.title)
    language, confidence = langid.identify(redacted)
    return {
        "title": title,
        "text": extract.table_cells(redacted),
        "charset": found.charset,
        "repaired": found.repaired,
        "language": language,
        "language_score": confidence,
        **{f"pii_{kind}": count for kind, count in counts.items()},
        **scores.score(redacted),
        "minhash_bands": minhash.bands(redacted, shingle_words),
    }


def page_row(record: Record, warc_file: str, limits: Limits, shingle_words: int, worker: Worker) -> dict[str, Any]:
    """The row of ``pages``. Raises `Quarantined`."""
    _check(record, limits)
    try:
        examined = worker(record.payload, record.charset, shingle_words, record.title)
    except Poisoned as poison:
        raise Quarantined(poison.cause, str(poison)) from None
    if not examined["text"].strip():
        raise Quarantined("no_text", "the page holds no main text")
    date = record.date.isoformat().replace("+00:00", "Z")
    return {
        "page_id": hashlib.sha256(f"{record.url}\0{date}".encode()).hexdigest()[:16],
        "url": record.url,
        "site": urlsplit(record.url).netloc.lower(),
        "fetched_at": record.date,
        "day": record.date.date(),
        "warc_file": warc_file,
        "warc_offset": record.offset,
        "http_status": record.http_status,
        "content_type": record.content_type,
        "raw_sha256": hashlib.sha256(record.payload).hexdigest(),
        "raw_bytes": len(record.payload),
        **examined,
    }


def quarantine_row(record: Record, warc_file: str, day: object, why: Quarantined) -> dict[str, Any]:
    return {
        "url": record.url,
        "fetched_at": record.date,
        "day": day,
        "warc_file": warc_file,
        "warc_offset": record.offset,
        "http_status": record.http_status,
        "content_type": record.content_type,
        "cause": why.cause,
        "detail": str(why),
        "payload": record.payload[:PAYLOAD_CAP],
    }


def _check(record: Record, limits: Limits) -> None:
    """Raise `Quarantined` for what must not reach the parser; cheapest look first."""
    payload, media = record.payload, record.content_type.split(";")[0].strip()
    if record.date is None:
        raise Quarantined("bad_date", "the record has no readable date")
    try:
        site = urlsplit(record.url).netloc
    except ValueError:  # http://[::1
        site = ""
    if not site:
        raise Quarantined("bad_url", f"its address is {record.url!r}, no URL with a site")
    if record.fault:
        raise Quarantined(record.cause, record.fault)
    if record.kind == "response" and record.http_status != 200:
        raise Quarantined("http_status", f"HTTP {record.http_status}")
    if not payload:
        raise Quarantined("empty", f"the {record.kind} has no {'body' if record.kind == 'response' else 'text'}")
    if len(payload) > limits.max_page_bytes:
        raise Quarantined("too_large", f"more than {limits.max_page_bytes} bytes (limits.max_page_bytes)")
    if record.title is not None:
        return
    if media and media not in HTML:
        raise Quarantined("not_html", f"Content-Type {media}")
    if extract.is_binary(payload):
        raise Quarantined("binary", f"declared {media or 'nothing'}, but the bytes are no text")
    if not media and b"<" not in payload[:4096]:
        raise Quarantined("not_html", "no Content-Type and no markup")
    depth = extract.depth_at_most(payload, limits.max_depth)
    if depth > limits.max_depth:
        raise Quarantined("too_deep", f"nested {depth} deep, more than {limits.max_depth} (limits.max_depth)")
