"""How long a client that was killed (``kill -9``) and started again leaves the engine below its full speed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.benchmarks.serving.clients import Work

LOOK_S = 0.2
WINDOW_S = 1.5
"""Speed is that of so many seconds: single steps of the engine come in bursts."""
FULL = 0.9
KILLED = 1 / 3
"""Share of all tokens that are generated when the client is killed."""


@dataclass(frozen=True)
class Recovery:
    seconds: float
    """From the kill to the beginning of the first window at nine tenths of the speed it then keeps."""
    repaid: float
    """Tokens generated more than were asked for, as a share of them."""


Mark = tuple[float, float]
"""When, and how many tokens the server had generated."""


def kill_and_restart(work: Work, command: Sequence[str]) -> Recovery:
    """The client killed at a third of its work, started again at once, and left to finish."""
    work.serving.forget()
    begun = generated(work)
    process = work.start(command)
    while generated(work) - begun < KILLED * work.tokens:
        if process.poll() is not None:
            raise RuntimeError(f"{' '.join(command)} ended before it could be killed: status {process.returncode}")
        time.sleep(LOOK_S)
    process.kill()
    process.wait()
    killed, process = time.monotonic(), work.start(command)
    marks: list[Mark] = []
    while process.poll() is None:
        marks.append((time.monotonic(), generated(work)))
        time.sleep(LOOK_S)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} did not finish after it was killed: status {process.returncode}")
    return Recovery(at_full_speed(marks) - killed, (generated(work) - begun) / work.tokens - 1)


def at_full_speed(marks: Sequence[Mark]) -> float:
    """When the first window at full speed begins; full is what the middle half of the tokens were generated at."""
    low, high = (marks[0][1] + share * (marks[-1][1] - marks[0][1]) for share in (0.25, 0.75))
    middle = [mark for mark in marks if low <= mark[1] <= high]
    full = speed(middle[0], middle[-1])
    for number, mark in enumerate(marks):
        end = next((later for later in marks[number:] if later[0] - mark[0] >= WINDOW_S), marks[-1])
        if end[0] > mark[0] and speed(mark, end) >= FULL * full:
            return mark[0]
    raise RuntimeError("it never came back to its own speed; give it more work")


def speed(one: Mark, other: Mark) -> float:
    return (other[1] - one[1]) / (other[0] - one[0])


def generated(work: Work) -> float:
    return work.serving.counters()["generation_tokens_total"]
