"""The stages without Airflow: ``python -m palimpsest --help``.

A study by hand, in order::

    python -m palimpsest ingest sample && python -m palimpsest documents sample
    python -m expectations documents sample
    python -m palimpsest split demo && python -m palimpsest plan demo && python -m palimpsest generate demo
    python -m palimpsest build demo && python -m expectations study demo
    python -m training tokenize demo && python -m training train demo
    python -m training judge demo && python -m training report demo
"""

from __future__ import annotations

import argparse
import logging
import os
import sys

from palimpsest.cli import files, generation, guard, index, labelled, ledger, serving, stages, takedown


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0, or 1 with one clear message on standard error."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        options.command(options)
    except BrokenPipeError:  # the reader (head, less) has gone: not an error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print(
            "interrupted: what was finished is kept, the same command goes on from there. A model server that this "
            "started stops when nobody uses it, or with: python -m palimpsest serve stop",
            file=sys.stderr,
        )
        return 130
    except (ValueError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m palimpsest", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, command, text: str, *places: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        for place in places:
            sub.add_argument(place)
        sub.set_defaults(command=command)
        return sub

    for module in (files, stages, generation, guard, labelled, ledger, serving, index, takedown):
        module.register(add)
    return parser
