"""Training without Airflow: ``python -m training COMMAND STUDY``.

In order: ``select``, ``probe``, ``tokenize``, ``search``, ``plan``, ``train``, ``judge``, ``report``, ``results``.

Every command reads what the stage before it published last, and does nothing when its output is already there.

Over several machines that see one lake: PALIMPSEST_NODES and PALIMPSEST_RENDEZVOUS set on all of them, and on all but
the first ``python -m training join NUMBER`` (docs/pretraining.md).
``python -m training rounds LOOP`` reports on a loop, ``python -m training collapse`` on the loops of word trigrams,
``python -m training labelled NAME`` on a labelled study. ``python -m training testbed docs`` measures ways to select.
``python -m training export CHECKPOINT FOLDER`` turns a checkpoint into a Hugging Face Llama folder.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from pathlib import Path

from palimpsest.config import Study, load_study
from palimpsest.lake import Lake, Published
from palimpsest.settings import read_env_file


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0, or 1 with one clear message on standard error."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # else four lines per run about its system metrics
    try:
        return options.command(options) or 0
    except (ValueError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    from training import quote
    from training.testbeds.registry import TESTBEDS

    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, command, text in (
        ("select", _select, "scores of documents and generations, for layouts that 'select'; before 'build'"),
        ("probe", _probe, "what generated text costs a small neural model, for the guard's gate (guard.probe)"),
        ("tokenize", _tokenize, "mixes → token files"),
        ("search", _search, "find the settings of a study with a 'search': waves of runs, and the table they come to"),
        ("plan", _plan, "print the study's runs, one JSON line each"),
        ("train", _train, "pre-train the study's runs, one after the other"),
        ("judge", _judge, "what the study's 'judging' asks of its trained runs: ensembles, loss by context, tasks"),
        ("report", _report, "compare the runs: table, plots, data efficiency"),
        ("results", _results, "docs/results/STUDY.md: the latest report and how it was made, from the lake and MLflow"),
    ):
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("study")
        sub.set_defaults(command=command)
        if command is _train:
            sub.add_argument("runs", nargs="*", help="only these runs, as 'plan' names them")
            sub.add_argument("--run", dest="runs", action="extend", nargs=1, help="the same, one at a time")
    text = "what a study costs: generated and trained tokens, FLOPs, GPU hours, against its budget; needs no data"
    sub = commands.add_parser("cost", help=text, description=text)
    quote.add_options(sub)
    sub.set_defaults(command=quote.show)
    sub = commands.add_parser("rounds", help="a loop's rounds so far: table, plots, page")
    sub.add_argument("loop")
    sub.add_argument("--results", action="store_true", help="also write docs/results/loop_LOOP.md")
    sub.set_defaults(command=_rounds)
    text = "docs/results/collapse.md: the word trigrams of 'python -m palimpsest guard experiment', from the lake"
    commands.add_parser("collapse", help=text, description=text).set_defaults(command=_collapse)
    text = (
        "docs/results/testbed_NAME.md: ways to select on data of known quality, a dataset per seed and part; and "
        "docs/results/selection.md, all testbeds side by side"
    )
    sub = commands.add_parser("testbed", help=text, description=text)
    sub.add_argument("name", choices=TESTBEDS)
    sub.add_argument("--seeds", type=_count, default=10, help="0 to this less 1 (default: 10)")
    sub.add_argument("--parts", nargs="+", metavar="PART", help="measure these alone; the page has all that there is")
    sub.set_defaults(command=_testbed)
    sub = commands.add_parser("labelled", help="a labelled study's report card: table, plots, page")
    sub.add_argument("name")
    sub.set_defaults(command=_labelled)
    text = "take part, as machine NUMBER of PALIMPSEST_NODES, in the runs that machine 0 starts"
    sub = commands.add_parser("join", help=text, description=text)
    sub.add_argument("number", type=int, help="which machine this is: 1, 2, ...")
    sub.add_argument("--processes", type=int, help="of each run on this machine (default: one per GPU, else 1)")
    sub.add_argument("--once", action="store_true", help="end after one run")
    sub.set_defaults(command=_join)
    sub = commands.add_parser("export", help="a checkpoint → a Hugging Face Llama folder")
    sub.add_argument("checkpoint", help="its folder, or its path in the lake as the log names it")
    sub.add_argument("folder")
    sub.set_defaults(command=_export)
    return parser


def _rounds(options: argparse.Namespace) -> None:
    from training.rounds import main

    main(options.loop, results=options.results)


def _join(options: argparse.Namespace) -> int:
    from training.nodes import join

    return join(options.number, options.processes, once=options.once)


def _collapse(options: argparse.Namespace) -> None:
    from training.analysis.collapse import main

    print(main())


def _testbed(options: argparse.Namespace) -> None:
    from training.analysis.testbed import copied
    from training.testbeds.registry import TESTBEDS, overview
    from training.testbeds.stage import main

    print(main(TESTBEDS[options.name], options.seeds, options.parts or ()))
    print(copied(overview(Lake.from_env())))


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seeds; give 1 or more")
    return int(text)


def _labelled(options: argparse.Namespace) -> None:
    from training.labelled import main

    main(options.name)


def _select(options: argparse.Namespace) -> None:
    from training.selection.stage import select, told

    study, lake = load_study(options.study), Lake.from_env()
    stages = {name: lake.latest(f"studies/{study.name}/{name}") for name in ("split", "generations")}
    found = select(study, lake, **stages)
    print(told(found))
    print(found.uri)


def _probe(options: argparse.Namespace) -> None:
    from training.probe import probe

    study, lake = load_study(options.study), Lake.from_env()
    stages = {name: lake.latest(f"studies/{study.name}/{name}") for name in ("split", "generations", "mixes")}
    found = probe(study, lake, **stages)
    for name, told in found.extra["strategies"].items():
        ratios = ", ".join(f"{ratio:.3f}" for ratio in told["probe"]["ratios"]) if "probe" in told else told["why"]
        print(f"{name}: {ratios}")
    print(found.uri)


def _tokenize(options: argparse.Namespace) -> None:
    from training.pack import tokenize

    study, lake = load_study(options.study), Lake.from_env()
    split, mixes = (lake.latest(f"studies/{study.name}/{name}") for name in ("split", "mixes"))
    print(tokenize(study, lake, split=split, mixes=mixes).uri)


def _search(options: argparse.Namespace) -> None:
    from training import track, tracked, waves

    study, lake = load_study(options.study), Lake.from_env()
    if study.search is None:
        raise ValueError(
            f"study {study.name} has no 'search' in {study.path}; its runs are trained as they are written"
        )
    inputs, parent = _published(study, lake), None
    while wave := waves.wave(study, lake, **inputs):
        parent = parent or track.open_parent(study)
        for number, found in enumerate(wave, 1):
            name = found["run"]["run"]
            logging.info("wave %d, run %d of %d: %s", found["wave"], number, len(wave), name)
            tracked.train_point(study, lake, **inputs, order={**found, "parent": parent}, progress=_bar(name))
    chosen = waves.choose(study, lake, **inputs)
    print(waves.render(chosen))
    print(chosen.uri)


def _plan(options: argparse.Namespace) -> None:
    from training.waves import final_runs

    study, lake = load_study(options.study), Lake.from_env()
    for run in final_runs(study, lake, lake.latest(f"studies/{study.name}/mixes")):
        print(json.dumps(run))


def _train(options: argparse.Namespace) -> None:
    from training import track, tracked
    from training.pretrain import train_together
    from training.processes import joined

    study, lake = load_study(options.study), Lake.from_env()
    inputs = _published(study, lake)
    split = lake.latest(f"studies/{study.name}/split")
    orders = {order["run"]["run"]: order for order in tracked.final_orders(study, lake, inputs["mixes"])}
    unknown = set(options.runs) - set(orders)
    if unknown:
        raise ValueError(f"study {study.name} has no run {', '.join(sorted(unknown))}; its runs: {', '.join(orders)}")
    with joined() as group:
        parent = None if group.rank else track.open_parent(study)
        for name in options.runs or orders:
            if group.world > 1:
                train_together(study, lake, **inputs, run=orders[name]["run"], group=group)
            if group.rank == 0:  # what several processes have just published together is found, and gets its record
                order = {**orders[name], "parent": parent}
                published = tracked.train(study, lake, split=split, **inputs, order=order, progress=_bar(name))
                print(published.uri, json.dumps(published.extra["losses"]))


def _judge(options: argparse.Namespace) -> None:
    from training.judge import judge_all

    study, lake = load_study(options.study), Lake.from_env()
    for published in judge_all(study, lake, **_published(study, lake)):
        print(published.uri)


def _published(study: Study, lake: Lake) -> dict[str, Published]:
    return {name: lake.latest(f"studies/{study.name}/{name}") for name in ("mixes", "tokens")}


def _bar(name: str):
    """A progress line on a terminal; elsewhere the log's own lines are enough."""
    if not sys.stderr.isatty():
        return None

    def show(step: int, steps: int, loss: float) -> None:
        done = 30 * step // steps
        end = "\n" if step == steps else ""
        print(f"\r{name} [{'#' * done:<30}] {step}/{steps} loss {loss:.3f} ", end=end, file=sys.stderr, flush=True)

    return show


def _export(options: argparse.Namespace) -> None:
    from training.checkpoint import export_checkpoint

    print(export_checkpoint(options.checkpoint, Path(options.folder)))


def _report(options: argparse.Namespace) -> None:
    from training.analysis.report import main as report

    report(options.study)


def _results(options: argparse.Namespace) -> None:
    from training.analysis.results import main as results

    print(results(options.study))


if __name__ == "__main__":
    read_env_file()
    raise SystemExit(main())
