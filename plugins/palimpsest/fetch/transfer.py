"""One file or byte range of a server or bucket, tried until it is here whole, or an error that says why it is not."""

from __future__ import annotations

import datetime as dt
import email.utils
import json
import logging
import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import fsspec
import httpcore

from palimpsest.config import Transfer
from palimpsest.fetch.connection import Client, header
from palimpsest.lake import LakeError

ENOUGH = 1 << 16
"""Bytes a try must have brought to count as progress: a server that cuts after each megabyte still serves a file."""
DAMAGED_TRIES = 2
"""A file that came whole and is damaged is fetched once more; the same again lies with the server."""
LONGEST_PAUSE_S = 60.0
LONGEST_ASKED_S = 600.0
"""What a Retry-After may ask for; a server that wants longer is asked again after this."""
BLOCK = 8 << 20
GONE = (400, 401, 403, 404, 405, 410, 414, 451)
RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
Note = Callable[[int], None]
T = TypeVar("T")
log = logging.getLogger(__name__)


class Damaged(LakeError):
    """The bytes are all here and are not what they should be."""


class Missing(LakeError):
    """The server does not have it."""


class Busy(ConnectionError):
    """The server asks to come back later."""

    def __init__(self, message: str, after_s: float | None) -> None:
        super().__init__(message)
        self.after_s = after_s


def fetch_file(
    url: str, target: Path, client: Client, how: Transfer, check: Callable[[Path], T], note: Note = lambda n: None
) -> T:
    """All of ``url`` in ``target``, and what ``check`` says of it; a part that lies there is gone on from.

    ``check`` raises `LakeError` for a damaged file. ``note`` is called with the bytes that came. Raises `LakeError` for
    what the server does not have and for a file damaged twice, `ConnectionError` or `TimeoutError` for weather that
    outlasted ``how.attempts``: the part stays for the next run.
    """

    def once() -> T:
        (_continue if _is_http(url) else _continue_object)(url, target, client, note)
        try:
            return check(target)
        except LakeError as error:
            forget(target)
            raise Damaged(f"{url}: {error}") from None

    return _persist(url, how, once, lambda: _size(target))


def fetch_range(
    url: str, start: int, length: int, client: Client, how: Transfer, check: Callable[[bytes], None]
) -> bytes:
    """The ``length`` bytes from ``start``, checked. Raises as `fetch_file` does."""

    def once() -> bytes:
        found = (_http_range if _is_http(url) else _object_range)(url, start, length, client)
        try:
            check(found)
        except LakeError as error:
            raise Damaged(f"{url}: bytes {start} to {start + length - 1}: {error}") from None
        return found

    return _persist(url, how, once, lambda: 0)


def fetch_small(url: str, client: Client, how: Transfer, most: int = 1 << 28) -> bytes:
    """The whole body of a small answer. Raises as `fetch_file` does, and `LakeError` for more than ``most`` bytes."""

    def once() -> bytes:
        if not _is_http(url):
            return _object(url, lambda fs, path: fs.cat_file(path))
        with client.get(url, {"Accept-Encoding": "identity"}) as response:
            _refuse(url, response)
            parts, size = [], 0
            for part in response.iter_stream():
                parts.append(part)
                size += len(part)
                if size > most:
                    raise LakeError(f"{url}: more than {most} bytes; that is no list")
            return b"".join(parts)

    return _persist(url, how, once, lambda: 0)


def forget(target: Path) -> None:
    """Remove a part and what was noted of it."""
    target.unlink(missing_ok=True)
    _notes(target).unlink(missing_ok=True)


def _persist(url: str, how: Transfer, once: Callable[[], T], brought: Callable[[], int]) -> T:
    failures, damaged = 0, 0
    while True:
        before = brought()
        try:
            return once()
        except Damaged as error:
            damaged += 1
            if damaged == DAMAGED_TRIES:
                raise LakeError(f"{error}; it came {damaged} times and was damaged each time") from None
            pause, why = 0.0, error
        except (ConnectionError, TimeoutError) as error:
            failures = 0 if brought() - before >= ENOUGH else failures + 1
            if failures >= how.attempts:
                kind = TimeoutError if isinstance(error, TimeoutError) else ConnectionError
                raise kind(f"{error} (tried {failures} times; what came is kept, run it again to go on)") from None
            pause = min(how.backoff_s * 2 ** max(failures - 1, 0), LONGEST_PAUSE_S) * random.uniform(0.5, 1)
            asked = error.after_s if isinstance(error, Busy) else None
            pause, why = pause if asked is None else min(asked, LONGEST_ASKED_S), error
        log.warning("%s; again in %.1f s", why, pause)
        time.sleep(pause)


def _continue(url: str, target: Path, client: Client, note: Note) -> None:
    """Bring the rest of the file. What came stays where the connection ends early."""
    have, known = _size(target), _read_notes(target)
    if have and known and have == known["total"]:
        return
    headers = {"Accept-Encoding": "identity"}
    if have and known and known["validator"]:
        headers |= {"Range": f"bytes={have}-", "If-Range": known["validator"]}
    elif have:
        have = 0  # nothing says that the rest would be of the same file
    with client.get(url, headers) as response:
        if response.status == 416:
            forget(target)
            raise ConnectionError(f"{url}: the server has no byte {have}; the file has changed, begun again")
        _refuse(url, response)
        if response.status == 206:
            total = _checked_range(url, response, have, None, target)
        else:
            have, total = 0, _length(response)
        etag = header(response, "etag")
        validator = etag if etag and not etag.startswith("W/") else header(response, "last-modified")
        if response.status == 200:
            _notes(target).write_text(json.dumps({"url": url, "validator": validator, "total": total}))
        with target.open("r+b" if have else "wb") as out:
            out.seek(have)
            for part in response.iter_stream():
                out.write(part)
                note(len(part))
    if total is not None and _size(target) != total:
        size = _size(target)
        if size > total:
            forget(target)
        raise ConnectionError(f"{url}: {size} bytes came of {total}")


def _checked_range(url: str, response: httpcore.Response, start: int, end: int | None, part: Path | None) -> int | None:
    """The whole file's size, if the answer is the range that was asked for."""
    found = RANGE.fullmatch(header(response, "content-range"))
    if found and int(found[1]) == start and (end is None or int(found[2]) == end):
        return None if found[3] == "*" else int(found[3])
    if part is not None:
        forget(part)
    raise ConnectionError(f"{url}: asked for bytes from {start}, got '{header(response, 'content-range')}'")


def _http_range(url: str, start: int, length: int, client: Client) -> bytes:
    end = start + length - 1
    with client.get(url, {"Accept-Encoding": "identity", "Range": f"bytes={start}-{end}"}) as response:
        _refuse(url, response)
        if response.status != 206:
            raise LakeError(f"{url}: the server answers {response.status} to a byte range; take one that serves ranges")
        _checked_range(url, response, start, end, None)
        found = b"".join(response.iter_stream())
    if len(found) != length:
        raise ConnectionError(f"{url}: {len(found)} bytes came of the {length} from {start}")
    return found


def _refuse(url: str, response: httpcore.Response) -> None:
    """Raise unless the answer has the file or a part of it."""
    if response.status in (200, 206):
        return
    said = f"{url}: HTTP {response.status}"
    if response.status in GONE:
        kind = Missing if response.status in (404, 410) else LakeError
        raise kind(f"{said}: the server does not give it out; correct the corpus file or the server's address")
    raise Busy(said, _retry_after(header(response, "retry-after")))


def _retry_after(value: str) -> float | None:
    """Seconds, from a number of them or a date; None for anything else."""
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, (email.utils.parsedate_to_datetime(value) - dt.datetime.now(dt.UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def _continue_object(url: str, target: Path, client: Client, note: Note) -> None:
    """The same for any other address that fsspec opens: a bucket, another machine's folder."""
    info = _object(url, lambda fs, path: fs.info(path))
    stamp = str(info.get("ETag") or info.get("LastModified") or info.get("mtime") or "")
    have, known = _size(target), _read_notes(target)
    now = {"url": url, "validator": stamp, "total": info["size"]}
    if known != now or not stamp:
        forget(target)
        have = 0
        _notes(target).write_text(json.dumps(now))
    with target.open("ab") as out:
        while have < now["total"]:
            end = min(have + BLOCK, now["total"])
            found = _object_range(url, have, end - have, client)
            out.write(found)
            note(len(found))
            have = end


def _object_range(url: str, start: int, length: int, client: Client) -> bytes:
    found = _object(url, lambda fs, path: fs.cat_file(path, start=start, end=start + length))
    if len(found) != length:
        raise ConnectionError(f"{url}: {len(found)} bytes came of the {length} from {start}")
    return found


def _object(url: str, ask: Callable[[fsspec.AbstractFileSystem, str], T]) -> T:
    try:
        fs, path = fsspec.core.url_to_fs(url, **({"use_listings_cache": False} if url.startswith("s3:") else {}))
    except (ImportError, ValueError) as error:
        raise LakeError(f"{url}: {error}") from None
    try:
        return ask(fs, path)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise Missing(f"{url}: there is no such file; correct the corpus file or the server's address") from None
    except PermissionError as error:
        raise LakeError(f"{url}: not allowed ({error}); set the credentials that fsspec reads for it") from None
    except Exception as error:
        raise ConnectionError(f"{url}: {error or type(error).__name__}") from error


def _is_http(url: str) -> bool:
    return url.lower().startswith(("http://", "https://"))


def _length(response: httpcore.Response) -> int | None:
    value = header(response, "content-length")
    return int(value) if value.isdigit() else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _notes(target: Path) -> Path:
    return target.with_name(f"{target.name}.json")


def _read_notes(target: Path) -> dict | None:
    try:
        return json.loads(_notes(target).read_text())
    except (FileNotFoundError, ValueError):
        return None
