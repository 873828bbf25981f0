"""A small server that speaks vLLM's OpenAI protocol over real sockets, and fails in the ways a prompt asks for.

A prompt with ``[[<fault>]]`` in it meets that fault each time, with ``[[<fault>:2]]`` the first two times. Faults:
a status (``429``, ``500`` ...), ``reset`` (after half an answer), ``hang``, ``crash`` (the whole server goes, and is
back after ``down_s``), ``html``, ``list``, ``deep``, ``few``, ``twice``, ``other_model``, ``null``, ``abort``,
``surrogate``.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

FAULT = re.compile(r"\[\[([a-z_0-9]+)(?::(\d+))?\]\]")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@dataclass
class Faulty:
    model: str = "tiny"
    context: int | None = 8192
    delay_s: float = 0.0
    """Of one answer, once it has its slots."""
    slots: int = 10_000
    """Samples generated at the same time; others wait."""
    down_s: float = 0.3
    """How long it is away after a crash; below 0 for good."""
    key: str | None = None
    metrics: bool = True
    retry_after: str | None = None
    stuck: bool = False
    """Nothing is generated any more, though /health answers."""
    move: bool = False
    """Comes back at another port."""
    port: int = field(default_factory=free_port)
    seen: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of all requests for text, as they came."""
    headers: list[dict[str, str]] = field(default_factory=list)
    sent_at: list[float] = field(default_factory=list)
    together: list[list[str]] = field(default_factory=list)
    """What was in flight at each crash, by prompt."""
    aborted: int = 0
    """Requests whose client went away."""
    most: int = 0
    """Samples in flight at once, at most."""
    running: int = 0
    waiting: int = 0
    crashes: int = 0
    fail: dict[str, int] = field(default_factory=dict)
    """Status for every request from now on: {'status': 500}, while it is not empty."""
    _times: Counter = field(default_factory=Counter)
    _flying: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Faulty:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self._do(self._up())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._leave())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def stop(self) -> None:
        self._do(self._down())

    def start(self) -> None:
        self._do(self._up())

    def asked(self) -> Counter:
        """How often each prompt came."""
        return Counter(prompt_of(body) for body in self.seen)

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    async def _up(self) -> None:
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/v1/completions", self._generate)
        app.router.add_post("/v1/chat/completions", self._generate)
        app.router.add_get("/health", self._health)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/metrics", self._metrics)
        self.runner = web.AppRunner(app, shutdown_timeout=0, access_log=None, handler_cancellation=True)
        await self.runner.setup()
        self.freed = asyncio.Condition()
        self.running = self.waiting = 0
        self._flying = []
        await web.TCPSite(self.runner, "127.0.0.1", self.port, reuse_address=True).start()

    async def _down(self) -> None:
        for site in list(self.runner.sites):
            await site.stop()
        for connection in list(self.runner.server.connections):
            if connection.transport is not None:
                connection.transport.abort()
        await self.runner.cleanup()

    async def _leave(self) -> None:
        for task in asyncio.all_tasks():
            if task is not asyncio.current_task() and "_crash" in repr(task):
                task.cancel()
        with contextlib.suppress(Exception):
            await self._down()

    async def _crash(self) -> None:
        self.crashes += 1
        self.together.append(sorted(self._flying))
        await self._down()
        if self.down_s >= 0:
            await asyncio.sleep(self.down_s)
            self.port = free_port() if self.move else self.port
            await self._up()

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _models(self, request: web.Request) -> web.Response:
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.json_response({"error": "Unauthorized"}, status=401)
        return web.json_response({"object": "list", "data": [{"id": self.model, "max_model_len": self.context}]})

    async def _metrics(self, _: web.Request) -> web.Response:
        if not self.metrics:
            raise web.HTTPNotFound
        lines = [
            "# HELP vllm:num_requests_running Number of requests in model execution batches.",
            f'vllm:num_requests_running{{engine="0",model_name="{self.model}"}} {float(self.running)}',
            f'vllm:num_requests_waiting{{engine="0",model_name="{self.model}"}} {float(self.waiting)}',
            f'vllm:num_requests_waiting_by_reason{{engine="0",reason="capacity"}} {float(self.waiting)}',
        ]
        return web.Response(text="\n".join(lines) + "\n")

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        prompt = prompt_of(body)
        self.seen.append(body)
        self.headers.append(dict(request.headers))
        self.sent_at.append(time.monotonic())
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.json_response({"error": "Unauthorized"}, status=401)
        if self.fail:
            return web.json_response({"error": {"message": "all fail"}}, status=self.fail["status"])
        found = FAULT.search(prompt)
        fault, times = found.groups() if found else (None, None)
        if fault and times is not None:
            self._times[prompt] += 1
            fault = fault if self._times[prompt] <= int(times) else None
        n = body.get("n", 1)
        self._flying.append(prompt)
        try:
            self.waiting += n
            try:
                async with self.freed:
                    await self.freed.wait_for(lambda: self.running + n <= max(self.slots, n))
                    self.running += n
            finally:
                self.waiting -= n
            self.most = max(self.most, self.running)
            try:
                return await self._answer(request, body, prompt, fault)
            finally:
                async with self.freed:
                    self.running -= n
                    self.freed.notify_all()
        except asyncio.CancelledError:
            self.aborted += 1
            raise
        finally:
            with contextlib.suppress(ValueError):
                self._flying.remove(prompt)

    async def _answer(self, request: web.Request, body: dict, prompt: str, fault: str | None) -> web.StreamResponse:
        if self.stuck or fault == "hang":
            await asyncio.sleep(3600)
        if not (fault and fault.isdigit()):
            await asyncio.sleep(self.delay_s / (2 if fault == "crash" else 1))  # while others are generated
        if fault == "crash":
            self.loop.create_task(self._crash(), name="_crash")
            await asyncio.sleep(3600)
        if fault and fault.isdigit():
            headers = {"Retry-After": self.retry_after} if self.retry_after else {}
            error = {"error": {"message": f"no: {prompt}", "type": "Error", "code": int(fault)}}
            return web.json_response(error, status=int(fault), headers=headers)
        whole = answer(body, self.model)
        if fault == "html":
            return web.Response(text="<html>gateway</html>", content_type="text/html")
        if fault == "list":
            return web.json_response([1, 2])
        if fault == "deep":
            return web.Response(text="[" * 100_000, content_type="application/json")
        if fault == "few":
            whole["choices"].pop()
        if fault == "twice":
            whole["choices"][0]["index"] = whole["choices"][-1]["index"]
        if fault == "other_model":
            whole["model"] = "another"
        if fault == "null":
            last = whole["choices"][-1]
            last.update({"text": None} if "text" in last else {"message": {"role": "assistant", "content": None}})
        if fault == "abort":
            whole["choices"][-1]["finish_reason"] = "abort"
        if fault == "surrogate":
            whole["choices"][-1]["text"] = "half \ud83d of one"
        content = json.dumps(whole).encode()
        if fault == "reset":
            response = web.StreamResponse(headers={"Content-Length": str(len(content))})
            await response.prepare(request)
            await response.write(content[: len(content) // 2])
            request.transport.abort()
            return response
        return web.Response(body=content, content_type="application/json")


def prompt_of(body: dict[str, Any]) -> str:
    return body["messages"][-1]["content"] if "messages" in body else body["prompt"]


def text_of(prompt: str, seed: int) -> str:
    """What the server writes: by prompt and seed alone, of 1 to 16 words."""
    digest = hashlib.sha256(f"{prompt}\0{seed}".encode()).hexdigest()
    return " ".join([digest[:8]] * (1 + int(digest[8], 16)))


def answer(body: dict[str, Any], model: str) -> dict[str, Any]:
    prompt = prompt_of(body)
    choices = []
    total = 0
    for index in range(body.get("n", 1)):
        text = text_of(prompt, body["seed"] + index)
        count = len(text.split())
        total += count
        choice: dict[str, Any] = {"index": index, "finish_reason": "stop" if count < 16 else "length"}
        choice |= {"message": {"role": "assistant", "content": text}} if "messages" in body else {"text": text}
        if body.get("return_token_ids"):
            choice["token_ids"] = list(range(count))
        choices.append(choice)
    usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": total, "total_tokens": 0}
    return {"id": "x", "object": "text_completion", "model": model, "choices": choices, "usage": usage}
