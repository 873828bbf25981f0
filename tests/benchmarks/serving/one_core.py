"""One side of a comparison as a process of its own on one core, by the processor seconds of all that it starts."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence


def run(command: Sequence[str]) -> dict:
    """What it prints as its last line, as JSON; a side that fails ends the benchmark with what it said."""
    core = min(os.sched_getaffinity(0))
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=lambda: os.sched_setaffinity(0, {core}))
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def seconds() -> float:
    """Processor seconds of this process and of its children that have ended."""
    return sum(os.times()[:4])
