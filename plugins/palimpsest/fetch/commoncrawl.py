"""Which files, or which captures in them, a corpus wants of Common Crawl."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlencode

from fastwarc.warc import ArchiveIterator, WarcRecord

from palimpsest.config import CommonCrawl, Corpus, Query, Transfer
from palimpsest.fetch.connection import Client
from palimpsest.fetch.part import Missing
from palimpsest.fetch.transfer import LARGEST_LIST, fetch_small
from palimpsest.ingest.records import without_user
from palimpsest.ingest.warc import record_url
from palimpsest.lake import LakeError

MOST_PAGES = 100_000
"""Of what the index has of one domain, each with some thousand captures; an index that has more never ends."""
T = TypeVar("T")


@dataclass(frozen=True, order=True)
class Capture:
    """One record of a crawl's WARC file, as the index gives it."""

    filename: str
    offset: int
    length: int
    digest: str
    """Base32 SHA-1 of the payload."""
    url: str

    def check(self, found: bytes) -> None:
        """Raise `LakeError` unless the bytes are that one record, whole."""
        member = zlib.decompressobj(wbits=31)
        try:
            plain = member.decompress(found, LARGEST_LIST)
        except zlib.error as error:
            raise LakeError(f"no gzip member: {error}") from None
        if member.unconsumed_tail:
            raise LakeError(f"a gzip member of more than {LARGEST_LIST} bytes, no capture of a page")
        if not member.eof or member.unused_data:
            raise LakeError("not one whole gzip member")
        try:
            [record] = [
                (record_url(r), r.headers.get("WARC-Payload-Digest"), _holds(r))
                for r in ArchiveIterator(io.BytesIO(plain), parse_http=False)
            ]
        except (OSError, ValueError) as error:
            raise LakeError(f"not one WARC record: {error}") from None
        if record != (url := without_user(self.url), f"sha1:{self.digest}", True):
            raise LakeError(
                f"the record there is of {record[0]} with payload {record[1]}"
                f"{'' if record[2] else ', damaged'}; the index has {url} with sha1:{self.digest}"
            )


def segment_paths(corpus: Corpus, client: Client) -> list[str]:
    """Paths of the files below the server that ``segments`` selects, crawl by crawl."""
    wanted = corpus.source.commoncrawl
    found: list[str] = []
    for crawl in wanted.crawls:
        url = f"{wanted.server}crawl-data/{crawl}/{wanted.records}.paths.gz"
        paths = _small(url, client, corpus.source.transfer, _paths)
        chosen = paths[wanted.segments.first :][: wanted.segments.count]
        if len(chosen) < wanted.segments.count:
            raise LakeError(
                f"{corpus.path}: source.commoncrawl.segments: {crawl} has {len(paths)} {wanted.records} files, none "
                f"beyond number {len(paths) - 1}; lower 'first' or 'count'"
            )
        found += chosen
    return found


def captures(corpus: Corpus, client: Client) -> list[list[Capture]]:
    """Every capture that ``query`` finds, each once: those of a crawl and domain by file and offset. What is found of
    one does not depend on the crawls and domains after it. Raises `LakeError` where a crawl has none of a domain.
    """
    wanted = corpus.source.commoncrawl
    found: list[list[Capture]] = []
    known: set[Capture] = set()
    for crawl in wanted.crawls:
        for number, domain in enumerate(wanted.query.domains):
            lines = set(_ask(wanted, crawl, domain, client, corpus.source.transfer))
            if not lines:
                raise LakeError(
                    f"{corpus.path}: source.commoncrawl.query.domains[{number}]: {crawl} has no capture of '{domain}' "
                    f"with mime {wanted.query.mime} and status {wanted.query.status}; correct or remove it"
                )
            found.append(sorted(lines - known))
            known |= lines
    return found


def _ask(wanted: CommonCrawl, crawl: str, domain: str, client: Client, how: Transfer) -> Iterator[Capture]:
    filters = [("filter", f"={key}:{value}") for key, value in _conditions(wanted.query).items()]
    base = f"{wanted.index}{crawl}-index?"
    asked = [("url", domain), ("matchType", "domain"), ("output", "json"), *filters]
    try:
        pages = _small(base + urlencode([*asked, ("showNumPages", "true")]), client, how, _page_count)
    except Missing as missing:
        _nothing(missing)  # of a domain that the crawl has no capture of
        return
    for page in range(pages):
        url = base + urlencode([*asked, ("page", page)])
        try:
            found = _small(url, client, how, lambda body: _captures(body, wanted.query, domain))
        except Missing as missing:
            _nothing(missing)  # none of the page's captures is as asked: pages are counted before they are filtered
            continue
        yield from found


def _nothing(missing: Missing) -> None:
    """Raise, unless it is the index's answer for no capture: other 404s are of a wrong address, or of a proxy."""
    try:
        says = str(json.loads(missing.said)["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        says = ""
    if not says.lower().startswith("no captures found"):
        raise missing


def _conditions(query: Query) -> dict[str, str]:
    conditions = {"mime": query.mime, "status": query.status}
    return {key: str(value) for key, value in conditions.items() if value is not None}


def _small(url: str, client: Client, how: Transfer, parse: Callable[[bytes], T]) -> T:
    """What ``parse`` makes of the answer; one cut off without a word is asked for once more."""
    for last in (False, True):
        body, _ = fetch_small(url, client, how)
        try:
            return parse(body)
        except LakeError:
            raise
        except (ValueError, KeyError, TypeError, EOFError, OSError, RecursionError, zlib.error) as error:
            if last:
                raise LakeError(f"{url}: no readable list of files or captures, twice: {error}") from None
    raise AssertionError


def _paths(body: bytes) -> list[str]:
    with gzip.open(io.BytesIO(body)) as stream:
        listed = stream.read(LARGEST_LIST + 1)
    if len(listed) > LARGEST_LIST:
        raise ValueError(f"more than {LARGEST_LIST} bytes in it")
    paths = listed.decode().split()
    if not paths or any(path.startswith("/") or ".." in path.split("/") for path in paths):
        raise ValueError("no list of paths below the server")
    return paths


def _page_count(body: bytes) -> int:
    pages = int(json.loads(body)["pages"])
    if pages > MOST_PAGES:
        raise ValueError(f"{pages} pages of one domain, more than {MOST_PAGES}")
    return pages


def _captures(body: bytes, query: Query, domain: str) -> list[Capture]:
    found = []
    for line in body.decode().splitlines():
        row = json.loads(line)
        capture = Capture(row["filename"], int(row["offset"]), int(row["length"]), row["digest"], row["url"])
        wrong = {key: row.get(key) for key, value in _conditions(query).items() if row.get(key) != value}
        if wrong:
            raise LakeError(f"the index gave {capture.url} for '{domain}', with {wrong}; it does not filter as asked")
        found.append(capture)
    return found


def _holds(record: WarcRecord) -> bool:
    digest = record.headers.get("WARC-Block-Digest") or ""
    return not digest.startswith("sha1:") or record.verify_block_digest()
