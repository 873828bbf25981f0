"""The machine: what this process may use of it, and what something was measured on, in words."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def cores() -> int:
    """Logical CPUs that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def hardware() -> str:
    """Processor, its logical CPUs, memory, and the GPUs its driver lists."""
    lines = _lines(Path("/proc/cpuinfo")) or [f"model name: {platform.processor() or platform.machine()}"]
    processor = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "CPU")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cards = [line for file in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")) for line in _lines(file)]
    names = [line.split(":", 1)[1].strip() for line in cards if line.startswith("Model")]
    return ", ".join([f"{processor}, {os.cpu_count()} logical CPUs, {memory:.0f} GiB", *names])


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []
