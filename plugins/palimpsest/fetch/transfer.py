"""One file or byte range of a server or bucket, tried until it is here whole, or an error that says why it is not."""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import httpcore

from palimpsest.config import Transfer
from palimpsest.fetch import http, objects
from palimpsest.fetch.connection import Client, header
from palimpsest.fetch.part import Busy, Damaged, Note, forget, size_of
from palimpsest.lake import LakeError

ENOUGH = 1 << 16
"""Bytes beyond all earlier tries that count as progress: a server that cuts after each megabyte still serves a file."""
DAMAGED_TRIES = 2
"""A file that came whole and is damaged is fetched once more; the same again lies with the server."""
LONGEST_PAUSE_S = 60.0
LONGEST_ASKED_S = 600.0
"""What a Retry-After may ask for; a server that wants longer is asked again after this."""
LARGEST_LIST = 1 << 28
T = TypeVar("T")
log = logging.getLogger(__name__)


def fetch_file(
    url: str, target: Path, client: Client, how: Transfer, check: Callable[[Path], T], note: Note = lambda n: None
) -> T:
    """All of ``url`` in ``target``, and what ``check`` says of it; a part that lies there is gone on from.

    ``check`` raises `LakeError` for a damaged file. ``note`` is called with the bytes that came. Raises `LakeError` for
    what the server does not have and for a file damaged twice, `ConnectionError` or `TimeoutError` for weather that
    outlasted ``how.attempts``: the part stays for the next run.
    """

    def once() -> T:
        if is_http(url):
            http.go_on(url, target, client, note, how.max_file_bytes)
        else:
            objects.go_on(url, target, note, how.max_file_bytes)
        try:
            return check(target)
        except LakeError as error:
            forget(target)
            raise Damaged(f"{url}: {error}") from None

    return _persist(url, how, once, lambda: size_of(target))


def fetch_range(
    url: str, start: int, length: int, client: Client, how: Transfer, check: Callable[[bytes], None]
) -> bytes:
    """The ``length`` bytes from ``start``, checked. Raises as `fetch_file` does."""

    def once() -> bytes:
        if is_http(url):
            found = http.read_range(url, start, length, client)
        else:
            found = objects.read_range(url, start, length)
        try:
            check(found)
        except LakeError as error:
            raise Damaged(f"{url}: bytes {start} to {start + length - 1}: {error}") from None
        return found

    return _persist(url, how, once, lambda: 0)


def fetch_small(
    url: str,
    client: Client,
    how: Transfer,
    most: int = LARGEST_LIST,
    longest_s: float = math.inf,
    longest_pause_s: float = LONGEST_ASKED_S,
    note: Note = lambda n: None,
) -> tuple[bytes, str]:
    """The body of a small answer and its Link header. Raises as `fetch_file` does; `LakeError` for one of more than
    ``most`` bytes, or that is not whole after ``longest_s``, however steadily it comes. No try begins after
    ``longest_s``, nor after a pause of more than ``longest_pause_s``. ``note`` is called with the bytes of every try.
    """
    until = time.monotonic() + longest_s

    def once() -> tuple[bytes, str]:
        if not is_http(url):
            return objects.ask(url, lambda fs, path: fs.cat_file(path)), ""
        with client.get(url, http.PLAIN) as response:
            http.refuse(url, response)
            return read_whole(response, most, url, max(0.0, until - time.monotonic()), note), header(response, "link")

    return _persist(url, how, once, lambda: 0, until, longest_pause_s)


def read_whole(response: httpcore.Response, most: int, url: str, longest_s: float, note: Note) -> bytes:
    """The whole body. Raises `LakeError` for one of more than ``most`` bytes, or that takes more than ``longest_s``."""
    parts, size, started = [], 0, time.monotonic()
    for part in response.iter_stream():
        parts.append(part)
        size += len(part)
        note(len(part))
        if size > most:
            raise LakeError(f"{url}: more than {most} bytes, too many for what it should be")
        if time.monotonic() - started > longest_s:
            raise LakeError(f"{url}: {size} bytes came in {longest_s:.0f} s, and more are to come")
    return b"".join(parts)


def is_http(url: str) -> bool:
    return url.lower().startswith(("http://", "https://"))


def _persist(
    url: str,
    how: Transfer,
    once: Callable[[], T],
    brought: Callable[[], int],
    until: float = math.inf,
    longest_pause_s: float = LONGEST_ASKED_S,
) -> T:
    failures, damaged, most = 0, 0, brought()
    while True:
        try:
            return once()
        except Damaged as error:
            damaged, most = damaged + 1, 0
            if damaged == DAMAGED_TRIES:
                raise LakeError(f"{error}; it came {damaged} times and was damaged each time") from None
            pause, why = 0.0, error
        except (ConnectionError, TimeoutError) as error:
            failures = 0 if brought() - most >= ENOUGH else failures + 1
            most = max(most, brought())
            pause = min(how.backoff_s * 2 ** max(failures - 1, 0), LONGEST_PAUSE_S) * random.uniform(0.5, 1)
            asked = error.after_s if isinstance(error, Busy) else None
            pause, why = pause if asked is None else min(asked, LONGEST_ASKED_S), error
            if failures >= how.attempts or pause > longest_pause_s or time.monotonic() + pause >= until:
                kind = TimeoutError if isinstance(error, TimeoutError) else ConnectionError
                raise kind(f"{error} (tried {failures} times; what came is kept, run it again to go on)") from None
        log.warning("%s; again in %.1f s", why, pause)
        time.sleep(pause)
