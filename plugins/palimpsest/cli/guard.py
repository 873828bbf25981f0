"""Commands of the collapse guard: calibrate it for a corpus, run the experiment it rests on, audit, quarantine."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from palimpsest.cli import audit, quarantine
from palimpsest.cli.summary import summary
from palimpsest.lake import Lake, Published

BUILT_IN = "cpython"


def register(add) -> None:
    text = "the collapse guard: its limits for a corpus, audits, quarantine, and its experiment on CPython's own text"
    guard = add("guard", None, text)
    commands = guard.add_subparsers(metavar="COMMAND", required=True)
    text = "nulls and limits of a corpus's own → guard/<corpus>/calibration"
    calibrate = commands.add_parser("calibrate", help=text, description=text)
    calibrate.add_argument("corpus", help=f"a corpus whose documents are published, or {BUILT_IN}: Python's own text")
    calibrate.add_argument("--tokens", type=int, default=2_000_000, help="of so many tokens at most (default: 2000000)")
    calibrate.set_defaults(command=_calibrate)
    text = "generations of word trigrams under every policy → guard/experiment"
    experiment = commands.add_parser("experiment", help=text, description=text)
    experiment.add_argument("--seeds", type=int, default=3)
    experiment.add_argument("--generations", type=int, default=5)
    experiment.set_defaults(command=_experiment)
    audit.register(commands)
    quarantine.register(commands)


def _calibrate(options) -> None:
    from palimpsest.guard import calibration

    lake = Lake.from_env()
    texts, parents = _texts(options.corpus, lake)
    published = calibration.publish(options.corpus, texts, lake, parents=parents, tokens=options.tokens)
    found = calibration.load(published)
    print(f"corpus {found.corpus}: {found.documents:,} documents, {found.tokens:,} tokens, blocks of {found.block:,}")
    print("real against real:")
    for name, null in found.nulls.items():
        print(f"  {name:12} {null['mean']:10.4f} ± {null['sd']:.4f}")
    print(f"{'generator':16}{'probe':>8}{'tail':>8}{'sample':>8}{'entropy':>9}{'auc':>7}{'mmd':>8}{'vendi':>8}")
    for run in found.runs:
        figures = (run.probe, run.tail_full, run.tail_sample, run.z.get("entropy"), run.auc, run.mmd, run.vendi)
        shown = zip(figures, (8, 8, 8, 9, 7, 8, 8), (3, 3, 3, 1, 2, 1, 1), strict=True)
        cells = "".join(f"{'-' if value is None else f'{value:.{digits}f}':>{width}}" for value, width, digits in shown)
        print(f"{f'{run.decoding} g{run.depth}':16}{cells}")
    print("limits:")
    for key, value in found.limits.items():
        print(f"  {key}: {value:g}")
    for note in found.notes:
        print(f"  {note}")
    print(summary(published))


def _experiment(options) -> None:
    from palimpsest.guard import experiment
    from palimpsest.guard.findings import findings, table

    if options.seeds < 1 or options.generations < 3:
        raise ValueError("--seeds must be 1 or more and --generations 3 or more")

    def tell(row: experiment.Row) -> None:
        if sys.stderr.isatty():
            print(f"\rseed {row.seed}: {row.decoding} {row.arm} g{row.generation}      ", end="", file=sys.stderr)

    published = experiment.publish(Lake.from_env(), options.seeds, options.generations, tell)
    rows = experiment.load(published)
    print(table(rows))
    for finding in findings(rows):
        print(f"{'holds' if finding.holds else 'FAILS'}: {finding.sentence}")
    print(summary(published))


def _texts(corpus: str, lake: Lake) -> tuple[Iterator[str] | Sequence[str], list[Published]]:
    """The corpus's admitted documents and the dataset they are of; Python's own text if no such corpus has a file."""
    from palimpsest.config import corpora_dir, load_corpus

    if corpus == BUILT_IN and not (corpora_dir() / f"{corpus}.yaml").exists():
        from palimpsest.guard.corpus import cpython_documents

        return cpython_documents(), []
    from palimpsest.documents import admitted_documents

    documents = admitted_documents(load_corpus(corpus).name, lake)
    return _streamed(documents), [documents]


def _streamed(documents: Published) -> Iterator[str]:
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(documents.file("documents.parquet")).iter_batches(256, columns=["text"]):
        yield from batch["text"].to_pylist()
