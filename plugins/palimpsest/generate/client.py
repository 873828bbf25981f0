"""One server's OpenAI HTTP interface, asynchronously: every answer is JSON, or a `Fault` that says what to do."""

from __future__ import annotations

import email.utils
import ipaddress
import json
import re
import time
import urllib.request
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import aiohttp

Kind = Literal["bad_request", "denied", "busy", "error", "lost", "unreachable", "timeout", "garbled"]
"""Refused for what it asks (400, 404, 413, 422 ...), for who asks (401, 403), for now (408, 425, 429, 503); another
5xx; the connection broke before the answer was whole; there was no connection; no answer in time; not the protocol."""

DETAIL = 500
"""Characters of a server's message that are kept."""
LARGEST = 256 * 2**20
"""Bytes of an answer: what is larger is no answer (32 samples of 8,000 tokens with their ids are some 3 MB)."""
KEEP_ALIVE_S = 2.0
"""Shorter than vLLM's own 5 s, so that no request is sent into a connection the server is about to close."""
CONNECT_S = 10.0
PROBE_S = 10.0
METRIC = re.compile(rb"^vllm:num_requests_(running|waiting)(?:\{[^}\n]*\})? ([0-9.eE+]+)\s*$", re.MULTILINE)


class Fault(Exception):
    """Why a request has no usable answer."""

    def __init__(self, kind: Kind, detail: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail[:DETAIL]
        self.status = status
        self.retry_after = retry_after
        """Seconds the server asks to wait."""


@dataclass(frozen=True)
class Model:
    """What /v1/models says of one model."""

    name: str
    context: int | None
    """Tokens of prompt and answer together; None where the server does not say."""


class Client:
    """Connections to one base URL. ``timeout_s`` limits a whole request, its wait in the server's queue included."""

    def __init__(self, url: str, *, api_key: str | None = None, timeout_s: float = 1800) -> None:
        self.url = url
        self._proxy = proxy(url)
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_S)
        headers = {"Accept-Encoding": "identity", "User-Agent": "palimpsest"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        self._session = aiohttp.ClientSession(
            headers=headers,
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S, ttl_dns_cache=60),
            trust_env=False,  # the environment's proxy is chosen above; ~/.netrc must not replace the key
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        await self._session.close()

    async def post(self, path: str, body: bytes, *, timeout_s: float | None = None) -> Any:
        """The JSON answer to a JSON body; everything else is raised as a `Fault`."""
        limit = self._timeout if timeout_s is None else aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_S)
        status, headers, content = await self._send("POST", path, limit, body)
        if status != 200:
            raise refusal(status, headers, content)
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise Fault("garbled", f"the answer is not JSON ({error}): {readable(content)}") from None

    async def healthy(self) -> bool:
        """Whether /health answers 200; vLLM's says 503 once its engine is dead."""
        try:
            status, _, _ = await self._send("GET", "/health", aiohttp.ClientTimeout(total=PROBE_S))
        except Fault:
            return False
        return status == 200

    async def models(self) -> list[Model]:
        """What the server serves."""
        status, headers, content = await self._send("GET", "/v1/models", aiohttp.ClientTimeout(total=PROBE_S))
        if status != 200:
            raise refusal(status, headers, content)
        try:
            rows = json.loads(content)["data"]
            found = [(row["id"], row.get("max_model_len")) for row in rows]
        except (ValueError, RecursionError, TypeError, KeyError, AttributeError) as error:
            raise Fault("garbled", f"/v1/models is no list of models ({error!r}): {readable(content)}") from None
        return [Model(str(name), size if isinstance(size, int) else None) for name, size in found]

    async def queue(self) -> tuple[int, int] | None:
        """Samples (running, waiting) in vLLM's engines; None where /metrics does not tell."""
        status, _, content = await self._send("GET", "/metrics", aiohttp.ClientTimeout(total=PROBE_S))
        found = METRIC.findall(content) if status == 200 else []
        sums = {name: sum(float(value) for kind, value in found if kind == name) for name in (b"running", b"waiting")}
        return (int(sums[b"running"]), int(sums[b"waiting"])) if found else None

    async def _send(
        self, method: str, path: str, limit: aiohttp.ClientTimeout, body: bytes | None = None
    ) -> tuple[int, Any, bytes]:
        kind = {"Content-Type": "application/json"} if body is not None else None
        sent = False
        try:
            async with self._session.request(
                method,
                self.url + path,
                data=body,
                headers=kind,
                timeout=limit,
                proxy=self._proxy,
                allow_redirects=False,
            ) as response:
                sent = True
                return response.status, response.headers, await whole(response)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Fault("unreachable", f"{self.url}: {error or 'no connection in time'}") from None
        except TimeoutError:
            raise Fault("timeout", f"{self.url}{path}: no answer within {limit.total:g} s") from None
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, ConnectionError) as error:
            where = "before its end" if sent else "before an answer"
            raise Fault("lost", f"{self.url}{path}: the connection broke {where} ({error!r})") from None
        except (aiohttp.ClientError, ValueError) as error:  # no HTTP, or headers that are none
            raise Fault("garbled", f"{self.url}{path}: the answer is not HTTP ({error!r})") from None


async def whole(response: aiohttp.ClientResponse) -> bytes:
    """The body, as long as it is of a size that an answer can have."""
    parts, size = [], 0
    async for part in response.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > LARGEST:
            raise Fault("garbled", f"the answer is larger than {LARGEST} bytes")
    return b"".join(parts)


def refusal(status: int, headers: Any, content: bytes) -> Fault:
    """What a status other than 200 means."""
    detail = f"HTTP {status}: {message(content)}"
    if status in (401, 403):
        return Fault("denied", detail, status=status)
    if status in (408, 425, 429, 503):
        return Fault("busy", detail, status=status, retry_after=retry_after(headers.get("Retry-After")))
    if status >= 500:
        return Fault("error", detail, status=status)
    return Fault("bad_request", detail, status=status)


def message(content: bytes) -> str:
    """The server's own words in an error's body: OpenAI's {"error": {"message"}}, FastAPI's {"detail"}, or the text."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return readable(content)
    for name in ("error", "message", "detail"):
        if isinstance(found, dict) and name in found:
            found = found[name]
    return found if isinstance(found, str) else readable(json.dumps(found).encode())


def readable(content: bytes) -> str:
    return content[:DETAIL].decode("utf-8", "replace") or "(empty)"


def retry_after(value: str | None) -> float | None:
    """Seconds that a Retry-After header (seconds or a date) asks to wait; None for none or nonsense."""
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def proxy(url: str) -> str | None:
    """The environment's proxy for this URL; none for loopback, whatever the environment says."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost" or host.endswith(".localhost")
    if local or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(parts.scheme)
