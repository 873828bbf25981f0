"""Work in several processes, of this machine or several: torchrun as a child, its log passed on, its failure raised
here.

The first worker says what happens in lines of JSON on standard output, each marked; everything else the workers print
goes to the log. If this process dies, the pipe breaks at the next line and the workers end too.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from training import nodes
from training.failure import Diverged
from training.nodes import Nodes
from training.processes import Group, joined

if TYPE_CHECKING:
    from training.loop import Progress, Tracker

MARK = "\x1epalimpsest "
TAIL = 400  # lines kept to find what a worker said last
GRACE_SECONDS = 30
FAMILIES = {kind.__name__: kind for kind in (Diverged, ValueError, ConnectionError, TimeoutError)}
ERROR = re.compile(r"^(?:\[\w+\]:)?\s*([\w.]*(?:Error|Exception|Interrupt)\b.*)$")
SIGNALLED = re.compile(r"exitcode\s*:\s*-(\d+)")
CAME = re.compile(r"(\d+)/\d+ clients joined")
LOST = re.compile(r"gloo|nccl|^Dist\w+Error|Connection (closed|reset)", re.IGNORECASE)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Work:
    """What is done in several processes."""

    name: str
    """As errors begin: ``run simple-s0``."""
    module: str
    """Run by every worker, with the path of a file of JSON that has the order; on other machines without one."""
    order: Mapping
    threads: int
    less: str
    """What to lower where memory runs out."""
    again: str
    """What happens when it is tried again."""

    def run(
        self, machines: Nodes, processes: int, *, tracker: Tracker | None = None, progress: Progress | None = None
    ) -> dict:
        """The facts that the first of the workers told; ``processes`` are those of this machine.

        Raises what a worker raised, by its family, with its message; `ConnectionError` (tried again) where one was
        killed, or another machine did not come or was lost.
        """
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "order.json"
            file.write_text(json.dumps(self.order), encoding="utf-8")
            command = [*machines.torchrun(0, processes), "-m", self.module, str(file)]
            child = subprocess.Popen(
                command, env=nodes.environment(self.threads), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, errors="replace",
            )  # fmt: skip
            try:
                said, tail = _listen(child, tracker, progress)
                status = child.wait()
            finally:
                _stop(child)
        if status == 0 and "facts" in said:
            return said["facts"]
        raise self.failure(status, said, tail, machines)

    def failure(self, status: int, said: Mapping, tail: deque[str], machines: Nodes) -> Exception:
        family, message = said.get("failed", ("", ""))
        if family in FAMILIES:
            return FAMILIES[family](message)
        # the others then fail too, for want of the one that was killed
        killed = next((int(found[1]) for line in tail if (found := SIGNALLED.search(line))), -min(status, 0))
        if killed not in (0, signal.SIGTERM, signal.SIGINT):
            return ConnectionError(
                f"{self.name}: a process ended by {signal.Signals(killed).name}: someone ended it, or the machine ran "
                f"out of memory (then lower {self.less}); {self.again}"
            )
        came = next((found[1] for line in tail if (found := CAME.search(line))), None)
        if machines.count > 1 and came and not message:
            return ConnectionError(
                f"{self.name}: only {came} of {machines.count} machines came to {machines.host}:{machines.port} within "
                f"{nodes.WITHIN_SECONDS} s; on each of the others run python -m training join NUMBER (1 to "
                f"{machines.count - 1}), and see that this address reaches here from there"
            )
        if machines.count > 1 and LOST.search(message):
            return ConnectionError(
                f"{self.name}: another of its {machines.count} machines was lost, whose own log says why ({message}); "
                f"{self.again}"
            )
        if message:
            return RuntimeError(f"{self.name}: {message}")
        errors = [found[1] for line in tail if (found := ERROR.match(line)) and "ChildFailedError" not in line]
        return RuntimeError(
            f"{self.name}: torchrun ended with status {status}: {(errors or list(tail) or ['silent'])[-1]}"
        )


class Sender:
    """Tracker and progress of the first worker: a line each for the process that waits."""

    def __init__(self, run_id: str | None = None) -> None:
        self.run_id = run_id

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        tell({"metrics": dict(metrics), "step": step})

    def progress(self, step: int, steps: int, loss: float) -> None:
        tell({"progress": [step, steps, loss]})


def tell(event: Mapping) -> None:
    """A line for the process that waits; ``facts`` are what it is given in the end."""
    os.write(1, f"{MARK}{json.dumps(event)}\n".encode())


@contextmanager
def worker() -> Iterator[Group]:
    """In a process that torchrun started: its group. What fails in it is told to the process that waits."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: without torchrun nobody would stop it
    logging.basicConfig(level=logging.INFO if os.environ["RANK"] == "0" else logging.WARNING, format="%(message)s")
    try:
        with joined() as group:
            yield group
    except BrokenPipeError:
        raise SystemExit("the process that waits for this work is gone") from None
    except Exception as error:
        family = next((name for name, kind in FAMILIES.items() if isinstance(error, kind)), type(error).__name__)
        tell({"failed": [family, str(error) if family in FAMILIES else f"{type(error).__name__}: {error}"]})
        raise


def _listen(child: subprocess.Popen, tracker: Tracker | None, progress: Progress | None) -> tuple[dict, deque[str]]:
    said, tail = {}, deque(maxlen=TAIL)
    for line in child.stdout:
        other, mark, event = line.rstrip("\n").partition(MARK)
        if other:
            tail.append(other)
            log.info("%s", other)
        if not mark:
            continue
        event = json.loads(event)
        if "progress" in event and progress:
            progress(*event["progress"])
        if "metrics" in event and tracker:
            tracker.log_metrics(event["metrics"], event["step"])
        if "failed" in event:
            said.setdefault("failed", event["failed"])
        if "facts" in event:
            said["facts"] = event["facts"]
    return said, tail


def _stop(child: subprocess.Popen) -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    child.stdout.close()
