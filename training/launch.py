"""A run in several processes, of this machine or several: torchrun as a child, its log passed on, its failure raised
here.

The first worker says what happens in lines of JSON on standard output, each marked; everything else the workers print
goes to the log. If this process dies, the pipe breaks at the next step and the workers end too.
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
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from palimpsest.config import Study
from palimpsest.lake import Facts, Lake, Published, digest_code
from training import nodes, points
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


def launch(
    study: Study,
    lake: Lake,
    tokens: Published,
    run: dict,
    directory: Path,
    *,
    tracker: Tracker | None = None,
    progress: Progress | None = None,
) -> Facts:
    """Trains the run in ``training.processes`` processes, which write its files into ``directory``.

    With PALIMPSEST_NODES above 1 they are divided over so many machines, of which this is the first (`training.nodes`).
    Raises what a worker raised, by its family, with its message; `ConnectionError` (tried again) where one was killed,
    or another machine did not come or was lost; `ConfigError` for wrong settings of the machines.
    """
    training = points.applied(study, run).training
    machines = Nodes.from_env()
    share = machines.share(training.processes)
    order = {
        "study": study.model_dump(mode="json", exclude_unset=True),  # that a default was written is told apart
        "lake": lake.root,
        "tokens": {"lake": tokens.lake.root, **tokens.ref},
        "run": run,
        "directory": str(directory),
        "mlflow_run_id": getattr(tracker, "run_id", None),
        "nodes": machines.count,
        "processes": training.processes,
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "order.json"
        file.write_text(json.dumps(order), encoding="utf-8")
        command = [*machines.torchrun(0, share), "-m", "training.launch", str(file)]
        child = subprocess.Popen(
            command, env=nodes.environment(training.threads), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace",
        )  # fmt: skip
        try:
            said, tail = _listen(child, tracker, progress)
            status = child.wait()
        finally:
            _stop(child)
    if status == 0 and "facts" in said:
        return Facts(extra=said["facts"])
    raise _failure(run["run"], status, said, tail, machines)


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


def _failure(run: str, status: int, said: Mapping, tail: deque[str], machines: Nodes) -> Exception:
    family, message = said.get("failed", ("", ""))
    if family in FAMILIES:
        return FAMILIES[family](message)
    # the others then fail too, for want of the one that was killed
    killed = next((int(found[1]) for line in tail if (found := SIGNALLED.search(line))), -min(status, 0))
    if killed not in (0, signal.SIGTERM, signal.SIGINT):
        return ConnectionError(
            f"run {run}: a process ended by {signal.Signals(killed).name}: someone ended it, or the machine ran out of "
            "memory (then lower training.micro_tokens or training.processes); it goes on from its checkpoint when "
            "tried again"
        )
    came = next((found[1] for line in tail if (found := CAME.search(line))), None)
    if machines.count > 1 and came and not message:
        return ConnectionError(
            f"run {run}: only {came} of {machines.count} machines came to {machines.host}:{machines.port} within "
            f"{nodes.WITHIN_SECONDS} s; on each of the others run python -m training join NUMBER (1 to "
            f"{machines.count - 1}), and see that this address reaches here from there"
        )
    if machines.count > 1 and LOST.search(message):
        return ConnectionError(
            f"run {run}: another of its {machines.count} machines was lost, whose own log says why ({message}); it "
            "goes on from its checkpoint when tried again"
        )
    if message:
        return RuntimeError(f"run {run}: {message}")
    errors = [found[1] for line in tail if (found := ERROR.match(line)) and "ChildFailedError" not in line]
    return RuntimeError(f"run {run}: torchrun ended with status {status}: {(errors or list(tail) or ['silent'])[-1]}")


class _Sender:
    """Tracker and progress of the first worker: a line each for the process that waits."""

    def __init__(self, run_id: str | None) -> None:
        self.run_id = run_id

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        _tell({"metrics": metrics, "step": step})

    def progress(self, step: int, steps: int, loss: float) -> None:
        _tell({"progress": [step, steps, loss]})


def _tell(event: dict) -> None:
    os.write(1, f"{MARK}{json.dumps(event)}\n".encode())


def _order(file: str | None, group: Group) -> dict:
    """What is to be done: as the file says, or on other machines, which have none, as the first process tells.

    Raises `ValueError`, in all processes, where the machines do not fit together.
    """
    from torch import distributed

    from training.pretrain import CODE

    order = json.loads(Path(file).read_text(encoding="utf-8")) if file else None
    if order and order["nodes"] == 1:
        return order
    told, codes = [order], [None] * group.world
    distributed.broadcast_object_list(told)
    distributed.all_gather_object(codes, digest_code(*CODE))
    (order,) = told
    if group.world != order["processes"]:
        raise ValueError(
            f"training.processes is {order['processes']}, and the machines started {group.world}; on each of the "
            f"others run python -m training join NUMBER --processes {order['processes'] // order['nodes']}"
        )
    other = next((rank for rank, code in enumerate(codes) if code != codes[0]), None)
    if other is not None:
        number = other * order["nodes"] // group.world
        raise ValueError(f"machine {number} has other code than machine 0; check out the same commit on all of them")
    return order


def _work(file: str | None) -> None:
    """One worker that torchrun started; ``file`` is the order, which only the first machine has."""
    from training.pretrain import checkpoints_of
    from training.run import write_run

    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: without torchrun nobody would stop it
    logging.basicConfig(level=logging.INFO if os.environ["RANK"] == "0" else logging.WARNING, format="%(message)s")
    try:
        with joined() as group:
            order = _order(file, group)
            first = group.rank == 0
            sender = _Sender(order["mlflow_run_id"]) if first else None
            study, lake, run = Study.model_validate(order["study"]), Lake(order["lake"]), order["run"]
            tokens = Lake(order["tokens"]["lake"]).open(order["tokens"]["uri"], order["tokens"]["digest"])
            facts = write_run(
                Path(order["directory"]) if first else None,
                checkpoints_of(study, lake, tokens, run),
                study,
                tokens,
                run,
                tracker=sender,
                progress=sender.progress if first else None,
                group=group,
            )
            if first:
                _tell({"facts": facts.extra})
    except BrokenPipeError:
        raise SystemExit("the process that waits for this training is gone") from None
    except Exception as error:
        family = next((name for name, kind in FAMILIES.items() if isinstance(error, kind)), type(error).__name__)
        _tell({"failed": [family, str(error) if family in FAMILIES else f"{type(error).__name__}: {error}"]})
        raise


if __name__ == "__main__":
    _work(sys.argv[1] if len(sys.argv) > 1 else None)
