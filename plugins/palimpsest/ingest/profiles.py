"""Which extractor's text a page gets: resiliparse reads every page, trafilatura and jusText those it may have missed.

``fast`` asks only whether resiliparse found anything usable; ``best`` also runs trafilatura where a cheap signal does
not already speak for resiliparse's text, and weighs the lengths. Nothing here looks at a clock, and a page's text
depends on that page alone. The thresholds were chosen on the 528 pages of the WCXB development set in ``make bench``
(word F1, ten-fold cross-validation over sites: nearly every fold chooses these very values).
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from resiliparse.extract.html2text import extract_plain_text

from palimpsest.ingest import markdown

if TYPE_CHECKING:
    from resiliparse.parse.html import HTMLTree

Profile = Literal["resiliparse", "fast", "best"]
EXTRACTORS = ("resiliparse", "whole_page", "trafilatura", "justext")
ENOUGH = 300  # words: `fast` does not count the whole page if the main text has more
HEAVY = 200_000  # characters of HTML: where half of trafilatura's time goes, for a ninth of what it gains
PRODUCT = re.compile(r'"@type"\s*:\s*"Product"|og:type"\s+content="product', re.IGNORECASE)
"""A shop's page: resiliparse takes the whole catalogue, trafilatura the description."""


@dataclass(frozen=True)
class Thresholds:
    """Shares of words, except ``sure_prose``."""

    thin: float = 0.1
    """Of the page: resiliparse's main text below this is nothing usable (it took the content for furniture)."""
    sure_share: float = 0.7
    """Of the page: main text above this that is prose as well is one article without much around it, and kept."""
    sure_prose: float = 0.4
    """Share of the main text's lines that end as sentences do."""
    heavy_share: float = 0.3
    """Of a heavy page: main text above this that has enough words is kept too."""
    lost: float = 0.2
    """Of the page: trafilatura's text below this has lost something."""
    shorter: float = 0.9
    """Of resiliparse's: so has this."""


@dataclass(frozen=True)
class Chosen:
    """``words`` of each candidate that was asked for; the others were not needed."""

    text: str
    extractor: str
    words: dict[str, int] = field(default_factory=dict)


CHOSEN = Thresholds()


class Candidates:
    """What each extractor finds on one page, made when it is asked for. ``tree`` is the parse of ``page``."""

    def __init__(self, page: str, tree: HTMLTree) -> None:
        self.page, self._tree = page, tree
        self._made: dict[str, tuple[str, int]] = {}

    def __getitem__(self, extractor: str) -> tuple[str, int]:
        """Text, and its words."""
        if extractor not in self._made:
            text = self._make(extractor)
            self._made[extractor] = text, len(text.split())
        return self._made[extractor]

    def _make(self, extractor: str) -> str:
        if extractor == "trafilatura":
            return _trafilatura(self.page)
        if extractor == "justext":
            return _justext(self.page)
        # all visible text, and what forums hide from visitors who run their scripts
        how = {"main_content": True} if extractor == "resiliparse" else {"noscript": True}
        reduced = extract_plain_text(
            self._tree, preserve_formatting="minimal_html", alt_texts=False, links=False, **how
        )
        return markdown.from_minimal_html(reduced)


def load(profile: Profile) -> None:
    """Import what the profile needs, before worker processes are forked from this one."""
    if profile == "best":
        import justext
        import trafilatura

        # What they would warn about (an empty tree, a page without text) is in the columns.
        for package in (justext, trafilatura):
            logging.getLogger(package.__name__).setLevel(logging.CRITICAL)


def main_text(tree: HTMLTree) -> str:
    """Resiliparse's main text alone, without structure."""
    return extract_plain_text(tree, main_content=True, alt_texts=False, links=False, list_bullets=False)


def choose(found: Candidates, profile: Profile, limits: Thresholds = CHOSEN) -> Chosen:
    """The page's text under ``fast`` or ``best``."""
    main, own = found["resiliparse"]
    words = {"resiliparse": own}
    if profile == "fast" and own >= ENOUGH:
        return Chosen(main, "resiliparse", words)
    whole, words["whole_page"] = found["whole_page"]
    thin = own < limits.thin * words["whole_page"]
    usual = Chosen(whole, "whole_page", words) if thin else Chosen(main, "resiliparse", words)
    if profile == "fast":
        return usual
    shop = PRODUCT.search(found.page) is not None
    if not thin and not shop and _is_sure(found, words["whole_page"], limits):
        return usual
    second, words["trafilatura"] = found["trafilatura"]
    lost = words["trafilatura"] < limits.lost * words["whole_page"]
    lost |= not thin and words["trafilatura"] < limits.shorter * own
    if thin:
        third, words["justext"] = found["justext"]
        if words["justext"] > max(words["trafilatura"], limits.lost * words["whole_page"]):
            return Chosen(third, "justext", words)
    return usual if (lost and not shop) or not words["trafilatura"] else Chosen(second, "trafilatura", words)


def _is_sure(found: Candidates, page: int, limits: Thresholds) -> bool:
    main, own = found["resiliparse"]
    if len(found.page) > HEAVY and own > max(limits.heavy_share * page, ENOUGH):
        return True
    if own <= limits.sure_share * page:
        return False
    lines = [line for line in main.split("\n") if line.strip()]
    return sum(line.rstrip()[-1] in ".!?:\"'" for line in lines) > limits.sure_prose * len(lines)


def _trafilatura(page: str) -> str:
    import trafilatura

    return markdown.from_trafilatura(trafilatura.bare_extraction(page))


def _justext(page: str) -> str:
    """Without a list of stop words, so in any language."""
    import justext

    return markdown.from_justext(justext.justext(page, frozenset(), stopwords_low=0, stopwords_high=0))
