"""Commands of labelled studies: the coverage plan, and everything up to the repaired data."""

from __future__ import annotations

import json
import sys
import time

from palimpsest.cli.summary import summary
from palimpsest.lake import Lake


def register(add) -> None:
    labelled = add("labelled", None, "labelled data: what is short of items, and whether generated ones repair it")
    commands = labelled.add_subparsers(metavar="COMMAND", required=True)
    for name, command, text in (
        ("plan", _plan, "label by group: what is there, what is to be generated or collected → labelled/NAME/plan"),
        ("run", _run, "plan, generate, verify, measure every arm and seed, judge → labelled/NAME/card, repaired"),
    ):
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("name")
        sub.set_defaults(command=command)


def _plan(options) -> None:
    from palimpsest.config import check_files, load_labelled
    from palimpsest.labelled import coverage, stages

    study = load_labelled(options.name)
    check_files(study)
    published = stages.plan(study, Lake.from_env())
    print(coverage.render(stages.opened(published)[1]))
    print(summary(published))


def _run(options) -> None:
    from palimpsest.config import check_files, load_labelled
    from palimpsest.labelled import card, coverage, stages

    study, lake = load_labelled(options.name), Lake.from_env()
    check_files(study)
    planned = stages.plan(study, lake)
    print(coverage.render(stages.opened(planned)[1]), end="\n\n")
    measured = []
    for seed in study.seeds:
        began = time.monotonic()
        measured.append(stages.measure(study, lake, planned, seed))
        print(f"seed {seed}: {time.monotonic() - began:.1f} s", file=sys.stderr)
    told = card.card(study, lake, planned, measured)
    print(card.render(json.loads(told.file("table.json").read_text(encoding="utf-8"))))
    print(summary(told))
    print(summary(card.repaired(study, lake, planned, measured[0], told)))
