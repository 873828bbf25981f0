"""Of which steps a tracker hears: of a few in any run, and of one every few seconds in a long one."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

POINTS = 24  # at even distances in any run, besides the evaluations
SECONDS = 5.0  # without a point, then there is one in between
MOST = 1000  # of these in between


class Live:
    """The points of one run's curve, as it trains."""

    def __init__(self, steps: int, evaluated: Iterable[int], tokens: int) -> None:
        """``steps`` of the run, those after which it is ``evaluated``, and the tokens of a step."""
        self.steps, self.tokens = steps, tokens
        self.fixed = {round(steps * k / POINTS) for k in range(1, POINTS + 1)}.union(evaluated)
        self._step, self._seconds, self._told = 0, 0.0, time.monotonic()

    def past(self, done: int, seconds: float) -> list[int]:
        """The points of the first ``done`` steps, which took ``seconds`` in all: those of a run that is taken up."""
        found = [0]
        apart = max(self.steps / MOST, SECONDS * done / seconds if seconds else math.inf)
        for step in range(1, done + 1):
            if step in self.fixed or step - found[-1] >= apart:
                found.append(step)
        self._step, self._seconds = done, seconds
        return found[1:]

    def due(self, step: int) -> bool:
        late = time.monotonic() - self._told >= SECONDS
        return step in self.fixed or (late and step - self._step >= self.steps / MOST)

    def rate(self, step: int, seconds: float) -> dict[str, float]:
        """The speed since the point before, in tokens per second; ``seconds`` were spent in all steps up to this."""
        found = (step - self._step) * self.tokens / (seconds - self._seconds)
        self._step, self._seconds, self._told = step, seconds, time.monotonic()
        return {"tokens_per_second": found}
