"""A client as one would write it in an afternoon, all requests at once: ``python plain.py URL REQUESTS.jsonl``.

It does nothing but ask (no retries, no record), so it is the fastest that a client can be.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import aiohttp


async def main(url: str, file: str) -> None:
    bodies = [line.encode() for line in Path(file).read_text(encoding="utf-8").splitlines()]
    headers = {"Content-Type": "application/json"}
    limit = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=limit, headers=headers
    ) as session:

        async def ask(body: bytes) -> int:
            async with session.post(f"{url}/v1/completions", data=body) as response:
                response.raise_for_status()
                return (await response.json())["usage"]["completion_tokens"]

        started = time.perf_counter()
        tokens = sum(await asyncio.gather(*map(ask, bodies)))
        print(json.dumps({"seconds": time.perf_counter() - started, "tokens": tokens}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
