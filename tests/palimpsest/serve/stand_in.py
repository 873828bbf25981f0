"""A small real server in vLLM's place: it is started by the same command line, and behaves as ``--behaviour`` says.

It starts an 'engine' that starts a 'worker', both deaf to SIGTERM and in sessions of their own, as hard to find as
processes get. ``ok``; ``usage`` (ends with status 2); ``crash`` (before it is ready); ``second`` (crashes the first
time); ``until_broken`` (crashes once there is a file 'broken' in the model's folder); ``mute`` (never answers);
``other`` (serves another model).
"""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

CHILD = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if len(sys.argv) > 2: subprocess.Popen([sys.executable, "-c", sys.argv[2], "worker"], start_new_session=True)
time.sleep(600)
"""


def main() -> None:
    options = dict(part.removeprefix("--").split("=", 1) for part in sys.argv[1:] if "=" in part)
    behaviour = options.get("behaviour", "ok")
    print("variables:", *sorted(os.environ), flush=True)
    if behaviour == "usage":
        print("error: unrecognized arguments: --no-such-thing", flush=True)
        sys.exit(2)
    before = Path(options["model"]) / "started"
    broken = behaviour == "until_broken" and (Path(options["model"]) / "broken").exists()
    if broken or behaviour == "crash" or (behaviour == "second" and not before.exists()):
        before.touch()
        print("CUDA out of memory: the GPU is taken", flush=True)
        sys.exit(1)
    engine = subprocess.Popen([sys.executable, "-c", CHILD, "engine", CHILD], start_new_session=True)
    while behaviour == "mute":
        time.sleep(1)
    model = "other" if behaviour == "other" else options["served-model-name"]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/health":
                self.answer(200 if engine.poll() is None else 503)
            elif self.headers.get("Authorization") != f"Bearer {os.environ['VLLM_API_KEY']}":
                self.answer(401)
            else:
                self.answer(200, {"data": [{"id": model}]})

        def answer(self, status: int, body: object = None) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # and its engine runs on
    http.server.ThreadingHTTPServer(("127.0.0.1", int(options["port"])), Handler).serve_forever()


if __name__ == "__main__":
    main()
