"""Many files at a time, each a dataset of its own, and one error for all that could not be had."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from palimpsest.config import Corpus
from palimpsest.durable import lock
from palimpsest.fetch.connection import Client
from palimpsest.fetch.wanted import Wanted
from palimpsest.lake import Facts, Lake, LakeError, Published
from palimpsest.state import state_dir

REPORT_S = 5.0
SHOWN = 5
"""Failed files that an error names."""
Progress = Callable[[int, int], None]
log = logging.getLogger(__name__)


def bring_all(
    corpus: Corpus, wanted: Sequence[Wanted], client: Client, lake: Lake, progress: Progress | None
) -> list[Published]:
    """The dataset of each, in order; what the lake has is not fetched. An error of one does not stop the others."""
    meter = _Meter(len(wanted), progress)
    stop = threading.Event()

    def note(count: int) -> None:
        if stop.is_set():
            raise _Stopped  # the part is kept
        meter.note(count)

    def one(item: Wanted) -> Published | None:
        return None if stop.is_set() else _bring(item, client, lake, note)

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
            stop.set()  # after an interrupt or a full disk: what is under way ends, what has not begun is left
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
    held = alone(folder)
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


def alone(folder: Path) -> int:
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


class _Stopped(Exception):
    """The run has ended meanwhile: after an interrupt, a full disk."""


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
