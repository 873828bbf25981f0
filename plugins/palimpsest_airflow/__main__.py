"""The platform on this machine: ``python -m palimpsest_airflow demo|up|down|status|reset|airflow``."""

from __future__ import annotations

import argparse
import os
import signal
import sys


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0, or 1 with one clear message."""
    from palimpsest.lake import LakeError
    from palimpsest_airflow.local import stack
    from palimpsest_airflow.local.settings import Refused, Settings

    parser = argparse.ArgumentParser(prog="python -m palimpsest_airflow", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    demo = commands.add_parser(
        "demo", help="corpus_sample and study_demo through the real scheduler, from WARC to report"
    )
    demo.add_argument("--again", action="store_true", help="run through Airflow even if nothing changed")
    for name, text in (
        ("up", "start the Airflow UI, MLflow and the docs, and leave them running"),
        ("down", "stop what 'up' started"),
        ("status", "say what runs, and where"),
        ("reset", "delete the lake and all state"),
    ):
        commands.add_parser(name, help=text)
    commands.add_parser("airflow", help="Airflow's own command line on this state, such as: dags list", add_help=False)
    given = sys.argv[1:] if arguments is None else arguments
    options = parser.parse_args(given[:1] if given[:1] == ["airflow"] else given)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        settings = Settings.from_env()
        if options.command == "demo":
            from palimpsest_airflow.local.demo import demo as run

            return run(settings, again=options.again)
        if options.command == "airflow":
            return stack.airflow(settings, given[1:])
        return 1 if getattr(stack, options.command)(settings) is False else 0
    except (Refused, LakeError) as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader (head, less) has gone: not an error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
