"""The stages without Airflow: ``python -m palimpsest --help``.

A study by hand, in order::

    python -m palimpsest ingest sample && python -m palimpsest documents sample
    python -m expectations documents sample
    python -m palimpsest split demo && python -m palimpsest plan demo && python -m palimpsest generate demo
    python -m palimpsest build demo && python -m expectations study demo
    python -m training tokenize demo && python -m training train demo && python -m training report demo
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import logging
import os
import sys
from pathlib import Path

from palimpsest.config import Corpus, check_files, corpora_dir, load_corpus, load_study
from palimpsest.lake import Lake, Published


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0, or 1 with one clear message on standard error."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        options.command(options)
    except BrokenPipeError:  # the reader (head, less) has gone: not an error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m palimpsest", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, command, text: str, *places: str):
        sub = commands.add_parser(name, help=text, description=text)
        for place in places:
            sub.add_argument(place)
        sub.set_defaults(command=command)
        return sub

    add("validate", _validate, "check corpus and study files; names file, key and what is allowed").add_argument(
        "file", nargs="+"
    )
    add("schema", _schema, "print the JSON Schema of corpus or study files, for editors").add_argument(
        "kind", choices=["corpus", "study"]
    )
    ingest = add("ingest", _ingest, "crawl records of some days → pages", "corpus")
    ingest.add_argument("--from", dest="start", type=dt.date.fromisoformat, help="first day (default: the corpus's)")
    ingest.add_argument("--to", dest="end", type=dt.date.fromisoformat, help="last day, inclusive")
    add("documents", _documents, "all published pages → documents and drops (dbt)", "corpus")
    add("split", _split, "documents → training and validation, and the tokenizer", "study")
    add("plan", _plan, "what is to be generated, and what of it is left", "study")
    add("generate", _generate, "generate what the ledger lacks, then publish", "study").add_argument(
        "--shard", type=int, help="only this shard; publishes nothing"
    )
    add("build", _build, "megadocs and mixes (dbt)", "study")
    add("datasets", _datasets, "every dataset's latest version: rows, bytes, path")
    add("trace", _trace, "everything made of a page: document, generations, megadocs, mixes", "url")
    add("lineage", _lineage, "what a dataset version was made from, and what was made of it", "uri")
    add("sync", _sync, "rebuild the catalog from the lake's manifests")
    return parser


def _validate(options) -> None:
    for file in options.file:
        if Path(file).suffix:
            of_corpus = Path(file).resolve().parent.name in ("corpora", corpora_dir().name)
        else:
            of_corpus = (corpora_dir() / f"{file}.yaml").exists()
        kind, loaded = ("corpus", load_corpus(file)) if of_corpus else ("study", load_study(file))
        check_files(loaded)
        print(f"{loaded.path}: valid {kind} '{loaded.name}'")


def _schema(options) -> None:
    from palimpsest.config import json_schema

    print(json.dumps(json_schema(options.kind), indent=2))


def _ingest(options) -> None:
    from palimpsest.ingest.stage import extract_days

    corpus, lake = load_corpus(options.corpus), Lake.from_env()
    for day in extract_days(corpus, days_between(corpus, options.start, options.end), lake):
        print(_summary(day))


def _documents(options) -> None:
    from palimpsest.documents import build_documents

    print(_summary(build_documents(load_corpus(options.corpus), Lake.from_env())))


def _split(options) -> None:
    from palimpsest.documents import admitted_documents
    from palimpsest.split import split

    study, lake = load_study(options.study), Lake.from_env()
    print(_summary(split(study, lake, documents=[admitted_documents(c, lake) for c in study.corpora])))


def _plan(options) -> None:
    from palimpsest.generate.plan import plan, remaining

    study, lake = load_study(options.study), Lake.from_env()
    split = lake.latest(f"studies/{study.name}/split")
    planned = plan(study, lake, split=split)
    left = remaining(lake, split=split, plan=planned)
    print(_summary(planned))
    for name in study.strategies:
        print(f"  {name}: {len(left.get(name, []))} requests left")


def _generate(options) -> None:
    from rich.progress import Progress

    from palimpsest.generate.run import generate_shard, publish_generations

    study, lake = load_study(options.study), Lake.from_env()
    split, plan = (lake.latest(f"studies/{study.name}/{stage}") for stage in ("split", "plan"))
    shards = range(study.shards) if options.shard is None else [options.shard]
    with Progress() as bar:
        for shard in shards:
            task = bar.add_task(f"shard {shard}", total=None)
            generate_shard(
                study,
                lake,
                split=split,
                plan=plan,
                shard=shard,
                progress=lambda done, total, task=task: bar.update(task, completed=done, total=total),
            )
    if options.shard is None:
        print(_summary(publish_generations(study, lake, split=split, plan=plan)))


def _build(options) -> None:
    from palimpsest.mixes import build_mixes

    study, lake = load_study(options.study), Lake.from_env()
    split, plan, generations = (lake.latest(f"studies/{study.name}/{s}") for s in ("split", "plan", "generations"))
    print(_summary(build_mixes(study, lake, split=split, plan=plan, generations=generations)))


def _datasets(options) -> None:
    lake = Lake.from_env()
    found = lake.all_latest()
    if not found:
        print(f"nothing is published in {lake.root} yet", file=sys.stderr)
    for published in found:
        print(f"{_summary(published)}  {lake.base}/{published.uri}")


def _trace(options) -> None:
    from palimpsest.catalog import trace_url

    print(json.dumps(trace_url(Lake.from_env(), options.url), indent=2, default=str))


def _lineage(options) -> None:
    from palimpsest.catalog import Catalog

    lake, catalog = Lake.from_env(), Catalog.from_env()
    published = lake.open(options.uri.removeprefix(f"{lake.base}/").rstrip("/"))
    catalog.migrate()
    catalog.sync(lake)
    print(f"{published.uri}  [{published.digest[:12]}]")
    for title, found in (
        ("made from", catalog.lineage_up(published.uri)),
        ("made of it", catalog.lineage_down(published.uri)),
    ):
        print(f"{title}:" if found else f"{title}: nothing")
        for relative in found:
            gone = "" if relative.dataset else "  no longer in the lake"
            print(f"  {relative.distance}  {relative.uri}  [{relative.digest[:12]}]{gone}")


def _sync(options) -> None:
    from palimpsest.catalog import Catalog

    catalog = Catalog.from_env()
    catalog.migrate()
    print(f"{catalog.sync(Lake.from_env())} dataset versions in the catalog")


def days_between(corpus: Corpus, start: dt.date | None, end: dt.date | None) -> list[dt.date]:
    """Every day from ``start`` to ``end`` inclusive; the corpus's own range where one is not given."""
    first, last = start or corpus.start, end or corpus.end
    if last < first:
        raise ValueError(f"--to {last} lies before --from {first}; give the days in order")
    return [first + dt.timedelta(days=n) for n in range((last - first).days + 1)]


def _summary(published: Published) -> str:
    rows = published.manifest["rows"]
    if rows is None:
        counts = f"{published.manifest['bytes']:,} bytes"
    else:
        lost = {**rows["dropped"], **rows["quarantined"]}
        counts = f"{rows['input']:,} in, {rows['kept']:,} kept" + (f", {lost}" if lost else "")
    return f"{published.dataset}: {counts}  [{published.digest[:12]}]"
