"""The remote files of a corpus: what identifies each, and how it is brought."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from palimpsest.config import Corpus, Transfer, is_url
from palimpsest.fetch import commoncrawl, hub, objects
from palimpsest.fetch.connection import Client
from palimpsest.fetch.transfer import fetch_file, fetch_range, is_http
from palimpsest.fetch.verify import check_table, check_warc
from palimpsest.lake import LakeError, Rows, digest_json

BATCH = 500
"""Captures of the index that are kept in one file."""
Bring = Callable[[Path, Client, Callable[[int], None]], dict[str, Any]]


@dataclass(frozen=True)
class Wanted:
    """One file to have."""

    identity: dict[str, str]
    """What it is, wherever it is fetched from."""
    name: str
    """As pages name it; its last part is the file's."""
    bring: Bring
    """Puts the file into a folder, whose contents outlive a failure, and gives the facts for its manifest."""

    @property
    def file(self) -> str:
        return self.name.rsplit("/", 1)[-1]

    @property
    def dataset(self) -> str:
        return f"captures/{digest_json(self.identity)[:16]}"


def wanted_files(corpus: Corpus, client: Client) -> list[Wanted]:
    """Every remote file of the corpus once. Raises `LakeError` for a place that has none."""
    source, how = corpus.source, corpus.source.transfer
    if source.kind == "huggingface":
        return [_hub_file(file, how) for file in hub.dataset_files(corpus, client)]
    if source.kind != "commoncrawl":
        return _addressed(corpus)
    chosen = source.commoncrawl
    if chosen.segments:
        return [_segment(path, chosen.server, how) for path in commoncrawl.segment_paths(corpus, client)]
    return [
        _batch(found[start : start + BATCH], chosen.server, how)
        for found in commoncrawl.captures(corpus, client)  # a batch is of one crawl and domain: others leave it alone
        for start in range(0, len(found), BATCH)
    ]


def _addressed(corpus: Corpus) -> list[Wanted]:
    """Those of ``source.files`` that are addresses; what stars match in a bucket is looked up there."""
    how, check = corpus.source.transfer, check_table if corpus.source.is_table else check_warc
    found: dict[str, Wanted] = {}
    for number, address in enumerate(corpus.source.files):
        if not is_url(address):
            continue
        urls = [address]
        if "*" in address and not is_http(address):
            urls = objects.matching(address)
            if not urls:
                raise LakeError(f"{corpus.path}: source.files[{number}]: nothing matches '{address}'; correct it")
        for url in urls:
            file = urlsplit(url).path.rsplit("/", 1)[-1]
            name = url if url.endswith(file) else f"{url}/{file}"
            found[url] = Wanted({"url": url}, name, _whole(url, file, how, check))
    return list(found.values())


def _whole(url: str, file: str, how: Transfer, check: Callable[[Path], dict[str, Any]]) -> Bring:
    def bring(folder: Path, client: Client, note: Callable[[int], None]) -> dict[str, Any]:
        return fetch_file(url, folder / file, client, how, check, note)

    return bring


def _hub_file(file: hub.HubFile, how: Transfer) -> Wanted:
    def check(path: Path) -> dict[str, Any]:
        file.check(path)
        return check_table(path)

    return Wanted({"hub": file.name}, file.name, _whole(file.url, file.name.rsplit("/", 1)[-1], how, check))


def _segment(path: str, server: str, how: Transfer) -> Wanted:
    return Wanted({"commoncrawl": path}, path, _whole(server + path, path.rsplit("/", 1)[-1], how, check_warc))


def _batch(captures: Sequence[commoncrawl.Capture], server: str, how: Transfer) -> Wanted:
    """Single records in one file; each is kept by itself until all are there."""
    listed = [[c.filename, c.offset, c.length, c.digest] for c in captures]
    name = f"captures-{digest_json(listed)[:16]}.warc.gz"

    def bring(folder: Path, client: Client, note: Callable[[int], None]) -> dict[str, Any]:
        parts = []
        for capture in captures:
            part = folder / hashlib.sha256(f"{capture.filename}:{capture.offset}".encode()).hexdigest()[:24]
            if not part.exists():
                found = fetch_range(
                    server + capture.filename, capture.offset, capture.length, client, how, capture.check
                )
                whole = part.with_suffix(".partial")
                whole.write_bytes(found)
                os.replace(whole, part)
                note(len(found))
            parts.append(part)
        with (folder / name).open("wb") as out:
            for part in parts:
                out.write(part.read_bytes())
        return {**check_warc(folder / name), "rows": Rows(len(captures), len(captures))}

    return Wanted({"commoncrawl": digest_json(listed)}, name, bring)
