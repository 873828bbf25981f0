"""A takedown that is killed: whatever it had done, the same command goes on to the same end."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from dataclasses import replace

from palimpsest.lake import Lake
from palimpsest.takedown import tombstones
from tests.palimpsest.takedown.conftest import DAYS, datasets, take_down, traces

DEATHS = (2, 12, 32, 40, 48, 64, 80)
"""At which change to the lake: while it is ordered, in the ledger, among what is removed, among what is rewritten."""


def test_killed_anywhere_it_is_gone_on_from(world):
    whole = replace(world, folder=world.folder / "whole", lake=Lake(world.folder / "whole" / "lake"))
    shutil.copytree(world.lake.base, whole.lake.base)
    wanted = take_down(whole)
    states = set()
    for death in DEATHS:
        folder = world.folder / f"dies-{death}"
        shutil.copytree(world.lake.base, folder / "lake")
        dying = replace(world, folder=folder, lake=Lake(folder / "lake"))
        assert _die_at_change(death, dying), f"it came to its end before change {death}"
        states.add((len(datasets(dying.lake)), len(tombstones.orders(dying.lake)), len(traces(dying.lake))))
        take_down(dying)
        assert traces(dying.lake) == {}, death
        assert datasets(dying.lake) == datasets(whole.lake)
        assert tombstones.orders(dying.lake, unfinished=True) == []
        told = tombstones.details(dying.lake.latest(tombstones.DATASET))
        assert {row["uri"] for row in told["removed"]} == {row["uri"] for row in wanted.plan.removed}
        for day in DAYS:
            name = f"corpora/sample/pages/{day}"
            dying.lake.verify(dying.lake.latest(name))
            assert dying.lake.latest(name).manifest["rows"] == whole.lake.latest(name).manifest["rows"]
    assert len(states) > 4, states


def _die_at_change(number: int, world) -> bool:
    """Take the page down in a child, killed at its n-th change to the lake; False if it came to its end first."""
    child = os.fork()
    if child == 0:
        seen = 0

        def kill(event: str, arguments: tuple) -> None:
            nonlocal seen
            changes = event in {"os.rename", "os.remove", "os.mkdir", "shutil.rmtree"}
            changes |= event == "open" and bool((arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR))
            if changes and str(arguments[0]).startswith(str(world.lake.base)):
                seen += 1
                if seen == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(kill)
        try:
            take_down(world)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)
