"""A corpus' remote files, each fetched once into the lake, checked, and listed in one receipt."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palimpsest.config import Corpus
from palimpsest.durable import lock
from palimpsest.fetch import commoncrawl
from palimpsest.fetch.connection import Client
from palimpsest.fetch.transfer import fetch_file, fetch_range
from palimpsest.fetch.verify import check_warc
from palimpsest.ingest.records import SourceFile
from palimpsest.lake import Facts, Lake, LakeError, NotPublished, Published, Rows, digest_json
from palimpsest.state import state_dir

BATCH = 500
"""Captures of the index that are kept in one file."""
REPORT_S = 5.0
SHOWN = 5
"""Failed files that an error names."""
Progress = Callable[[int, int], None]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """One file to have: what identifies it (wherever it is fetched from), and how it is brought into a folder."""

    identity: dict[str, str]
    name: str
    bring: Callable[[Path, Client, Callable[[int], None]], dict[str, Any]]
    """Puts `file` into the folder, whose contents outlive a failure, and gives the facts for its manifest."""

    @property
    def file(self) -> str:
        return self.name.rsplit("/", 1)[-1]

    @property
    def dataset(self) -> str:
        return f"captures/{digest_json(self.identity)[:16]}"


def fetch_corpus(corpus: Corpus, lake: Lake, progress: Progress | None = None) -> Published:
    """``corpora/<corpus>/fetched``: the list of the corpus' files, each a dataset ``captures/<id>`` of its own.

    What is there is not fetched again, whichever corpus it was fetched for. Every file or an error: raises
    `LakeError` naming those that a server does not have or has damaged, `ConnectionError` for weather (what came is
    kept, the next run goes on from there). ``progress(files done, files in all)``.
    """
    if not corpus.source.is_remote:
        raise LakeError(f"{corpus.path}: source kind '{corpus.source.kind}' has nothing to fetch; go on with ingest")
    try:
        return fetched(corpus, lake)
    except NotPublished:
        pass
    how = corpus.source.transfer
    with Client(how.connections, how.stall_s) as client:
        wanted = _wanted(corpus, client)
        captures = _bring_all(corpus, wanted, client, lake, progress)
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
    """The files of the receipt. Raises `LakeError` where one is lost or changed."""
    found = []
    for entry in json.loads(fetched(corpus, lake).file("files.json").read_text()):
        capture = lake.open(entry["uri"], entry["digest"])
        [held] = capture.manifest["files"]
        days = capture.extra.get("days")
        found.append(SourceFile(entry["name"], capture.file(held["name"]), held["sha256"], days))
    return found


def _asked(corpus: Corpus) -> dict[str, Any]:
    """What decides which files a corpus has; servers and patience do not."""
    source = corpus.source
    return {"kind": source.kind, "commoncrawl": source.commoncrawl.model_dump(exclude={"server", "index"})}


def _wanted(corpus: Corpus, client: Client) -> list[Wanted]:
    chosen, how = corpus.source.commoncrawl, corpus.source.transfer
    if chosen.segments:
        return [_segment(path, chosen.server, how) for path in commoncrawl.segment_paths(corpus, client)]
    found = commoncrawl.captures(corpus, client)
    return [_batch(found[start : start + BATCH], chosen.server, how) for start in range(0, len(found), BATCH)]


def _segment(path: str, server: str, how) -> Wanted:
    def bring(folder: Path, client: Client, note: Callable[[int], None]) -> dict[str, Any]:
        return fetch_file(server + path, folder / path.rsplit("/", 1)[-1], client, how, check_warc, note)

    return Wanted({"commoncrawl": path}, path, bring)


def _batch(captures: Sequence[commoncrawl.Capture], server: str, how) -> Wanted:
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


def _bring_all(
    corpus: Corpus, wanted: Sequence[Wanted], client: Client, lake: Lake, progress: Progress | None
) -> list[Published]:
    """All of them, some at a time; an error of one does not stop those that are on their way."""
    meter = _Meter(len(wanted), progress)
    stop = threading.Event()

    def one(item: Wanted) -> Published | None:
        return None if stop.is_set() else _bring(item, client, lake, meter.note)

    found: dict[int, Published] = {}
    failed: dict[int, Exception] = {}
    with ThreadPoolExecutor(corpus.source.transfer.connections, thread_name_prefix="fetch") as pool:
        jobs = {pool.submit(one, item): number for number, item in enumerate(wanted)}
        try:
            for job in as_completed(jobs):
                try:
                    found[jobs[job]] = job.result()
                    meter.done()
                except (LakeError, ConnectionError, TimeoutError) as error:
                    failed[jobs[job]] = error
        finally:
            stop.set()  # after an interrupt or a full disk: what has not begun is left
            pool.shutdown(cancel_futures=True)
    if failed:
        raise _failure(corpus, wanted, failed)
    return [found[number] for number in range(len(wanted))]


def _failure(corpus: Corpus, wanted: Sequence[Wanted], failed: dict[int, Exception]) -> Exception:
    """Bad data wins over weather: trying again cannot help then."""
    lines = [f"{wanted[number].name}: {failed[number]}" for number in sorted(failed)[:SHOWN]]
    more = f"\nand {len(failed) - SHOWN} more" if len(failed) > SHOWN else ""
    said = (
        f"{corpus.path}: {len(failed)} of {len(wanted)} files could not be fetched; nothing was left out in silence:\n"
    )
    bad = any(isinstance(error, LakeError) for error in failed.values())
    return (LakeError if bad else ConnectionError)(said + "\n".join(lines) + more)


def _bring(item: Wanted, client: Client, lake: Lake, note: Callable[[int], None]) -> Published:
    existing = lake.version(item.dataset, config=item.identity)
    if existing:
        return existing
    folder = state_dir() / "downloads" / item.dataset.rsplit("/", 1)[-1]
    held = _alone(folder)
    try:

        def write(directory: Path) -> Facts:
            facts = item.bring(folder, client, note)
            _place(folder / item.file, directory / item.file)
            return Facts(facts.pop("rows", None), facts)

        published = lake.publish(item.dataset, write, config=item.identity)
        shutil.rmtree(folder)
        return published
    finally:
        os.close(held)


def _alone(folder: Path) -> int:
    """The lock of a download folder: another process that fetches the same file is waited for."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        held = lock(folder)
        if held is not None:
            if folder.exists() and os.fstat(held).st_ino == folder.stat().st_ino:
                return held
            os.close(held)  # the other one has finished and removed it
            continue
        time.sleep(0.2)


def _place(file: Path, target: Path) -> None:
    try:
        os.link(file, target)
    except OSError:  # another file system
        shutil.copyfile(file, target)


class _Meter:
    """Counts what comes, and says so every few seconds."""

    def __init__(self, files: int, progress: Progress | None) -> None:
        self._files, self._progress, self._done, self._bytes = files, progress, 0, 0
        self._started = self._reported = time.monotonic()
        self._lock = threading.Lock()

    def note(self, count: int) -> None:
        with self._lock:
            self._bytes += count
            now = time.monotonic()
            if now - self._reported > REPORT_S:
                self._reported = now
                rate = self._bytes / 1e6 / (now - self._started)
                log.info("%d of %d files, %.1f MB, %.1f MB/s", self._done, self._files, self._bytes / 1e6, rate)

    def done(self) -> None:
        with self._lock:
            self._done += 1
        if self._progress:
            self._progress(self._done, self._files)
