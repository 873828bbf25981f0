"""What goes into one HTTP request, and to which server it goes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from palimpsest.generate.requests import Request

MOST_SAMPLES = 32
"""Samples per HTTP request: the answer comes when the slowest is done, and a broken connection loses all of them."""


@dataclass(eq=False)
class Flight:
    """Contiguous samples of one group, asked for in one HTTP request, and what has befallen it so far."""

    requests: tuple[Request, ...]
    tries: int = 0
    """Errors and unusable answers of a server that was well."""
    refusals: int = 0
    overdue: int = 0
    """Time limits that passed."""
    losses: int = 0
    """Connections that broke although the server was well."""
    strikes: int = 0
    """Crashes of a server that it was in flight at."""
    troubled_at: float | None = None
    """When its first failure came."""
    home: object | None = None
    """The server it has strikes from."""
    outcome: tuple[str, str] | None = field(default=None)
    """Cause and detail it ends with once its server has shown that it answers others."""

    @property
    def apart(self) -> bool:
        """One crash may have had any cause; what was in flight at two is kept apart from the rest."""
        return self.strikes > 1

    @property
    def n(self) -> int:
        return len(self.requests)

    @cached_property
    def keys(self) -> list[str]:
        return [request.key for request in self.requests]

    @property
    def place(self) -> str:
        """What is hashed to choose the server: all of a document's requests share it, and so a prefix cache."""
        return self.requests[0].url or self.requests[0].document

    def parts(self, positions: list[int]) -> Iterator[Flight]:
        """Flights of these samples only, each contiguous, with the same history."""
        for run in contiguous(positions):
            history = {name: getattr(self, name) for name in ("tries", "refusals", "overdue", "losses", "strikes")}
            requests = tuple(self.requests[position] for position in run)
            yield Flight(requests, **history, troubled_at=self.troubled_at, home=self.home)


def contiguous(numbers: Iterable[int]) -> Iterator[list[int]]:
    run: list[int] = []
    for number in numbers:
        if run and number != run[-1] + 1:
            yield run
            run = []
        run.append(number)
    if run:
        yield run


def flights(requests: Iterable[Request], most: int = MOST_SAMPLES) -> Iterator[Flight]:
    """Neighbouring requests of one group whose seeds follow one another, at most ``most`` together.

    vLLM gives sample i of n the seed ``seed + i`` (v1/engine/parallel_sampling.py), so together they get the texts
    that each would get alone.
    """
    run: list[Request] = []
    for request in requests:
        if run and (len(run) == most or not follows(run[-1], request)):
            yield Flight(tuple(run))
            run = []
        run.append(request)
    if run:
        yield Flight(tuple(run))


def follows(one: Request, other: Request) -> bool:
    return bool(one.group) and one.group == other.group and other.seed == one.seed + 1 and one.prompt == other.prompt


def weight(place: str, replica: str) -> bytes:
    """Rendezvous hashing: the server with the greatest weight for a place has it; without it the next one does."""
    return hashlib.blake2b(f"{replica}\0{place}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
