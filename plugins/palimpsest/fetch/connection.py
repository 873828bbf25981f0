"""HTTP requests that cannot hang: a connection that hardly brings anything is cut, even one that drips.

A read timeout alone is no defence: it begins anew with every byte (slow loris), also inside the headers. So every
stream counts what it brings over a window of waiting.
"""

from __future__ import annotations

import contextlib
import math
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import httpcore
import httpx

from palimpsest.lake import LakeError

SLOWEST = 1_024
"""Bytes per second under which a connection is not worth waiting for."""
CONNECT_S = 15.0
REDIRECTS = 5
AGENT = "palimpsest (a data pipeline; reads what corpus files name)"
MOVED = (301, 302, 303, 307, 308)
SAFE = "/:?#[]@!$&'()*+,;=%~-._"
"""What an address may hold beside letters and digits (RFC 3986, section 2); everything else is percent-encoded."""
Headers = Mapping[str, str]
Choose = Callable[[str, int], list[str]]


class Paced(httpcore.NetworkStream):
    """A stream that brings 1 KiB/s over every ``window_s`` seconds of waiting, and what was asked for within
    ``longest_s``, or raises `httpcore.ReadTimeout`.
    """

    def __init__(self, stream: httpcore.NetworkStream, window_s: float, longest_s: float) -> None:
        self._stream, self._window_s, self._longest_s = stream, window_s, longest_s
        self._waited, self._brought, self._until = 0.0, 0, math.inf

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = None
        while data is None:  # nothing came in what was left of the window: it is over, and may have brought enough
            started = time.monotonic()
            if started > self._until:
                raise httpcore.ReadTimeout(f"not whole after {self._longest_s:g} s")
            patience = min(self._window_s - self._waited, self._until - started)
            with contextlib.suppress(httpcore.ReadTimeout):
                data = self._stream.read(max_bytes, max(patience, 0.001))
            self._waited += time.monotonic() - started
            self._brought += len(data or b"")
            if self._waited >= self._window_s:
                if data != b"" and self._brought < SLOWEST * self._window_s:
                    raise httpcore.ReadTimeout(f"only {self._brought} bytes in {self._waited:.1f} s")
                self._waited, self._brought = 0.0, 0
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._waited, self._brought, self._until = 0.0, 0, time.monotonic() + self._longest_s
        self._stream.write(buffer, self._window_s)

    def close(self) -> None:
        self._stream.close()

    def start_tls(self, ssl_context, server_hostname=None, timeout=None) -> Paced:
        stream = self._stream.start_tls(ssl_context, server_hostname, self._window_s)
        return Paced(stream, self._window_s, self._longest_s)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class Backend(httpcore.NetworkBackend):
    """Connections of paced streams; ``choose(host, port)`` gives the addresses to connect to, or raises."""

    def __init__(self, window_s: float, longest_s: float, choose: Choose | None) -> None:
        self._plain, self._choose = httpcore.SyncBackend(), choose
        self._bounds = window_s, longest_s

    def connect_tcp(self, host, port, timeout=None, local_address=None, socket_options=None) -> Paced:
        """The first address that answers; all of them together have `CONNECT_S`."""
        left = self._choose(host, port) if self._choose else [host]
        until = time.monotonic() + CONNECT_S
        while True:
            address, *left = left
            patience = max((until - time.monotonic()) / (1 + len(left)), 0.001)
            try:
                stream = self._plain.connect_tcp(address, port, patience, local_address, socket_options)
                return Paced(stream, *self._bounds)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if not left:
                    raise

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class Client:
    """Connections to any number of hosts, for any number of threads.

    With ``choose`` the address connected to is one that it gave, whatever the name resolves to a moment later, and the
    proxies of the environment are not used: they would resolve names themselves. No answer takes more than
    ``longest_s``, however steadily it comes. ``tokens``: Authorization headers by `origin`; where a server redirects to
    gets its own or none.
    """

    def __init__(
        self,
        connections: int,
        stall_s: float,
        choose: Choose | None = None,
        tokens: Mapping[str, str] | None = None,
        agent: str = AGENT,
        longest_s: float = math.inf,
    ) -> None:
        self._tokens, self._agent = tokens or {}, agent
        options = {
            "ssl_context": httpx.create_ssl_context(),
            "max_connections": None,
            "max_keepalive_connections": connections,
            "keepalive_expiry": 30.0,
            "network_backend": Backend(stall_s, longest_s, choose),
        }
        self._direct = httpcore.ConnectionPool(**options)
        proxies = {} if choose else urllib.request.getproxies()
        self._proxied = {
            scheme: httpcore.HTTPProxy(proxies[scheme], **options) for scheme in ("http", "https") if scheme in proxies
        }

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *raised: object) -> None:
        for pool in (self._direct, *self._proxied.values()):
            pool.close()

    @contextmanager
    def once(self, url: str, headers: Headers) -> Iterator[httpcore.Response]:
        """The answer to one GET, its body unread and undecoded; redirects are answers like others.

        Raises `ConnectionError` or `TimeoutError` for what trying again may mend, `LakeError` for what is no address.
        """
        address = _address(url)
        scheme, token = address.scheme.decode(), self._tokens.get(str(address.origin))
        sent = {"User-Agent": self._agent, **headers} | ({"Authorization": token} if token else {})
        proxied = scheme in self._proxied and not urllib.request.proxy_bypass(address.host.decode())
        pool = self._proxied[scheme] if proxied else self._direct
        try:
            with pool.stream("GET", address, headers=sent) as response:
                yield response
        except httpcore.TimeoutException as error:
            raise TimeoutError(f"{url}: no answer, or too slow a one: {error or type(error).__name__}") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.ProxyError) as error:
            raise ConnectionError(f"{url}: {error or type(error).__name__}") from None

    @contextmanager
    def get(self, url: str, headers: Headers) -> Iterator[httpcore.Response]:
        """The answer to a GET, redirects followed. Raises `LakeError` for a chain of too many, or to no address."""
        for _ in range(REDIRECTS + 1):
            with self.once(url, headers) as response:
                target = location(response)
                if response.status not in MOVED or not target:
                    yield response
                    return
            url = resolved(url, target)
        raise LakeError(f"{url}: more than {REDIRECTS} redirects in a row; name the address that has the file")


def origin(url: str) -> str:
    """Scheme, host and port: what a token is for. Raises `LakeError` for what is no address."""
    return str(_address(url).origin)


def _address(url: str) -> httpcore.URL:
    """Taken apart here: httpcore would leave out what follows a semicolon."""
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("write it with http:// or https:// and a host")
        target = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=SAFE)
        return httpcore.URL(scheme=parts.scheme, host=parts.hostname.encode("idna"), port=parts.port, target=target)
    except ValueError as error:
        raise LakeError(f"{url}: no address that can be asked for: {error}") from None


def resolved(url: str, target: str) -> str:
    """The address that the answer of another one names. Raises `LakeError` for what is none."""
    try:
        return urljoin(url, target)
    except ValueError as error:
        raise LakeError(f"{url}: it leads to '{target}', which is no address: {error}") from None


def location(response: httpcore.Response) -> str:
    """Where the answer leads, '' without it; bytes that no address may hold are percent-encoded, as browsers do."""
    return quote(header(response, "location").encode("latin-1"), safe=SAFE)


def header(response: httpcore.Response, name: str) -> str:
    """A header's value, '' without it; of one that came twice the first."""
    return next(iter(headers_of(response, name)), "")


def headers_of(response: httpcore.Response, name: str) -> list[str]:
    """All values of a header, in order: one that holds a list may come as several (RFC 9110, section 5.3)."""
    wanted = name.encode()
    return [value.decode("latin-1").strip() for key, value in response.headers if key.lower() == wanted]
