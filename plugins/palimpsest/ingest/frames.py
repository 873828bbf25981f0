"""Where one compressed frame of a file ends and the next begins: gzip members, zstd and LZ4 frames.

RFC 1952 for gzip, RFC 8878 (section 3.1) for zstd, lz4_Frame_format.md 1.6.2 of the LZ4 project for LZ4. Of the latter
two only the sizes of their blocks are read; a gzip member has to be decompressed.
"""

from __future__ import annotations

import mmap
import zlib

from palimpsest.ingest.blocks import CHUNK

GZIP = b"\x1f\x8b\x08"  # with its one method of compression: two bytes stand in any compressed data
ZSTD = b"\x28\xb5\x2f\xfd"
LZ4 = b"\x04\x22\x4d\x18"
MAGICS = {"gzip": GZIP, "zstd": ZSTD, "lz4": LZ4}


def frame_end(content: mmap.mmap, at: int) -> int | None:
    """The byte behind the frame that begins at this one; None at what is no frame, and for one that is cut off."""
    head = content[at : at + 4]
    if head.startswith(GZIP):
        return _gzip(content, at)
    if head == ZSTD:
        end = _zstd(content, at)
    elif head == LZ4:
        end = _lz4(content, at)
    elif head[1:] == b"\x2a\x4d\x18" and head[0] >> 4 == 5:  # zstd's and LZ4's frames to skip
        end = at + 8 + _number(content, at + 4, 4)
    else:
        return None
    return end if end <= len(content) else None


def _gzip(content: mmap.mmap, at: int) -> int | None:
    member = zlib.decompressobj(wbits=31)
    while at < len(content):
        raw = content[at : at + CHUNK]
        at += len(raw)
        try:
            while raw and not member.eof:
                member.decompress(raw, CHUNK)
                raw = member.unconsumed_tail
        except zlib.error:
            return None
        if member.eof:
            return at - len(member.unused_data)
    return None


def _zstd(content: mmap.mmap, at: int) -> int:
    about = _number(content, at + 4, 1)
    single, size = about >> 5 & 1, about >> 6
    at += 5 + (1 - single) + (0, 1, 2, 4)[about & 3] + ((single, 2, 4, 8)[size])
    last = False
    while not last and at < len(content):
        block = _number(content, at, 3)
        last = bool(block & 1)
        at += 3 + (1 if block >> 1 & 3 == 1 else block >> 3)  # a run of one byte has that byte alone
    return at + 4 * (about >> 2 & 1) if last else len(content) + 1


def _lz4(content: mmap.mmap, at: int) -> int:
    about = _number(content, at + 4, 1)
    at += 7 + 8 * (about >> 3 & 1) + 4 * (about & 1)
    while at < len(content):
        block = _number(content, at, 4)
        at += 4
        if not block:
            return at + 4 * (about >> 2 & 1)
        at += (block & 0x7FFFFFFF) + 4 * (about >> 4 & 1)
    return len(content) + 1


def _number(content: mmap.mmap, at: int, size: int) -> int:
    return int.from_bytes(content[at : at + size], "little")
