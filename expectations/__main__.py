"""Gates without Airflow: ``python -m expectations documents sample``, ``python -m expectations study demo``; and the
gates of a labelled study's card in Data Docs: ``python -m expectations labelled digits``.
"""

from __future__ import annotations

import argparse
import logging
import sys

from expectations.gate import gate_documents, gate_study, latest_probe
from expectations.guard.history import publish_history
from expectations.labelled import show
from expectations.verdicts import data_docs_link
from palimpsest.config import load_corpus, load_study
from palimpsest.lake import Lake, Published
from palimpsest.settings import read_env_file


def main(arguments: list[str] | None = None) -> int:
    """Gate the latest version; 0 when it passes, 1 with one readable message when it does not. Of a labelled study the
    pages are made; its data are published or not by `palimpsest labelled run`.
    """
    parser = argparse.ArgumentParser(prog="python -m expectations", description=__doc__)
    parser.add_argument("what", choices=["documents", "study", "labelled"], help="a corpus's documents, or a study")
    parser.add_argument("name", help="the corpus or the study")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        if options.what == "labelled":
            return _labelled(options.name, Lake.from_env())
        verdict = _gate(options.what, options.name, Lake.from_env())
    except (ValueError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(f"{verdict.dataset}: {verdict.extra['summary']}\nData Docs: {data_docs_link(verdict.extra['data_docs'])}")
    return 0


def _labelled(name: str, lake: Lake) -> int:
    card = lake.latest(f"labelled/{name}/card")
    judged = show(card)
    for verdict in judged.verdicts:
        if not verdict.success:
            print(f"{verdict.severity}: {verdict.observed}", file=sys.stderr)
    print(f"{card.dataset}: {card.extra['headline']}\nData Docs: {data_docs_link(judged.page)}")
    return 0


def _gate(what: str, name: str, lake: Lake) -> Published:
    if what == "documents":
        return gate_documents(load_corpus(name), lake, documents=lake.latest(f"corpora/{name}/documents"))
    stages = {stage: lake.latest(f"studies/{name}/{stage}") for stage in ("split", "generations", "mixes")}
    study = load_study(name)
    verdict = gate_study(study, lake, **stages, probe=latest_probe(study, lake, list(stages.values())))
    publish_history(study, lake)
    return verdict


if __name__ == "__main__":
    read_env_file()
    sys.exit(main())
