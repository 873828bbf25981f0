"""WARC records as bytes, each a gzip member with its digests (WARC 1.1)."""

from __future__ import annotations

import base64
import datetime as dt
import gzip
import hashlib
import uuid

HTTP = "application/http; msgtype=response"
PROFILE = "http://netpreserve.org/warc/1.1/revisit/"


def sha1(content: bytes) -> str:
    return f"sha1:{base64.b32encode(hashlib.sha1(content).digest()).decode()}"


def record(kind: str, url: str, when: dt.datetime, block: bytes, media: str = HTTP, **fields: str) -> bytes:
    """One record; ``fields``: further headers, underscores for dashes."""
    headers = {
        "WARC-Type": kind,
        **({"WARC-Target-URI": url} if url else {}),
        "WARC-Date": when.astimezone(dt.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "WARC-Record-ID": f"<urn:uuid:{uuid.uuid4()}>",
        "Content-Type": media,
        "WARC-Block-Digest": sha1(block),
        **{name.replace("_", "-"): value for name, value in fields.items()},
        "Content-Length": str(len(block)),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return gzip.compress(b"WARC/1.1\r\n" + head.encode() + b"\r\n" + block + b"\r\n\r\n", mtime=0)


def message(status: int, reason: str, headers: list[tuple[bytes, bytes]], body: bytes) -> bytes:
    """An HTTP answer as it came, but for the framing: the body is whole here."""
    framing = (b"transfer-encoding", b"connection", b"keep-alive", b"content-length")
    lines = [b"HTTP/1.1 %d %s" % (status, reason.encode("latin-1", "replace"))]
    lines += [name + b": " + value for name, value in headers if name.lower() not in framing]
    lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
