"""The crawls of a corpus: each a dataset with its archive, what became of every address, and what is known by now."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import time
from pathlib import Path

from palimpsest.config import Corpus
from palimpsest.durable import lock
from palimpsest.fetch.addresses import chooser
from palimpsest.fetch.connection import Client
from palimpsest.fetch.links import read_page, read_sitemap
from palimpsest.fetch.site import FILE_S
from palimpsest.fetch.verify import check_warc
from palimpsest.fetch.visits import KEPT, Journal, begun_at, clear, known_pages, rows_of, write_tables
from palimpsest.ingest.records import SourceFile
from palimpsest.ingest.worker import Worker
from palimpsest.lake import Facts, Lake, LakeError, NotPublished, Published, digest_json
from palimpsest.state import state_dir
from palimpsest.takedown.tombstones import standing

HELD_S = 10.0
NAME = "%Y%m%dT%H%M%S%fZ"


def crawl_corpus(corpus: Corpus, lake: Lake) -> Published:
    """``corpora/<corpus>/crawls/<moment>``: pages.warc.gz, visits.parquet, known.parquet of a crawl that is made now.

    A crawl that was killed is gone on from. Raises `ConnectionError` if not one site answered.
    """
    from palimpsest.fetch.crawl import Crawler  # with a parser that reading a corpus does not need
    from palimpsest.fetch.opening import read_robots

    wanted = corpus.source.crawl
    asked = wanted.model_dump(mode="json") | {"max_page_bytes": corpus.limits.max_page_bytes}
    folder = state_dir() / "crawls" / corpus.name / digest_json([asked, lake.root])[:16]
    folder.mkdir(parents=True, exist_ok=True)
    held = _alone(folder, corpus)
    try:
        earlier = crawls(corpus, lake)
        begun = begun_at(folder)
        if begun and _name(corpus, begun) in {crawl.dataset for crawl in earlier}:
            clear(folder)  # its process ended between publishing it and here
        known = known_pages(earlier[-1] if earlier else None)
        journal = Journal(folder, dt.datetime.now(dt.UTC))
        bounds = (corpus.limits.page_timeout_s, corpus.limits.page_memory_mb)
        allowed, stall_s = chooser(wanted.private_networks), corpus.source.transfer.stall_s
        try:
            with (
                Client(8, stall_s, allowed, agent=wanted.agent, longest_s=FILE_S) as client,
                Worker(read_page, *bounds) as pages,
                Worker(read_robots, *bounds) as robots,
                Worker(read_sitemap, *bounds) as sitemaps,
            ):
                crawler = Crawler(corpus, client, journal, known, pages, robots, sitemaps)
                crawler.seen.update(standing(lake))  # what was taken down is not asked for
                crawler.run()
                more = {"sites_with_more": [site.base for site in crawler.sites.values() if site.has_more]}
        finally:
            journal.close()
        if not any(visit.outcome in (KEPT, "unchanged", "identical", "redirect") for visit in journal.visits):
            said = "; ".join(f"{v.url}: {v.outcome} {v.detail or v.status or ''}".strip() for v in journal.visits[:5])
            clear(folder)  # or the next crawl would go on from failures
            raise ConnectionError(f"{corpus.path}: not one page of source.crawl.sites could be had: {said}")

        def write(directory: Path) -> Facts:
            shutil.copyfile(journal.warc, directory / "pages.warc.gz")
            write_tables(directory, journal.visits, known, wanted.max_pages)
            return Facts(rows_of(journal.visits), check_warc(directory / "pages.warc.gz") | more)

        name = _name(corpus, journal.begun)
        published = lake.publish(name, write, config=asked, parents=earlier[-1:])
        clear(folder)
        return published
    finally:
        os.close(held)


def _name(corpus: Corpus, begun: dt.datetime) -> str:
    return f"corpora/{corpus.name}/crawls/{begun.strftime(NAME)}"


def _alone(folder: Path, corpus: Corpus) -> int:
    """The lock of the crawl's folder. The parser of a crawl that was killed holds it until it notices."""
    deadline = time.monotonic() + HELD_S
    while (held := lock(folder)) is None:
        if time.monotonic() > deadline:
            raise LakeError(f"{corpus.path}: a crawl of this corpus is under way; wait for it, or stop it first")
        time.sleep(0.1)
    return held


def crawls(corpus: Corpus, lake: Lake) -> list[Published]:
    """Every crawl of the corpus, the oldest first."""
    return lake.children(f"corpora/{corpus.name}/crawls")


def crawled_files(corpus: Corpus, lake: Lake) -> list[SourceFile]:
    """The archives of all crawls, unchecked: whoever reads one checks it. Raises `LakeError` where there is none."""
    found = []
    made = crawls(corpus, lake)
    if not made:
        raise NotPublished(f"{corpus.path}: no crawl is in lake {lake.root}: python -m palimpsest fetch {corpus.name}")
    for crawl in made:
        [entry] = [file for file in crawl.manifest["files"] if file["name"] == "pages.warc.gz"]
        name = f"{crawl.dataset.rsplit('/', 1)[-1]}/pages.warc.gz"
        found.append(SourceFile(name, lake.fetch(crawl) / "pages.warc.gz", entry["sha256"], crawl.extra["days"]))
    return found


def crawled_days(crawl: Published) -> list[dt.date]:
    """Days of which a crawl captured pages, in order."""
    return sorted(dt.date.fromisoformat(day) for day in crawl.extra["days"])


def all_crawled_days(corpus: Corpus, lake: Lake) -> list[dt.date]:
    """Days of which any crawl of the corpus captured pages, in order."""
    return sorted({day for crawl in crawls(corpus, lake) for day in crawled_days(crawl)})
