"""Twenty minutes of the fuzz of crawl files and pages (tests/palimpsest/ingest/fuzz.py), which must find nothing.

``python tests/benchmarks/fuzz.py SECONDS`` for another time. A finding is kept in .bench/fuzz and counted; the fuzz
ends with it.
"""

from __future__ import annotations

import random
import sys

from tests.palimpsest.ingest import fuzz

SECONDS = 1_200.0


def run(seconds: float = SECONDS) -> list[dict]:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"fuzz: seed {seed}")
    found = 0
    try:
        tried, lines = fuzz.run(seconds, seed)
        print(f"fuzz: {tried} inputs, {lines} lines reached")
    except AssertionError as error:
        found = 1
        print(f"fuzz: {error}")
    return [{"name": f"fuzz: WARC and HTML, {seconds / 60:g} minutes", "ours": found, "unit": "findings"}]


if __name__ == "__main__":
    [row] = run(float(sys.argv[1]))
    print(row)
    sys.exit(row["ours"])
