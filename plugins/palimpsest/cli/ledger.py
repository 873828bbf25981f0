"""Commands about the generation ledger."""

from __future__ import annotations

import json
import sys

from palimpsest.lake import Lake, LakeError


def register(add) -> None:
    ledger = add("ledger", None, "the generation ledger: stats, verify, compact, show")
    parts = ledger.add_subparsers(metavar="ACTION", required=True)
    for name, command, text in (
        ("stats", _stats, "segments, rows, texts and tokens per model, failures by cause"),
        ("verify", _verify, "read and check everything; damaged segments are set aside, and the status is 1"),
        ("compact", _compact, "merge small segments into large ones"),
        ("show", _show, "what the ledger has under some keys, as JSON lines"),
    ):
        part = parts.add_parser(name, help=text, description=text)
        part.set_defaults(command=command)
    part.add_argument(
        "key", nargs="+", help="a request's key: generation_id of generations.parquet, or from 'failures'"
    )


def _stats(options) -> None:
    from palimpsest.generate.ledger import Ledger

    _print(Ledger(Lake.from_env()).stats())


def _verify(options) -> None:
    from palimpsest.generate.ledger import Ledger

    found = Ledger(Lake.from_env()).verify()
    _print(found)
    if found["damaged"]:
        names = "".join(f"\n  {name}" for name in found["damaged"])
        raise LakeError(
            f"{_counted(len(found['damaged']), 'segment')} damaged and set aside in the lake's ledger/damaged; what is "
            f"lost is generated again by: python -m palimpsest generate STUDY{names}"
        )
    print("all sound")


def _compact(options) -> None:
    from palimpsest.catalog import Catalog
    from palimpsest.generate.leases import Leases
    from palimpsest.generate.ledger import Ledger

    lake, catalog = Lake.from_env(), Catalog.from_env()
    catalog.ready()
    with Leases(catalog, lake) as leases:
        if not leases.take({"compact"}):
            print("another process is merging segments already", file=sys.stderr)
            return
        done = Ledger(lake).compact()
    print(f"{_counted(done['merged'], 'segment')} merged into {done['written']:,}")


def _show(options) -> None:
    from palimpsest.generate.ledger import Ledger

    rows = Ledger(Lake.from_env()).read(options.key).to_pylist()
    for row in rows:
        print(json.dumps(row, ensure_ascii=False))
    unknown = sorted(set(options.key) - {row["key"] for row in rows})
    if unknown:
        raise LakeError(f"the ledger has nothing under {', '.join(unknown)}")


def _print(stats: dict) -> None:
    rows = f"{_counted(stats['rows'], 'row')} of {_counted(stats['keys'], 'request')}"
    print(f"{rows} in {_counted(stats['segments'], 'segment')}, {stats['bytes']:,} bytes")
    for model, made in stats["models"].items():
        print(f"  {model}: {made['texts']:,} texts, {made['output_tokens']:,} output tokens")
    for cause, count in stats["failures"].items():
        print(f"  failed, {cause}: {count:,}")


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
