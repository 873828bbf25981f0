"""A WARC record's header and block, read past and held to the record's WARC-Block-Digest (ISO 28500:2017, 5.8)."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

CHUNK = 1 << 20
LINE = 1 << 16
DIGITS = 18  # of a length; more is none, and Python refuses to read thousands
ALGORITHMS = ("md5", "sha1", "sha256", "sha512")
INNER = b"\r\n\r\nWARC/"  # how a record begins that stands in the block of another
BEGINS = re.compile(rb"WARC/\d\.\d+\r?\n$")  # the first line of a record, or an address that ends so
AGAIN = b"warc-concurrent-to"  # the one field that a header may hold more than once (5.7)
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,18})[ \t]*\r\n", re.IGNORECASE)


class NotSound(OSError):
    """A block that is not what its record says of it."""


class Head(NamedTuple):
    length: int | None
    """Bytes of the block; None where that is not said, or is no number."""
    digest: str
    """As the record gives it, such as 'sha1:3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ'; empty where it gives none."""


def read_head(content: BinaryIO) -> Head | None:
    """The header of the record that begins here; None at what is none, and at the end of the file. Raises `NotSound`
    for one that is cut off by the next record: a reader takes the two for one.
    """
    if not content.readline(LINE).startswith(b"WARC/"):
        return None
    length, digest = None, ""
    names: set[bytes] = set()
    before_cut: set[bytes] = set()
    while (line := content.readline(LINE)) not in (b"\r\n", b"\n"):
        if not line:
            raise OSError("cut off in a header")
        name, colon, value = line.partition(b":")
        name = name.strip().lower()
        begins = BEGINS.search(line)
        if name in before_cut or (begins and not colon):
            raise NotSound("its header is cut off, and another record begins there")
        names.add(name)
        if begins:  # what follows is the next record's if it repeats a field
            before_cut = names - {AGAIN}
        if name == b"content-length":
            value = value.strip()
            length = int(value) if value.isdigit() and len(value) <= DIGITS else None
        elif name == b"warc-block-digest":
            digest = value.strip().decode(errors="replace")
    return Head(length, digest)


def pass_block(content: BinaryIO, head: Head) -> None:
    """Go past the block. Raises `OSError` for a file that ends in it."""
    for _ in _parts(content, head):
        pass


def check_block(content: BinaryIO, head: Head) -> None:
    """`pass_block`, and raise `NotSound` for a block that has not the digest that its record gives, or where it gives
    none that can be checked, for one that ends as a whole record would: its length spans the next one.
    """
    if check_digest(content, head):
        return
    inner = _Inner(head.length or 0)
    for part in _parts(content, head):
        if inner.ends_with(part):
            raise NotSound("its Content-Length spans another whole record")


def check_digest(content: BinaryIO, head: Head) -> bool:
    """`pass_block` if the record gives a digest that can be checked, else False, and nothing is read. Raises `NotSound`
    for a block that has not that digest.
    """
    algorithm, _, said = head.digest.partition(":")
    said = said.strip().upper().rstrip("=")
    digest = hashlib.new(algorithm.lower()) if algorithm.lower() in ALGORITHMS else None
    if not digest or len(said) not in map(len, _written(digest.digest())):
        return False
    for part in _parts(content, head):
        digest.update(part)
    if said not in _written(digest.digest()):
        raise NotSound(f"its block has not the WARC-Block-Digest {head.digest} that it names")
    return True


def _parts(content: BinaryIO, head: Head) -> Iterator[bytes]:
    if head.length is None:
        raise OSError("a record without its length")
    left = head.length
    while left:
        part = content.read(min(left, CHUNK))
        if not part:
            raise OSError("cut off in a block")
        left -= len(part)
        yield part


def _written(digest: bytes) -> tuple[str, str]:
    """In hexadecimal and in base32: archives have both."""
    return digest.hex().upper(), base64.b32encode(digest).decode().rstrip("=")


class _Inner:
    """Looks for a record in a block of so many bytes that ends where the block does."""

    def __init__(self, length: int) -> None:
        self._length, self._at, self._window = length, 0, b""

    def ends_with(self, part: bytes) -> bool:
        """Whether one is found with this next part of the block."""
        window = self._window + part
        found = window.find(INNER)
        while found >= 0 and (end := window.find(b"\r\n\r\n", found + len(INNER))) >= 0:
            said = LENGTH.search(window, found + 4, end + 2)
            if said and self._at + end + 4 + int(said[1]) == self._length:
                return True
            found = window.find(INNER, end)
        if found < 0 or len(window) - found > LINE:  # none, or a header that does not end
            found = max(len(window) - len(INNER) + 1, 0)
        self._at, self._window = self._at + found, window[found:]
        return False
