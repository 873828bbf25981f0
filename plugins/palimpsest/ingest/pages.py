"""One response record, or row of a table, becomes one row of ``pages`` or one of ``quarantine``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

from palimpsest.config import Cleaning, Corpus, Definitions, Limits
from palimpsest.config.scoring import ScoreModel
from palimpsest.ingest import (
    datatrove,
    extract,
    identifiers,
    langid,
    markdown,
    minhash,
    models,
    paragraphs,
    pii,
    profiles,
    scores,
)
from palimpsest.ingest.records import Record
from palimpsest.ingest.worker import Poisoned

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
        ("charset_from", pa.string()),
        ("raw_sha256", pa.string()),
        ("raw_bytes", pa.int64()),
        ("language", pa.string()),
        ("language_score", pa.float64()),
        ("repaired", pa.bool_()),
        ("mojibake_lines", pa.int32()),
        ("replacement_characters", pa.int32()),
        ("pii_email", pa.int32()),
        ("pii_phone", pa.int32()),
        ("pii_ip", pa.int32()),
        *SCORES,
        ("minhash_bands", pa.list_(pa.int64())),
    ]
)
CHOICE = pa.schema([("extractor", pa.string()), *((f"{name}_words", pa.int64()) for name in profiles.EXTRACTORS)])
"""How a profile chose the text: words of each candidate, null for one that was not made."""
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
    """A record that cannot become a page. ``whole``: it is kept with all its bytes, to find out what it did."""

    def __init__(self, cause: str, detail: str, whole: bool = False) -> None:
        super().__init__(detail)
        self.cause, self.whole = cause, whole


def pages_schema(
    profile: profiles.Profile,
    cleaning: Cleaning | None = None,
    definitions: Definitions = "palimpsest",
    scored_by: Iterable[str] = (),
) -> pa.Schema:
    """Of ``pages.parquet``: one extractor alone has nothing to choose, and what is not asked for is not measured."""
    known = [(f"pii_{kind}", pa.int32()) for kind in identifiers.KINDS] + [("paragraph_languages", paragraphs.TYPE)]
    asked = pa.schema([field for field in known if cleaning and field[0] in cleaning.columns])
    parts = [PAGES, *([] if profile == "resiliparse" else [CHOICE]), asked]
    parts += [pa.schema([(models.COLUMN.format(name), pa.float64()) for name in scored_by])]
    return pa.unify_schemas([*parts, datatrove.COLUMNS] if definitions == "datatrove" else parts)


def examine(
    payload: bytes, charset: str, shingle_words: int, title: str | None = None,
    profile: profiles.Profile = "resiliparse", jaccard: float = 0.75,
    personal: Sequence[identifiers.Kind] = (), by_paragraph: bool = False, definitions: Definitions = "palimpsest",
    scored_by: Mapping[str, ScoreModel] | None = None, max_depth: int = 2_000,
) -> dict[str, Any]:  # fmt: skip
    """Everything that takes looking at the page; runs in the worker. With a ``title`` the payload is its text.

    The figures of the quality rules are of the text without the marks that the profile put into it. Raises `Poisoned`
    for a page that is nested too deep.
    """
    if title is None:
        check_depth(payload, max_depth, charset)
        found = extract.extract(payload, charset, profile)
    else:
        found = extract.plain(payload, charset, title)
    rest, numbers = identifiers.redact(found.text, personal)  # first: parts of an account number look like telephones
    redacted, counts = pii.redact(rest)
    measured = markdown.unmarked(redacted) if title is None and profile != "resiliparse" else redacted
    language, confidence = langid.identify(measured)
    text = extract.table_cells(redacted)
    return {
        "title": pii.redact(identifiers.redact(found.title, personal)[0])[0],
        "text": text,
        "charset": found.charset,
        "charset_from": found.charset_from,
        "repaired": found.mojibake > 0,
        "mojibake_lines": found.mojibake,
        "replacement_characters": redacted.count("\ufffd"),
        "language": language,
        "language_score": confidence,
        **{f"pii_{kind}": count for kind, count in (counts | numbers).items()},
        **({"paragraph_languages": paragraphs.languages(text)} if by_paragraph else {}),
        **scores.score(measured),
        **(datatrove.measure(extract.table_cells(measured)) if definitions == "datatrove" and text.strip() else {}),
        **models.score(redacted, scored_by or {}),
        "minhash_bands": minhash.bands(redacted, shingle_words, jaccard),
        "extractor": found.extractor,
        **{f"{name}_words": found.words.get(name) for name in profiles.EXTRACTORS},
    }


def questions(record: Record, corpus: Corpus) -> tuple:
    """What `examine` is to be called with. Raises `Quarantined` for what must not reach it."""
    check(record, corpus.limits)
    rules, cleaning = corpus.documents, corpus.cleaning
    asked = (record.charset, rules.shingle_words, record.title, corpus.extraction.profile, rules.near_duplicate_jaccard)
    asked += (cleaning.personal, cleaning.paragraph_languages, rules.definitions, corpus.scoring.models)
    return (record.payload, *asked, corpus.limits.max_depth)


def page_row(record: Record, warc_file: str, examined: dict[str, Any] | Poisoned) -> dict[str, Any]:
    """The row of ``pages``. Raises `Quarantined`."""
    if isinstance(examined, Poisoned):
        raise Quarantined(examined.cause, str(examined), whole=True)
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
        "payload": record.payload if why.whole else record.payload[:PAYLOAD_CAP],
    }


def withheld_row(of: Mapping[str, Any], cause: str, detail: str) -> dict[str, Any]:
    """The row of ``quarantine`` of a record of which nothing may be kept but where it stands."""
    row = {name: of[name] for name in ("fetched_at", "day", "warc_file", "warc_offset")}
    return dict.fromkeys(QUARANTINE.names) | row | {"cause": cause, "detail": detail}


def holds_unnamed(row: Mapping[str, Any]) -> bool:
    """Whether the bytes of a row of ``quarantine`` may be of any page: a damaged stretch, or a line without address."""
    return row["payload"] is not None and (row["cause"] == "damaged" or not row["url"])


def without_bytes(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row in a lake from which a page was taken down: without such bytes, for the page might be among them."""
    if not holds_unnamed(row):
        return dict(row)
    return {**row, "payload": None, "detail": f"{row['detail']}; its bytes are not kept: a page has been taken down"}


def check(record: Record, limits: Limits) -> None:
    """Raise `Quarantined` for what must not reach the worker; cheapest look first."""
    payload, media = record.payload, record.content_type.split(";")[0].strip()
    if record.kind == "damage":
        raise Quarantined(record.cause, record.fault)
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


def check_depth(payload: bytes, limit: int, declared_charset: str) -> None:
    """Raise `Poisoned` for a page that would take too long to read out; for the worker, since it looks at every tag."""
    depth = extract.depth_at_most(extract.with_ascii_tags(payload, declared_charset), limit)
    if depth > limit:
        raise Poisoned("too_deep", f"nested {depth} deep, more than {limit} (limits.max_depth)")
