"""MLflow behind Airflow's login: ``python -m palimpsest_airflow.gateway`` passes on the requests of whoever has it.

MLflow itself asks for no login, so it listens on a Unix socket (or a network of its own) and this gateway has its port.
Cookies know no ports: a browser that is logged in to Airflow on this host is known here too. Programs send Airflow's
token (MLFLOW_TRACKING_TOKEN). An origin of its own keeps MLflow's scripts away from Airflow's pages.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import time
from collections.abc import AsyncIterator
from urllib.parse import quote

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response, StreamingResponse

REMEMBERED_S = 20.0
"""A login is asked for again after so long; a logout takes at most that long to reach MLflow."""
HOP_BY_HOP = {"connection", "keep-alive", "te", "trailers", "transfer-encoding", "upgrade", "host"}
NOT_FOR_MLFLOW = HOP_BY_HOP | {"cookie", "authorization", "origin", "referer"}
SAFE = {"GET", "HEAD", "OPTIONS"}


def gateway(upstream: str, airflow: str, public_airflow: str) -> FastAPI:
    """The gateway to MLflow at ``upstream`` (``unix:/path`` or an address) for users of ``airflow``.

    ``airflow`` is where this process reaches Airflow, ``public_airflow`` where browsers do.
    """
    socket = upstream.removeprefix("unix:") if upstream.startswith("unix:") else None
    mlflow = httpx.AsyncClient(
        transport=httpx.AsyncHTTPTransport(uds=socket),
        base_url="http://localhost" if socket else upstream,
        timeout=httpx.Timeout(300, connect=10),
    )
    login = httpx.AsyncClient(base_url=airflow, timeout=10, trust_env=False)
    seen: dict[str, float] = {}

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await mlflow.aclose()
        await login.aclose()

    async def known(request: Request) -> bool:
        shown = {k: v for k, v in request.headers.items() if k in ("cookie", "authorization")}
        if not shown:
            return False
        digest = hashlib.sha256(repr(sorted(shown.items())).encode()).hexdigest()
        if seen.get(digest, 0.0) > time.monotonic():
            return True
        answer = await login.get("/palimpsest/session", headers=shown)
        if answer.status_code != 204:
            seen.pop(digest, None)
            return False
        now = time.monotonic()
        for old in [key for key, until in seen.items() if until < now]:
            del seen[old]
        seen[digest] = now + REMEMBERED_S
        return True

    async def forward(request: Request) -> Response:
        foreign = request.headers.get("origin", "").split("://")[-1] not in ("", request.headers.get("host"))
        if request.method not in SAFE and foreign:
            return JSONResponse({"detail": "requests that change something must come from MLflow's own pages"}, 403)
        try:
            if not await known(request):
                return _ask_for_login(request, public_airflow)
            headers = {k: v for k, v in request.headers.items() if k not in NOT_FOR_MLFLOW}
            target = request.scope["raw_path"] + (b"?" + request.scope["query_string"] if request.url.query else b"")
            url = mlflow.base_url.copy_with(raw_path=target)
            passed = mlflow.build_request(request.method, url, headers=headers, content=request.stream())
            answer = await mlflow.send(passed, stream=True)
        except httpx.TransportError as error:
            return JSONResponse({"detail": f"MLflow or Airflow does not answer: {error}"}, 502)
        headers = {k: v for k, v in answer.headers.items() if k not in HOP_BY_HOP}
        return StreamingResponse(answer.aiter_raw(), answer.status_code, headers, background=_Close(answer))

    app = FastAPI(title="MLflow gateway", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_api_route(
        "/{path:path}",
        forward,
        methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"],
        response_model=None,
    )
    return app


class _Close:
    """Closes MLflow's answer once it is passed on."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer

    async def __call__(self) -> None:
        await self.answer.aclose()


def _ask_for_login(request: Request, airflow: str) -> Response:
    if "text/html" in request.headers.get("accept", ""):
        return RedirectResponse(f"{airflow}/auth/login/?next={quote(f'{airflow}/palimpsest/mlflow')}", 302)
    return JSONResponse({"detail": f"log in at {airflow}, or send its token (MLFLOW_TRACKING_TOKEN)"}, 401)


def main() -> int:
    import uvicorn

    host, port = os.environ.get("PALIMPSEST_MLFLOW_HOST", "127.0.0.1"), os.environ.get("PALIMPSEST_MLFLOW_PORT", "5000")
    public = os.environ["PALIMPSEST_AIRFLOW_URL"].rstrip("/")
    internal = os.environ.get("PALIMPSEST_AIRFLOW_INTERNAL_URL", public).rstrip("/")
    app = gateway(os.environ["PALIMPSEST_MLFLOW_UPSTREAM"], internal, public)
    uvicorn.run(app, host=host, port=int(port), log_level="warning", access_log=False, server_header=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
