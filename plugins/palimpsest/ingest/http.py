"""The HTTP message of a record: its status, type and body, decoded as its headers say."""

from __future__ import annotations

import re
from typing import Literal

from fastwarc.warc import WarcRecord, response

from palimpsest.ingest.records import Record

HEADERS = 1 << 16
"""Bytes a record may hold beside its body."""
END = re.compile(rb"\n\r?\n")  # of a head, and the empty line behind it
CHUNK_SIZE = re.compile(rb"[ \t]*\+?[0-9A-Fa-f]+[ \t]*(;[^\n]*)?\r?\n")
"""How a body begins that comes in chunks (RFC 9112, section 7.1), and what of it fastwarc forgives."""


def read_message(record: Record, block: bytes, limit: int) -> None:
    """Fill the record's status, type, charset and payload (at most ``limit`` + 1 bytes), or its fault."""
    try:
        message, record.payload = _http(block, limit + 1)
    except (OSError, ValueError) as error:
        record.fault, record.payload = str(error), block
        return
    record.http_status = message.http_headers.status_code
    record.content_type = (message.http_content_type or "").lower()
    record.charset = (message.http_charset or "").lower()


def _http(block: bytes, size: int) -> tuple[WarcRecord, bytes]:
    """The HTTP message and its body, decoded if it is encoded as it says (many archives keep the header but not the
    encoding). Read apart from the file, whose reader a body that will not decode would end.
    """
    block, start = _with_crlf(block)
    chunked = CHUNK_SIZE.match(block, start)
    try:
        return _decoded(block, size, "all" if chunked else "content")
    except OSError as error:
        message, body = _decoded(block, size, "transfer" if chunked else "none")
        if b"<" not in body[:1024]:
            raise ValueError(f"Content-Encoding {message.http_headers.get('Content-Encoding')}: {error}") from None
        return message, body


def _with_crlf(block: bytes) -> tuple[bytes, int]:
    """The message with CRLF behind each line of its head, also where there was LF alone (RFC 9112, section 2.2), and
    where its body begins in it.
    """
    end = END.search(block)
    if not end:
        return block, len(block)
    was = block[: end.end()]
    head = was.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return block if head == was else head + block[len(was) :], len(head)


def _decoded(block: bytes, size: int, what: Literal["all", "content", "transfer", "none"]) -> tuple[WarcRecord, bytes]:
    message = WarcRecord()
    message.init_headers(response)
    message.set_bytes_content(block)
    message.is_http = True
    message.parse_http(auto_decode=what)
    if message.http_headers is None or message.http_headers.status_code is None:
        raise ValueError("no HTTP status line")
    return message, read_at_most(message, size)


def read_at_most(found: WarcRecord, size: int) -> bytes:
    """Up to ``size`` bytes: one read returns less where a body comes in chunks."""
    parts: list[bytes] = []
    while size > 0 and (part := found.reader.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
