"""A train loss that goes up and does not come back, though it is still a number."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

STEPS, SHARE = 32, 0.01  # the mean is over so many steps, or this share of the run where that is more
LOST = 0.5  # of what the run had learned
LEAST = 0.05  # of ln(vocabulary)
MOST = 1.1  # times ln(vocabulary) is what a single loss counts at most: spikes do not last


@dataclass(frozen=True)
class Risen:
    step: int
    """The first one that lay above the limit."""
    what: str


class Rise:
    """Watches a run's train losses, step by step, for a rise that it does not come back from.

    The rule: after the warm-up the mean loss of 32 steps, or of a hundredth of the run where that is more, may not lie
    above its lowest so far by more than half of what the run had learned there (ln(vocabulary), the loss of equal
    probabilities, minus that lowest mean), nor by more than a twentieth of ln(vocabulary) where that is more. So a run
    that never learned has to be above ln(vocabulary), a plateau may last as long as it likes, and a spike passes: no
    single loss counts more than 1.1 ln(vocabulary). It hangs on the losses alone: a run that is taken up again gives
    those it has once more.
    """

    def __init__(self, vocabulary: int, steps: int, warmup: float) -> None:
        """``steps`` of the whole run, and the share of them that is its warm-up."""
        self.uniform, self.warmup = math.log(vocabulary), math.ceil(warmup * steps)
        self.size = max(STEPS, math.ceil(SHARE * steps))
        self.lowest, self.at = math.inf, 0
        """The lowest mean, in nats, and the last of its steps."""
        self._last: deque[tuple[int, float]] = deque()
        self._sum = 0.0

    @property
    def good(self) -> int:
        """The last step whose weights were seen to be good: the loss after it was still low. 0: too early to say."""
        return max(0, self.at - 1)

    def add(self, step: int, loss: float) -> Risen | None:
        """The rise, if it is for good with this step's loss in nats. A loss of 0, of no target, is passed over."""
        if loss == 0:
            return None
        self._last.append((step, min(loss, MOST * self.uniform)))
        self._sum += self._last[-1][1]
        if len(self._last) > self.size:
            self._sum -= self._last.popleft()[1]
        if len(self._last) < self.size:
            return None
        mean = self._sum / self.size
        if mean < self.lowest:
            self.lowest, self.at = mean, step
        lowest = min(self.lowest, self.uniform)
        limit = lowest + max(LOST * (self.uniform - lowest), LEAST * self.uniform)
        if self._last[0][0] <= self.warmup or mean <= limit:
            return None
        first = next((at for at, loss in self._last if at > self.at and loss > limit), step)
        return Risen(
            first,
            f"the mean loss of {self.size} steps rose from {self.lowest:.3g} at step {self.at} to {mean:.3g} at step "
            f"{step} (ln(vocabulary) is {self.uniform:.3g})",
        )
