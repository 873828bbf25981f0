"""What a crawl knows of one site while it lasts."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from protego import Protego

from palimpsest.fetch.visits import Link


@dataclass
class Site:
    """One robots.txt and what is still to be asked below it."""

    base: str
    robots: Protego | None = None
    delay_s: float = 0.0
    next_at: float = 0.0
    queue: deque[Link] = field(default_factory=deque)
    pages: int = 0
    bytes: int = 0
    """Of pages and sitemaps."""
