"""A corpus' remote files, each fetched once into the lake, checked, and listed in one receipt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from palimpsest.config import Corpus, is_url
from palimpsest.fetch import hub
from palimpsest.fetch.bring import Progress, bring_all
from palimpsest.fetch.connection import Client
from palimpsest.fetch.crawls import crawl_corpus, crawled_files
from palimpsest.fetch.streamed import list_streamed, streamed_files
from palimpsest.fetch.wanted import wanted_files
from palimpsest.ingest.records import SourceFile
from palimpsest.lake import Facts, Lake, LakeError, NotPublished, Published


def fetch_corpus(corpus: Corpus, lake: Lake, progress: Progress | None = None) -> Published:
    """``corpora/<corpus>/fetched``: the list of the corpus' files, each a dataset ``captures/<id>`` of its own.

    What is there is not fetched again, whichever corpus it was fetched for. Every file or an error: raises
    `LakeError` naming those that a server does not have or has damaged, `ConnectionError` for weather (what came is
    kept, the next run goes on from there). Of a crawled corpus: a new crawl (`crawl_corpus`); of one that streams: the
    list of its files alone (`list_streamed`).
    ``progress(files done, files in all)``.
    """
    if not corpus.source.is_remote:
        raise LakeError(f"{corpus.path}: source kind '{corpus.source.kind}' has nothing to fetch; go on with ingest")
    if corpus.source.kind == "crawl":
        return crawl_corpus(corpus, lake)
    if corpus.source.streams:
        return list_streamed(corpus, lake)
    try:
        return fetched(corpus, lake)
    except NotPublished:
        pass
    how = corpus.source.transfer
    with Client(how.connections, how.stall_s, tokens=hub.tokens()) as client:
        wanted = wanted_files(corpus, client)
        captures = bring_all(corpus, wanted, client, lake, progress)
    listed = [{"name": w.name, "uri": c.uri, "digest": c.digest} for w, c in zip(wanted, captures, strict=True)]

    def write(directory: Path) -> Facts:
        (directory / "files.json").write_text(json.dumps(listed, indent=1) + "\n")
        total = sum(capture.manifest["bytes"] for capture in captures)
        return Facts(extra={"files": len(listed), "bytes": total})

    return lake.publish(f"corpora/{corpus.name}/fetched", write, config=_asked(corpus), parents=captures)


def fetched(corpus: Corpus, lake: Lake) -> Published:
    """The receipt of a corpus as its file now stands. Raises `NotPublished` where something is still to be fetched."""
    advice = f"fetch them first: python -m palimpsest fetch {corpus.name}"
    try:
        receipt = lake.latest(f"corpora/{corpus.name}/fetched")
    except NotPublished:
        raise NotPublished(f"{corpus.path}: its source files are not in lake {lake.root}; {advice}") from None
    if receipt.manifest["config"] != _asked(corpus):
        raise NotPublished(f"{corpus.path}: 'source' has changed since its files were fetched; {advice}")
    return receipt


def fetched_files(corpus: Corpus, lake: Lake) -> list[SourceFile]:
    """The files of the receipt, unchecked: whoever reads one checks it. Raises `NotPublished` where one is missing."""
    if corpus.source.kind == "crawl":
        return crawled_files(corpus, lake)
    if corpus.source.streams:
        return streamed_files(corpus, lake)
    found = []
    for entry in json.loads(fetched(corpus, lake).file("files.json").read_text()):
        capture = lake.open(entry["uri"], entry["digest"])
        [held] = capture.manifest["files"]
        days = capture.extra.get("days")
        found.append(SourceFile(entry["name"], lake.fetch(capture) / held["name"], held["sha256"], days))
    return found


def _asked(corpus: Corpus) -> dict[str, Any]:
    """What decides which files a corpus has; servers and patience do not."""
    source = corpus.source
    chosen = source.model_dump(mode="json", include={"kind", "commoncrawl", "huggingface"}, exclude_none=True)
    for server in ("server", "index"):
        chosen.get("commoncrawl", {}).pop(server, None)
    chosen.get("huggingface", {}).pop("stream", None)
    return chosen | {"files": [file for file in source.files if is_url(file)]}
