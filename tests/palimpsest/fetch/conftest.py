"""A real web server on loopback that serves files with byte ranges, and can be told to misbehave."""

from __future__ import annotations

import datetime as dt
import hashlib
import mimetypes
import os
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow.parquet as pq
import pytest

from palimpsest.config import Corpus, Transfer
from palimpsest.fetch.connection import Client


@dataclass(frozen=True)
class Fault:
    """What is wrong with one answer."""

    status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    cut: int | None = None
    """Bytes of the body after which the connection is closed."""
    truncate: int | None = None
    """Bytes that are left of the body, with a length that says so."""
    announce: int | None = None
    """Content-Length that is sent; -1: none, the body ends with the connection."""
    change: Callable[[bytes], bytes] | None = None
    drip: str = ""
    """'headers' or 'body' comes ``piece`` bytes at a time, ``pause_s`` apart."""
    piece: int = 1
    pause_s: float = 0.02
    hints: int = 0
    """Interim answers that come before the answer."""
    ranges: bool = True
    plain: bool = False
    """An answer without ETag, whatever was asked."""
    shift: int = 0
    """Bytes by which the answered range lies elsewhere than asked."""


class Site:
    """``files`` by path; ``faults[path]`` is used up one per request; ``asked`` is what came."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.pages: dict[str, Callable[[str], tuple[int, bytes]]] = {}
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        self.asked: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.types = False
        """Whether answers say what they are: HTML, or by the ending of the path."""
        self.sent = 0
        self.stopping = threading.Event()
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                try:
                    site.answer(self)
                except OSError:
                    self.close_connection = True

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def close(self) -> None:
        self.stopping.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def ranges(self, path: str) -> list[str]:
        return [asked for of, asked in self.asked if of == path]

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = urlsplit(request.path).path.lstrip("/")
        asked = request.headers.get("Range", "")
        self.asked.append((path, asked))
        self.headers.append(dict(request.headers))
        self.times.append(time.monotonic())
        fault = self.faults[path].pop(0) if self.faults[path] else Fault()
        if path in self.pages:
            status, body = self.pages[path](urlsplit(request.path).query)
        elif path in self.files:
            status, body = 200, self.files[path]
        else:
            status, body = 404, b"nothing here"
        if fault.change:
            body = fault.change(body)
        etag = f'"{hashlib.md5(body).hexdigest()}"'
        headers = [("ETag", etag)] if status == 200 and not fault.plain else []
        if self.types:
            headers.append(("Content-Type", mimetypes.guess_type(path)[0] or "text/html; charset=utf-8"))
        if request.headers.get("If-None-Match") == etag and not fault.plain:
            status, body = 304, b""
        fresh = request.headers.get("If-Range") in (None, etag)
        if asked and fault.ranges and fresh and status == 200:
            first, last = asked.removeprefix("bytes=").split("-")
            start, end = int(first) + fault.shift, min(int(last) + 1 if last else len(body), len(body))
            headers.append(("Content-Range", f"bytes {start}-{end - 1}/{len(body)}"))
            status, body = (206, body[start:end]) if start < len(body) else (416, b"")
        if fault.status and fault.status != status:
            status, body, headers = fault.status, b"", []
        body = body if fault.truncate is None else body[: fault.truncate]
        headers += fault.headers
        if fault.announce != -1:
            headers.append(("Content-Length", str(len(body) if fault.announce is None else fault.announce)))
        self._send(request, status, headers, body, fault)

    def _send(self, request, status: int, headers, body: bytes, fault: Fault) -> None:
        head = f"HTTP/1.1 {status} x\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers) + "\r\n"
        part = body if fault.cut is None else body[: fault.cut]
        for _ in range(fault.hints):
            request.wfile.write(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
            if self.stopping.is_set():
                return
        if fault.drip:
            self._write(request, head.encode("latin-1"), fault, fault.drip == "headers")
            self._write(request, part, fault, fault.drip == "body")
        else:
            request.wfile.write(head.encode("latin-1") + part)  # at once: a second write would wait
        self.sent += len(part)
        if fault.cut is not None or fault.announce is not None:
            request.close_connection = True
            request.connection.shutdown(socket.SHUT_RDWR)

    def _write(self, request, data: bytes, fault: Fault, drip: bool) -> None:
        if not drip:
            request.wfile.write(data)
            return
        for at in range(0, len(data), fault.piece):
            if self.stopping.is_set():
                return
            request.wfile.write(data[at : at + fault.piece])
            time.sleep(fault.pause_s)


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


@pytest.fixture
def how() -> Transfer:
    return Transfer(connections=2, attempts=3, backoff_s=0.01, stall_s=1)


@pytest.fixture
def client(how: Transfer) -> Iterator[Client]:
    with Client(how.connections, how.stall_s) as client:
        yield client


@pytest.fixture
def genuine(shared: Path) -> Path:
    """Real crawl files."""
    folder = shared / "data" / "warc"
    if not folder.is_dir():
        pytest.skip("no WARC files in the shared data")
    return folder


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


TEXT = "<p>The harbour wall was finished in the spring of that year, and the boats came in one by one. Page {}.</p>"
LOOPBACK = ["127.0.0.0/8"]


def html(name: str, *links: str, head: str = "") -> bytes:
    anchors = "".join(f'<li><a href="{link}">{link}</a></li>' for link in links)
    return f"<html><head>{head}</head><body><main>{TEXT.format(name)}</main><ul>{anchors}</ul></body></html>".encode()


@pytest.fixture
def web(site):
    """A small site whose pages say that they are HTML."""
    site.types = True
    site.files |= {
        "": html("start", "/a", "/b#part", "/secret/x", "https://elsewhere.example/", "mailto:a@b.example", "/a"),
        "a": html("a", "/deep/1", "/image.png"),
        "b": html("b", "/moved", "/outside"),
        "deep/1": html("1", "2"),
        "deep/2": html("2", "/deep/3"),
        "deep/3": html("3"),
        "target": html("target"),
        "secret/x": html("secret"),
        "mapped": html("mapped"),
        "robots.txt": b"User-agent: *\nDisallow: /secret/\nDisallow: /*.pdf$\nSitemap: /sitemap.xml\n",
        "image.png": b"\x89PNG",
        "moved": b"",
        "outside": b"",
    }
    mapped = f"<urlset><url><loc>{site.url}mapped</loc></url><url><loc>{site.url}file.pdf</loc></url></urlset>"
    site.files["sitemap.xml"] = mapped.encode()
    site.faults["moved"] = [Fault(status=301, headers=(("Location", "/target"),))] * 9
    site.faults["outside"] = [Fault(status=302, headers=(("Location", "https://elsewhere.example/"),))] * 9
    return site


@pytest.fixture
def other():
    """A second web server."""
    other = Site()
    other.types = True
    other.files |= {"": html("other"), "sitemap.xml": b"<urlset/>"}
    yield other
    other.close()


@pytest.fixture
def corpus(site, tmp_path):
    def make(limits=None, stall_s=10, **crawl) -> Corpus:
        crawl = {"sites": [site.url], "agent": "tests/1 (+mail@host)", "delay_s": 0} | crawl
        crawl.setdefault("private_networks", LOOPBACK)
        transfer = {"attempts": 2, "backoff_s": 0.01, "stall_s": stall_s}
        days = {"start": dt.date(2020, 1, 1), "end": dt.date(2099, 1, 1), "path": tmp_path / "site.yaml"}
        source = {"kind": "crawl", "crawl": crawl, "transfer": transfer}
        return Corpus(name="site", description="Made for a test.", source=source, limits=limits or {}, **days)

    return make


def outcomes(crawl, site) -> dict[str, str]:
    """By path below the site, or whole address."""
    rows = pq.read_table(crawl.file("visits.parquet")).to_pylist()
    assert len({row["url"] for row in rows}) == len(rows) == crawl.manifest["rows"]["input"]
    return {row["url"].removeprefix(site.url): row["outcome"] for row in rows}


def paths(site) -> list[str]:
    return [path for path, _ in site.asked]
