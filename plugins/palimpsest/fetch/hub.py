"""Data files of a dataset on the Hugging Face hub at one commit, each with the digest that the hub has of it.

They are listed and addressed over the hub's HTTP interface, so that they come under the same rules as every other file.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from palimpsest.config import Corpus
from palimpsest.fetch.connection import Client, origin, resolved
from palimpsest.fetch.part import Damaged
from palimpsest.fetch.transfer import fetch_small
from palimpsest.lake import LakeError, digest_file

HUB = "https://huggingface.co"
MOST_PAGES = 1_000
"""Of a dataset's list of files, each with up to a thousand; a list that has more never ends."""
NEXT = re.compile(r'<([^>]+)>;\s*rel="next"')


@dataclass(frozen=True)
class HubFile:
    """``name``: hf://datasets/<repo>@<revision>/<path>; ``sha256`` is known of files in large file storage."""

    name: str
    path: str
    url: str
    size: int
    sha256: str | None
    git_sha1: str
    """Of git's blob, for small files that are not in large file storage."""

    def check(self, path: Path) -> None:
        """Raise `LakeError` unless this is the file of that commit."""
        if self.sha256:
            found, expected = digest_file(path), self.sha256
        else:
            content = path.read_bytes()
            found, expected = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(), self.git_sha1
        if found != expected:
            raise Damaged(f"its digest is {found}, the hub has {expected}")


def endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")


def tokens() -> dict[str, str]:
    """The Authorization header for the hub's own scheme, host and port, and no other that it sends a request on to."""
    token = os.environ.get("HF_TOKEN")
    return {origin(endpoint()): f"Bearer {token}"} if token else {}


def dataset_files(corpus: Corpus, client: Client) -> list[HubFile]:
    """The files that ``source.huggingface.files`` selects, by path. Raises `LakeError` for a pattern without a file."""
    wanted = corpus.source.huggingface
    listed = {entry["path"]: entry for entry in _tree(corpus, client) if entry["type"] == "file"}
    chosen: set[str] = set()
    for number, pattern in enumerate(wanted.files):
        matched = set(fnmatch.filter(listed, pattern))
        if not matched:
            data = sorted(path for path in listed if path.endswith((".parquet", ".gz", ".zst", ".jsonl", ".json")))
            raise LakeError(
                f"{corpus.path}: source.huggingface.files[{number}]: no file of {wanted.repo} at {wanted.revision} "
                f"matches '{pattern}'; it has {', '.join(data[:8]) or 'no data files'}{' …' if len(data) > 8 else ''}"
            )
        chosen |= matched
    return [
        file_of(corpus, path, listed[path]["size"], (listed[path].get("lfs") or {}).get("oid"), listed[path]["oid"])
        for path in sorted(chosen)
    ]


def file_of(corpus: Corpus, path: str, size: int, sha256: str | None, git_sha1: str) -> HubFile:
    """A file of the dataset, at the address that the hub gives it out from now."""
    wanted = corpus.source.huggingface
    url = f"{endpoint()}/datasets/{wanted.repo}/resolve/{wanted.revision}/{quote(path)}"
    return HubFile(f"hf://datasets/{wanted.repo}@{wanted.revision}/{path}", path, url, size, sha256, git_sha1)


def _entries(body: bytes) -> list[dict]:
    found = json.loads(body)
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise ValueError(f"a list of files is expected: {body[:100]!r}")
    for entry in found:
        expected = {"path": str, "type": str} | ({"size": int, "oid": str} if entry.get("type") == "file" else {})
        for key, kind in expected.items():
            if not isinstance(entry.get(key), kind):
                raise ValueError(f"an entry without '{key}': {str(entry)[:100]}")
    return found


def _tree(corpus: Corpus, client: Client) -> list[dict]:
    wanted = corpus.source.huggingface
    url, found = f"{endpoint()}/api/datasets/{wanted.repo}/tree/{wanted.revision}?recursive=true", []
    for _ in range(MOST_PAGES):
        body, link = fetch_small(url, client, corpus.source.transfer)
        try:
            found += _entries(body)
        except (ValueError, RecursionError) as error:
            raise ConnectionError(f"{url}: no list of files: {error}") from None
        following = NEXT.search(link)
        if following is None:
            return found
        url = resolved(url, following[1])
    raise LakeError(
        f"{corpus.path}: source.huggingface.repo: the hub's list of the files of {wanted.repo} does not end after "
        f"{MOST_PAGES} pages; correct HF_ENDPOINT, or name a dataset with fewer files"
    )
