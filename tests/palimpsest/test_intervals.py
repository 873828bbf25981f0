"""Whatever order the intervals of a corpus come in, and whatever was built in between: the same documents, by bytes.

The pages are made so that days have much to do with each other: addresses captured again with the same or another text,
copies and near copies of pages of other days, lines that a site repeats, and records that no page can be made of.
"""

from __future__ import annotations

import datetime as dt
import json
import random

import pyarrow.parquet as pq
import pytest

from palimpsest.config import Corpus
from palimpsest.documents import build_documents
from palimpsest.ingest.stage import extract_days
from palimpsest.lake import Lake
from tests.benchmarks.dedup import others_than_duplicates

DAYS = [dt.date(2026, 10, 1) + dt.timedelta(days=n) for n in range(8)]
WORDS = [f"word{n}" for n in range(3_000)]


def captures(dice: random.Random) -> list[dict]:
    """Rows of a table: 160 captures of some 110 addresses on three sites."""
    notices = [" ".join(dice.choices(WORDS, k=9)) for _ in range(4)]
    texts: list[list[str]] = []
    rows = []
    for _ in range(160):
        words = list(dice.choice(texts)) if texts and dice.random() < 0.5 else dice.choices(WORDS, k=120)
        for place in dice.sample(range(120), dice.choice((0, 0, 1, 2, 4, 8))):
            words[place] = dice.choice(WORDS)
        texts.append(words)
        lines = [" ".join(words[start : start + 12]) for start in range(0, 120, 12)]
        lines += [notice for notice in notices if dice.random() < 0.3]
        moment = dt.datetime.combine(dice.choice(DAYS), dt.time(dice.randrange(4)))
        url = f"https://s{dice.randrange(3)}.example/{dice.randrange(60)}"
        rows.append({"url": url, "text": "\n".join(lines) if dice.random() > 0.03 else None, "date": str(moment)})
    return rows


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize("seed", [1, 2])
def test_intervals_in_any_order_make_the_same_documents(tmp_path, seed):
    dice = random.Random(seed)
    (tmp_path / "pages.jsonl").write_text("".join(json.dumps(row) + "\n" for row in captures(dice)))
    columns = {"url": "{url}", "text": "text", "date": "date"}
    corpus = Corpus(
        name="days",
        description="Made for a test.",
        source={"kind": "table", "files": [str(tmp_path / "pages.jsonl")], "columns": columns},
        start=DAYS[0],
        end=DAYS[-1],
        documents={"disabled": others_than_duplicates(), "site_repeat_pages": 4},
        path=tmp_path / "days.yaml",
    )
    lake = Lake(tmp_path / "at-once")
    extract_days(corpus, DAYS, lake)
    wanted = build_documents(corpus, lake)
    reasons = set(pq.read_table(wanted.file("document_drops.parquet"))["reason"].to_pylist())
    assert reasons == {"superseded", "exact_duplicate", "near_duplicate"}  # or there is nothing to get wrong
    assert wanted.extra["funnel"]["quarantined"] and wanted.extra["funnel"]["changes"]["repeat_lines_cut"]
    for number in range(2):
        other, order = Lake(tmp_path / f"in-order-{number}"), dice.sample(DAYS, len(DAYS))
        build_after = dice.randrange(2, len(DAYS) - 1)
        for place, day in enumerate(order):
            extract_days(corpus, [day], other)
            if place == build_after:
                assert build_documents(corpus, other).digest != wanted.digest
        assert build_documents(corpus, other).digest == wanted.digest, order
