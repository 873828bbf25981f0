"""What a crawl knows of one site while it lasts."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from protego import Protego

from palimpsest.fetch.visits import Link

PAGE_S = 300.0  # that a page may take, however steadily it comes, or robots.txt or a sitemap with all its tries


def token_of(agent: str) -> str:
    """The name that rules of robots.txt are looked up under."""
    return agent.split("/")[0].split()[0]


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
    sitemaps: deque[str] = field(default_factory=deque)
    """To be read."""
    sitemaps_done: int = 0
    """Asked for, or forbidden by robots.txt."""
    named: int = 0
    """Sitemaps that it named, of whatever site."""
    declares: bool = False
    """Whether its robots.txt names a sitemap."""
    opening_s: float = 0.0
    """What is left of the time for its robots.txt and sitemaps."""
