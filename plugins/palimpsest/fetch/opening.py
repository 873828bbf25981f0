"""How a crawl begins with a site: its robots.txt, then its sitemaps, while the other sites wait."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from protego import Protego

from palimpsest.config import Corpus
from palimpsest.fetch import links
from palimpsest.fetch.addresses import PrivateAddress
from palimpsest.fetch.connection import Client
from palimpsest.fetch.part import Refused
from palimpsest.fetch.site import FILE_S, Site, token_of
from palimpsest.fetch.transfer import LONGEST_PAUSE_S, fetch_small
from palimpsest.fetch.visits import Journal, Link, Visit
from palimpsest.ingest.worker import Poisoned, Worker
from palimpsest.lake import LakeError

MOST_ROBOTS = 512_000  # bytes of robots.txt that are read (RFC 9309, section 2.5: at least 500 KiB)
MOST_SITEMAPS = 50
MOST_NAMED = 1_000  # sitemaps that a site's robots.txt and indexes may name; no more of them are looked at
OPENING_S = 600.0  # that a site's robots.txt and sitemaps may take together
MOST_TRIES = 3  # of robots.txt and a sitemap, in a row
log = logging.getLogger(__name__)


def read_robots(body: bytes) -> Protego:
    """The rules of a robots.txt. They take as much memory as its user agents times its lines."""
    return Protego.parse(body.decode("utf-8", "replace"))


class Opening:
    """``seen``: addresses that have a visit or wait for one, shared with the crawl; ``add`` queues pages and says which
    of them were new; ``rules`` and ``read`` are `read_robots` and `links.read_sitemap` where they can do no harm.
    """

    def __init__(
        self,
        corpus: Corpus,
        client: Client,
        journal: Journal,
        seen: set[str],
        add: Callable[[list[Link]], list[Link]],
        rules: Worker,
        read: Worker,
    ) -> None:
        self.corpus, self.wanted, how = corpus, corpus.source.crawl, corpus.source.transfer
        self.token = token_of(self.wanted.agent)
        self.hasty = how.model_copy(update={"attempts": min(how.attempts, MOST_TRIES)})
        self.client, self.journal, self.seen, self.add = client, journal, seen, add
        self.rules, self.read = rules, read
        self.foreign: dict[str, None] = {}

    def robots(self, site: Site) -> bytes | None:
        """Ask what the site allows: ``site.robots``, its pace, the sitemaps that it names; or why nothing of it may be
        asked for. The file, if there is one.
        """
        url, body, declared, started = f"{site.base}/robots.txt", None, [], time.monotonic()
        try:
            body, _ = fetch_small(url, self.client, self.hasty, MOST_ROBOTS, FILE_S, LONGEST_PAUSE_S)
            site.robots = self.rules(body)
            declared = list(site.robots.sitemaps)
        except Refused:  # no such file: everything is allowed (RFC 9309, section 2.3.1.3)
            site.robots = Protego.parse("")
        except PrivateAddress as error:
            own = error.host == urlsplit(url).hostname  # or that of a redirect
            site.refused = ("private_address" if own else "robots_unavailable", str(error))
        except (ConnectionError, TimeoutError, LakeError, Poisoned) as error:  # one that cannot be read allows nothing
            site.refused = ("robots_unavailable", str(error))
        if site.robots:
            site.delay_s = max(site.delay_s, asked := self._pause_asked(site.robots))
            if asked > max(LONGEST_PAUSE_S, self.wanted.delay_s):
                said = f"its robots.txt asks for {asked:g} s between requests, more than {LONGEST_PAUSE_S:g}"
                site.refused = ("crawl_delay", said)
        if site.refused:
            log.warning("%s: nothing of the site is asked for: %s", url, site.refused[1])
        else:
            if self.wanted.sitemaps:
                site.declares = bool(self._name(site, [links.joined(f"{site.base}/", one) for one in declared]))
                if not site.declares:
                    self._name(site, [f"{site.base}/sitemap.xml"])
                self._name(site, [url for index, url in self.journal.sitemaps if links.site_of(index) == site.base])
        site.next_at = time.monotonic() + site.delay_s
        site.opening_s = OPENING_S - (time.monotonic() - started)
        return body

    def _pause_asked(self, robots: Protego) -> float:
        """Seconds between two requests."""
        rate = robots.request_rate(self.token)
        asked = min(rate.seconds, 10**9) / rate.requests if rate else 0.0  # of any number of digits
        return max(robots.crawl_delay(self.token) or 0.0, asked)

    def sitemaps(self, site: Site) -> None:
        """Read the sitemaps that the site and their indexes name. What is left of them ends as ``over_budget``."""
        until, silent = time.monotonic() + site.opening_s, False
        while site.sitemaps and site.sitemaps_done < MOST_SITEMAPS and not silent:
            if site.bytes >= self.wanted.max_bytes or max(site.next_at, time.monotonic()) >= until:
                break
            url = site.sitemaps.popleft()
            site.sitemaps_done += 1
            if site.robots.can_fetch(url, self.token):
                time.sleep(max(0.0, site.next_at - time.monotonic()))
                silent = not self._sitemap(site, url, min(FILE_S, until - time.monotonic()))
                site.next_at = time.monotonic() + site.delay_s
            else:
                self.journal.add(Visit(url, 0, "robots"))
        for url in site.sitemaps:
            self.journal.add(Visit(url, 0, "over_budget"))
        site.sitemaps.clear()

    def leave(self) -> None:
        """Sitemaps that were named by another site than theirs, and that no listed site has asked for itself."""
        for url in self.foreign:
            if url not in self.seen:
                self.seen.add(url)
                self.journal.add(Visit(url, 0, "other_site"))

    def _name(self, site: Site, found: list[str | None]) -> list[str]:
        """Note sitemaps to be read; those that were noted or known, of any site."""
        named = links.unique(found)[: MOST_NAMED - site.named]
        site.named += len(named)
        for url in named:
            if links.site_of(url) != site.base:
                self.foreign[url] = None  # never in `seen`: a listed site may have it, and asks for it itself
            elif url not in self.seen:
                self.seen.add(url)
                site.sitemaps.append(url)
        return named

    def _sitemap(self, site: Site, url: str, longest_s: float) -> bool:
        """Whether the server answered."""
        visit, pages, named, answered = Visit(url, 0, "sitemap"), [], [], True
        left = self.wanted.max_bytes - site.bytes

        def note(came: int) -> None:
            visit.bytes += came

        try:
            most = min(links.LARGEST_SITEMAP, left)
            body, _ = fetch_small(url, self.client, self.hasty, most, longest_s, LONGEST_PAUSE_S, note)
            pages, further = self.read(body)
            named = self._name(site, further)
        except (ValueError, ConnectionError, TimeoutError, Poisoned) as error:
            answered = not isinstance(error, (ConnectionError, TimeoutError))
            visit.outcome = "bad_sitemap" if site.declares else "sitemap"  # nobody said that there is one
            if left < min(visit.bytes, links.LARGEST_SITEMAP):
                visit.outcome = "over_budget"
            visit.detail = str(error)[:500]
        site.bytes += visit.bytes
        self.journal.add(visit, self.add([(page, 0, 0) for page in pages]), sitemaps=named)
        return answered
