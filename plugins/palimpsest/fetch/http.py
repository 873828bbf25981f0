"""One try to bring a file or a byte range of a web server."""

from __future__ import annotations

import datetime as dt
import email.utils
import json
import re
from pathlib import Path

import httpcore

from palimpsest.fetch.connection import Client, header
from palimpsest.fetch.part import Busy, Missing, Note, Refused, check_size, forget, notes_of, read_notes, size_of
from palimpsest.lake import LakeError

PLAIN = {"Accept-Encoding": "identity"}
LENGTH = re.compile(r"[0-9]{1,18}")
GONE = (400, 401, 403, 404, 405, 410, 414, 451)
RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")


def go_on(url: str, target: Path, client: Client, note: Note, most: int) -> None:
    """Bring the rest of the file. What came stays where the connection ends early. Raises `LakeError` for a file of
    more than ``most`` bytes, which is not kept.
    """
    have, known = size_of(target), read_notes(target)
    if have and known and have == known["total"]:
        return
    headers = dict(PLAIN)
    if have and known and known["validator"] and known["validator"].isascii():  # others cannot be sent
        headers |= {"Range": f"bytes={have}-", "If-Range": known["validator"]}
    elif have:
        have = 0  # nothing says that the rest would be of the same file
    with client.get(url, headers) as response:
        if response.status == 416:
            forget(target)
            raise ConnectionError(f"{url}: the server has no byte {have}; the file has changed, begun again")
        refuse(url, response)
        if response.status == 206:
            total = _checked_range(url, response, have, None, target)
        else:
            have, total = 0, _length(response)
        etag = header(response, "etag")
        strong = etag and etag.isascii() and not etag.startswith("W/")
        validator = etag if strong else header(response, "last-modified")
        if response.status == 200:
            forget(target)  # before anything is noted: what lies there is of another version
            notes_of(target).write_text(json.dumps({"url": url, "validator": validator, "total": total}))
        check_size(url, total or 0, most, target)
        with target.open("r+b" if have else "wb") as out:
            out.seek(have)
            for part in response.iter_stream():
                out.write(part)
                note(len(part))
                check_size(url, out.tell(), most, target)
    if total is not None and size_of(target) != total:
        size = size_of(target)
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


def read_range(url: str, start: int, length: int, client: Client) -> bytes:
    end = start + length - 1
    with client.get(url, {**PLAIN, "Range": f"bytes={start}-{end}"}) as response:
        refuse(url, response)
        if response.status != 206:
            raise LakeError(f"{url}: the server answers {response.status} to a byte range; take one that serves ranges")
        _checked_range(url, response, start, end, None)
        found = b""
        for part in response.iter_stream():
            found += part
            if len(found) > length:  # no more of it, however much is sent
                break
    if len(found) != length:
        raise ConnectionError(f"{url}: {len(found)} bytes came of the {length} from {start}")
    return found


def refuse(url: str, response: httpcore.Response) -> None:
    """Raise unless the answer has the file or a part of it."""
    if response.status in (200, 206):
        return
    said = f"{url}: HTTP {response.status}"
    if response.status in GONE:
        asked = "; HF_TOKEN is for datasets behind a licence click" if response.status in (401, 403) else ""
        said += f": the server does not give it out; correct the corpus file or the server's address{asked}"
        if response.status in (404, 410):
            raise Missing(said, next(response.iter_stream(), b""))
        raise Refused(said)
    raise Busy(said, retry_after(header(response, "retry-after")))


def retry_after(value: str) -> float | None:
    """Seconds, from a number of them or a date; None for anything else."""
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, (email.utils.parsedate_to_datetime(value) - dt.datetime.now(dt.UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


def _length(response: httpcore.Response) -> int | None:
    value = header(response, "content-length")
    return int(value) if LENGTH.fullmatch(value) else None
