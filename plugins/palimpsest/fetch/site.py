"""What a crawl knows of one site while it lasts."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from protego import Protego

from palimpsest.fetch.visits import Link

PAGE_S = 60.0
"""That the body of a page may take, however steadily it comes."""
FILE_S = 300.0
"""That robots.txt or a sitemap may take with all its tries, and any one answer with its headers."""
MOST_SILENT = 10
"""Tries of a site's pages in a row without an answer; then the site is left alone."""
PATIENCE_S, PATIENCE_PAGE_S = 600.0, 5.0
"""A site's requests for pages may hold the others up for so long, and for so much longer with each page."""


def token_of(agent: str) -> str:
    """The name that rules of robots.txt are looked up under."""
    return agent.split("/")[0].split()[0]


@dataclass
class Site:
    """One robots.txt and what is still to be asked below it."""

    base: str
    robots: Protego | None = None
    refused: tuple[str, str] | None = None
    """Outcome and detail of all its addresses, where nothing of it may be asked for."""
    delay_s: float = 0.0
    next_at: float = 0.0
    queue: deque[Link] = field(default_factory=deque)
    added: int = 0
    """Addresses that no earlier crawl had found."""
    has_more: bool = False
    """Whether there were more than are taken up."""
    pages: int = 0
    bytes: int = 0
    """Of pages and sitemaps, also of those that did not come whole."""
    silent: int = 0
    """Tries of its pages in a row without an answer."""
    held_s: float = 0.0
    """Time that its addresses took, all tries together, the pauses between them apart."""
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
