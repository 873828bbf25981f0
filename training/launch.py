"""A run in several processes, of this machine or several (`training.workers`)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from palimpsest.config import Study
from palimpsest.lake import Facts, Lake, Published, digest_code
from training import points
from training.nodes import Nodes
from training.processes import Group
from training.workers import Sender, Work, tell, worker

if TYPE_CHECKING:
    from training.loop import Progress, Tracker


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
    work = Work(
        f"run {run['run']}",
        "training.launch",
        order,
        training.threads,
        less="training.micro_tokens or training.processes",
        again="it goes on from its checkpoint when tried again",
    )
    return Facts(extra=work.run(machines, share, tracker=tracker, progress=progress))


def _order(file: str | None, group: Group) -> dict:
    """What is to be done: as the file says, or on other machines, which have none, as the first process tells.

    Raises `ValueError`, in all processes, where the machines do not fit together.
    """
    from training.pretrain import CODE

    order = json.loads(Path(file).read_text(encoding="utf-8")) if file else None
    if order and order["nodes"] == 1:
        return order
    order, codes = group.told(order), group.gathered(digest_code(*CODE))
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

    with worker() as group:
        order = _order(file, group)
        first = group.rank == 0
        sender = Sender(order["mlflow_run_id"]) if first else None
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
            tell({"facts": facts.extra})


if __name__ == "__main__":
    _work(sys.argv[1] if len(sys.argv) > 1 else None)
