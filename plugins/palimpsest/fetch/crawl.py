"""A polite crawl of a list of sites: what robots.txt allows, at its pace, within budgets, only what has changed.

One page at a time over all sites: each waits out its own delay while the others go on, and the order is the same
whenever the answers are.
"""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections import Counter

import httpcore

from palimpsest.config import Corpus
from palimpsest.fetch import http, links
from palimpsest.fetch.addresses import PrivateAddress
from palimpsest.fetch.connection import MOVED, Client, header, headers_of, location
from palimpsest.fetch.opening import Opening
from palimpsest.fetch.part import Busy
from palimpsest.fetch.site import MOST_SILENT, PAGE_S, PATIENCE_PAGE_S, PATIENCE_S, Site, token_of
from palimpsest.fetch.transfer import LONGEST_ASKED_S
from palimpsest.fetch.visits import CRAWLS_AHEAD, KEPT, Journal, Known, Link, Visit
from palimpsest.fetch.warcfile import PROFILE, message, record, sha1
from palimpsest.ingest.http import read_message
from palimpsest.ingest.records import Record, without_user
from palimpsest.ingest.worker import Poisoned, Worker
from palimpsest.lake import LakeError

HTML = ("text/html", "application/xhtml+xml", "")
UNWANTED = {"noindex", "noarchive", "none", "noai"}  # what a page says of itself that keeps it out of an archive
MOST_REDIRECTS = 5
log = logging.getLogger(__name__)


class Crawler:
    """One crawl; ``known``: what earlier crawls found, by address. ``pages``, ``robots`` and ``sitemaps`` read what
    servers sent (`links.read_page`, `opening.read_robots`, `links.read_sitemap`) where it can do no harm.
    """

    def __init__(
        self,
        corpus: Corpus,
        client: Client,
        journal: Journal,
        known: dict[str, Known],
        pages: Worker,
        robots: Worker,
        sitemaps: Worker,
    ) -> None:
        self.corpus, self.wanted, self.how = corpus, corpus.source.crawl, corpus.source.transfer
        self.client, self.journal, self.known = client, journal, known
        self.read_page, self.token = pages, token_of(self.wanted.agent)
        self.most = CRAWLS_AHEAD * self.wanted.max_pages
        self.sites: dict[str, Site] = {}
        self.seen: set[str] = {visit.url for visit in journal.visits}
        self.tries: Counter[str] = Counter()
        self.opening = Opening(corpus, client, journal, self.seen, self._add, robots, sitemaps)

    def run(self) -> None:
        """Every address that can be reached ends as a visit of the journal. Raises `LakeError` if all sites are at
        private addresses.
        """
        if self.journal.is_new:
            about = f"software: palimpsest\r\nhttp-header-user-agent: {self.wanted.agent}\r\nrobots: RFC 9309\r\n"
            self.journal.write(record("warcinfo", "", _now(), about.encode(), "application/warc-fields"))
        for start in self.wanted.sites:
            self.sites.setdefault(links.site_of(links.canonical(start)), Site(links.site_of(links.canonical(start))))
        for visit in self.journal.visits:  # gone on from: what was spent counts
            if site := self.sites.get(links.site_of(visit.url)):
                site.pages += visit.status is not None
                site.bytes += visit.bytes
                site.sitemaps_done += visit.outcome in ("sitemap", "bad_sitemap")
        for site in self.sites.values():
            self._open(site)
        refused = [site.refused for site in self.sites.values() if site.refused]
        if [outcome for outcome, _ in refused] == ["private_address"] * len(self.sites):
            raise LakeError(f"{self.corpus.path}: source.crawl.sites: {refused[0][1]}")
        for site in self.sites.values():  # once every site has named its own: none can take another's for a page
            self.opening.sitemaps(site)
        self._add(self.journal.found)
        while waiting := [site for site in self.sites.values() if site.queue]:
            site = min(waiting, key=lambda one: one.next_at)
            if ended := self._ended(site):
                self._close(site, *ended)
                continue
            time.sleep(max(0.0, site.next_at - time.monotonic()))
            started = time.monotonic()
            self._visit(site, *site.queue.popleft())
            site.held_s += time.monotonic() - started
        self.opening.leave()
        for site in self.sites.values():
            if site.has_more:
                log.warning("%s: more than %d addresses were found; the others are not counted", site.base, self.most)

    def _open(self, site: Site) -> None:
        """Its robots.txt, and where to begin: the starts, then what is known of it."""
        site.delay_s = self.wanted.delay_s
        starts = map(links.canonical, self.wanted.sites)
        self._add([(url, 0, 0) for url in starts if links.site_of(url) == site.base])
        self._add([(url, known.depth, 0) for url, known in self.known.items() if links.site_of(url) == site.base])
        if (body := self.opening.robots(site)) is not None:
            self.journal.write(record("metadata", f"{site.base}/robots.txt", _now(), body, "text/plain"))

    def _add(self, found: list[Link]) -> list[Link]:
        """Queue the addresses that are new and of a listed site; those that were added."""
        added = []
        for url, depth, hops in found:
            site = self.sites.get(links.site_of(url))
            if site is None or url in self.seen:
                continue
            if url not in self.known:
                if site.added >= self.most:
                    site.has_more = True
                    continue
                site.added += 1
            self.seen.add(url)
            if depth > self.wanted.max_depth:
                self.journal.add(Visit(url, depth, "too_deep"))
                continue
            site.queue.append((url, depth, hops))
            added.append((url, depth, hops))
        return added

    def _ended(self, site: Site) -> tuple[str, str] | None:
        """Outcome and detail of what is left of the site, if nothing more of it is asked for."""
        if site.refused:
            return site.refused
        if site.pages >= self.wanted.max_pages or site.bytes >= self.wanted.max_bytes:
            return "over_budget", ""
        if site.silent >= MOST_SILENT:
            return "no_answer", f"not asked for any more: {site.silent} tries of the site in a row had no answer"
        if site.held_s > PATIENCE_S + PATIENCE_PAGE_S * site.pages:
            return "over_budget", f"not asked for: {site.pages} pages of the site took {site.held_s:.0f} s"
        return None

    def _close(self, site: Site, outcome: str, detail: str) -> None:
        log.info("%s: %d addresses are left: %s %s", site.base, len(site.queue), outcome, detail)
        while site.queue:
            url, depth, _ = site.queue.popleft()
            self.journal.add(Visit(url, depth, outcome, detail[:500]))

    def _visit(self, site: Site, url: str, depth: int, hops: int) -> None:
        if not site.robots.can_fetch(url, self.token):
            self.journal.add(Visit(url, depth, "robots"))
            return
        visit, pause = Visit(url, depth, "no_answer", fetched_at=_now().isoformat()), site.delay_s
        site.pages += 1
        try:
            with self.client.once(url, {**http.PLAIN, **self._conditions(url)}) as response:
                self._take(site, visit, hops, response)
            site.silent = 0
        except PrivateAddress as error:
            visit.outcome, visit.detail = "private_address", str(error)
            self.journal.add(visit)
        except (ConnectionError, TimeoutError) as error:
            asked = error.after_s if isinstance(error, Busy) else None
            self.tries[url] += 1
            site.silent += 1
            failures = max(self.tries[url], site.silent)
            pause = max(pause, min(asked or self.how.backoff_s * 2**failures, LONGEST_ASKED_S))
            if self.tries[url] < self.how.attempts:
                site.pages -= 1
                site.queue.append((url, depth, hops))
            else:
                visit.detail = str(error)[:500]
                self.journal.add(visit)
        site.next_at = time.monotonic() + pause

    def _captured(self, url: str) -> Known | None:
        known = self.known.get(url)
        return known if known and known.payload_sha1 else None

    def _conditions(self, url: str) -> dict[str, str]:
        known = self._captured(url)
        if known is None:
            return {}
        sent = {"If-None-Match": known.etag, "If-Modified-Since": known.last_modified}
        return {name: value for name, value in sent.items() if value and value.isascii()}

    def _take(self, site: Site, visit: Visit, hops: int, response: httpcore.Response) -> None:
        """What the answer says, in the journal. Raises `ConnectionError` for one that is no answer yet."""
        visit.status = response.status
        visit.etag, visit.last_modified = header(response, "etag"), header(response, "last-modified")
        media = header(response, "content-type").split(";")[0].strip().lower()
        if response.status == 304 and self._captured(visit.url):
            visit.outcome = "unchanged"
            self.journal.add(visit, record=self._revisit(visit, response, "server-not-modified"))
        elif response.status in MOVED:
            self._redirect(visit, hops, location(response))
        elif response.status == 429 or response.status >= 500:
            raise Busy(f"{visit.url}: HTTP {response.status}", http.retry_after(header(response, "retry-after")))
        elif response.status != 200:
            visit.outcome = "http_status"
            self.journal.add(visit)
        elif media not in HTML:
            visit.outcome, visit.detail = "not_html", media
            self.journal.add(visit)
        else:
            self._page(site, visit, response)

    def _redirect(self, visit: Visit, hops: int, target: str) -> None:
        """The target is an address like any other: of a listed site, allowed by its robots.txt, on a public network."""
        following = links.joined(visit.url, target)
        visit.detail = following or without_user(target)[:500]
        if hops >= MOST_REDIRECTS:
            visit.outcome = "http_status"
            visit.detail = f"more than {MOST_REDIRECTS} redirects, the last to {visit.detail}"
            self.journal.add(visit)
            return
        ours = following and links.site_of(following) in self.sites
        visit.outcome = "redirect" if ours else "other_site"
        self.journal.add(visit, self._add([(following, visit.depth, hops + 1)]) if ours else [])

    def _page(self, site: Site, visit: Visit, response: httpcore.Response) -> None:
        body = self._read(site, visit, response)
        if body is None:
            return
        visit.payload_sha1 = sha1(body)
        block = message(response.status, "OK", response.headers, body)
        page, found = self._look(visit, block)
        tags = ",".join(headers_of(response, "x-robots-tag")).split(",")
        words = {word.strip().lower() for word in tags} | set(page["robots"])
        if words & UNWANTED:
            visit.outcome, visit.detail = "robots_meta", ", ".join(sorted(words & UNWANTED))
            self.journal.add(visit)
            return
        if words & {"nofollow"}:
            found = []
        known = self._captured(visit.url)
        if known and known.payload_sha1 == visit.payload_sha1:
            visit.outcome = "identical"
            entry = self._revisit(visit, response, "identical-payload-digest")
        else:
            visit.outcome = KEPT
            entry = record("response", visit.url, _at(visit), block, WARC_Payload_Digest=visit.payload_sha1)
        self.journal.add(visit, self._add(found), entry)

    def _read(self, site: Site, visit: Visit, response: httpcore.Response) -> bytes | None:
        """The body; None, and the visit's end, for more than a page may have."""
        limit, started = self.corpus.limits.max_page_bytes, time.monotonic()
        parts = []
        try:
            for part in response.iter_stream():
                parts.append(part)
                visit.bytes += len(part)
                if visit.bytes > limit or time.monotonic() - started > PAGE_S:
                    visit.outcome, visit.detail = "too_large", f"more than {limit} bytes (limits.max_page_bytes)"
                    if visit.bytes <= limit:
                        visit.outcome, visit.detail = "no_answer", f"not whole after {PAGE_S:g} s"
                    self.journal.add(visit)
                    return None
        finally:
            site.bytes += visit.bytes  # also of a transfer that broke off
        return b"".join(parts)

    def _look(self, visit: Visit, block: bytes) -> tuple[dict, list[Link]]:
        """The page's own rules and its links, read where a page that hangs or crashes the parser does no harm."""
        found = Record("response", 0, visit.url, None)
        read_message(found, block, self.corpus.limits.max_page_bytes)
        try:
            page = self.read_page(found.payload, found.charset, visit.url)
        except Poisoned as poison:
            visit.detail = f"its links could not be read: {poison}"
            page = {"links": [], "robots": []}
        return page, [(url, visit.depth + 1, 0) for url in page["links"]] if self.wanted.follow_links else []

    def _revisit(self, visit: Visit, response: httpcore.Response, profile: str) -> bytes:
        known = self.known[visit.url]
        block = message(response.status, "OK" if response.status == 200 else "Not Modified", response.headers, b"")
        return record(
            "revisit",
            visit.url,
            _at(visit),
            block,
            WARC_Profile=PROFILE + profile,
            WARC_Payload_Digest=known.payload_sha1,
            WARC_Refers_To_Target_URI=visit.url,
            WARC_Refers_To_Date=known.fetched_at.replace("+00:00", "Z"),
        )


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _at(visit: Visit) -> dt.datetime:
    return dt.datetime.fromisoformat(visit.fetched_at)
