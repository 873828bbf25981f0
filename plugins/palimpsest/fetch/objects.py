"""One try to bring a file or a byte range of anything else that fsspec opens: a bucket, another machine's folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import fsspec

from palimpsest.fetch.part import Missing, Note, check_size, forget, notes_of, read_notes, size_of
from palimpsest.lake import LakeError

BLOCK = 8 << 20
T = TypeVar("T")


def go_on(url: str, target: Path, note: Note, most: int) -> None:
    """Bring the rest of the file; it is begun again where it has changed. Raises `LakeError` for one of more than
    ``most`` bytes.
    """
    info = ask(url, lambda fs, path: fs.info(path))
    check_size(url, info["size"], most, target)
    stamp = str(info.get("ETag") or info.get("LastModified") or info.get("mtime") or "")
    have, known = size_of(target), read_notes(target)
    now = {"url": url, "validator": stamp, "total": info["size"]}
    if known != now or not stamp:
        forget(target)
        have = 0
        notes_of(target).write_text(json.dumps(now))
    with target.open("ab") as out:
        while have < now["total"]:
            end = min(have + BLOCK, now["total"])
            found = read_range(url, have, end - have)
            out.write(found)
            note(len(found))
            have = end


def matching(pattern: str) -> list[str]:
    """Addresses of the files that an address with stars names, in order."""
    return ask(pattern, lambda fs, path: sorted(fs.unstrip_protocol(found) for found in fs.glob(path)))


def read_range(url: str, start: int, length: int) -> bytes:
    found = ask(url, lambda fs, path: fs.cat_file(path, start=start, end=start + length))
    if len(found) != length:
        raise ConnectionError(f"{url}: {len(found)} bytes came of the {length} from {start}")
    return found


def ask(url: str, question: Callable[[fsspec.AbstractFileSystem, str], T]) -> T:
    try:
        fs, path = fsspec.core.url_to_fs(url, **({"use_listings_cache": False} if url.startswith("s3:") else {}))
    except (ImportError, ValueError) as error:
        raise LakeError(f"{url}: {error}") from None
    try:
        return question(fs, path)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise Missing(f"{url}: there is no such file; correct the corpus file or the server's address") from None
    except PermissionError as error:
        raise LakeError(f"{url}: not allowed ({error}); set the credentials that fsspec reads for it") from None
    except Exception as error:
        raise ConnectionError(f"{url}: {error or type(error).__name__}") from error
