"""Airflow's own command line, run again where SQLite was busy: ``python -m palimpsest_airflow.local.command ...``.

What read before another process wrote, and then writes, is refused by SQLite at once ("database is locked"), however
long it would wait; nothing of it was kept. It is run again in the same process, where everything is imported by now and
the moment between reading and writing is short: a new process beside trainings takes seconds for it, and never gets by
a scheduler that writes every second.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable

from sqlalchemy.exc import OperationalError

TRIES = 30
PAUSE_S = 0.5


def until_free(run: Callable[[], None]) -> None:
    """Call ``run`` until SQLite lets it through, up to `TRIES` times; whatever else it raises is raised at once."""
    for left in reversed(range(TRIES)):
        try:
            return run()
        except OperationalError as error:
            if not left or "database is locked" not in str(error):
                raise
        print("SQLite was busy with another writer; once more", file=sys.stderr)
        time.sleep(random.uniform(0, PAUSE_S))


if __name__ == "__main__":
    from airflow.__main__ import main

    until_free(main)
