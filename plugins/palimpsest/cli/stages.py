"""Commands that run one stage each, generation's apart."""

from __future__ import annotations

import argparse
import datetime as dt

from palimpsest.cli.summary import summary
from palimpsest.config import Corpus, check_files, load_corpus, load_study
from palimpsest.lake import Lake


def register(add) -> None:
    add("fetch", _fetch, "source files that lie elsewhere → the lake", "corpus")
    ingest = add("ingest", _ingest, "crawl records of some days → pages", "corpus")
    ingest.add_argument("--from", dest="start", type=_day, help="first day (default: the corpus's)")
    ingest.add_argument("--to", dest="end", type=_day, help="last day, inclusive")
    add("documents", _documents, "all published pages → documents and drops (dbt)", "corpus")
    add("split", _split, "documents → training and validation, and the tokenizer", "study")
    add("build", _build, "megadocs and mixes (dbt)", "study")


def _day(value: str) -> dt.date:
    try:
        return dt.date.fromisoformat(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{value}' is no day; write it like 2026-10-01") from None


def _fetch(options) -> None:
    from palimpsest.fetch.stage import fetch_corpus

    print(summary(fetch_corpus(load_corpus(options.corpus), Lake.from_env())))


def _ingest(options) -> None:
    from palimpsest.fetch.crawls import all_crawled_days
    from palimpsest.ingest.stage import extract_days

    corpus, lake = load_corpus(options.corpus), Lake.from_env()
    days = days_between(corpus, options.start, options.end)
    if corpus.source.kind == "crawl":  # its range is open: days without a crawl are no days without pages
        crawled = set(all_crawled_days(corpus, lake))
        days = [day for day in days if day in crawled]
    for day in extract_days(corpus, days, lake):
        print(summary(day))


def _documents(options) -> None:
    from palimpsest.documents import build_documents

    print(summary(build_documents(load_corpus(options.corpus), Lake.from_env())))


def _split(options) -> None:
    from palimpsest.documents import admitted_documents
    from palimpsest.split import split

    study, lake = load_study(options.study), Lake.from_env()
    check_files(study)  # those of tasks and held-out sets are read only after everything has been generated
    print(summary(split(study, lake, documents=[admitted_documents(c, lake) for c in study.corpora])))


def _build(options) -> None:
    from palimpsest import align
    from palimpsest.choice import latest_selection
    from palimpsest.mixes import build_mixes

    study, lake = load_study(options.study), Lake.from_env()
    split, plan, generations = (lake.latest(f"studies/{study.name}/{s}") for s in ("split", "plan", "generations"))
    selection = latest_selection(study, lake)
    mixes = build_mixes(study, lake, split=split, plan=plan, generations=generations, selection=selection)
    print("\n".join(line for line in (align.told(lake, mixes), summary(mixes)) if line))


def days_between(corpus: Corpus, start: dt.date | None, end: dt.date | None) -> list[dt.date]:
    """Every day from ``start`` to ``end`` inclusive; the corpus's own range where one is not given."""
    first, last = start or corpus.start, end or corpus.end
    if last < first:
        raise ValueError(f"--to {last} lies before --from {first}; give the days in order")
    return [first + dt.timedelta(days=n) for n in range((last - first).days + 1)]
