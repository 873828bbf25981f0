"""What the tables take for near duplicates is what the exact Jaccard of every pair says, on real and planted pages."""

from __future__ import annotations

import random
from itertools import combinations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palimpsest import comparisons, decontamination, warehouse
from palimpsest.config import DocumentRules, data_dir
from palimpsest.documents import SELECT
from palimpsest.ingest import minhash
from palimpsest.ingest.pages import PAGES, QUARANTINE
from tests.benchmarks.dedup import others_than_duplicates

RULES = DocumentRules(disabled=others_than_duplicates())


def edited(words: list[str], count: int, dice: random.Random) -> list[str]:
    changed = list(words)
    for place in dice.sample(range(len(words)), count):
        changed[place] = f"other{dice.randrange(10**6)}"
    return changed


def planted(dice: random.Random) -> list[list[str]]:
    """Words of web pages, of pages around the threshold, of a form filled in 60 times, and of a text that drifts."""
    file = data_dir() / "text" / "web_train-00000-of-00006.parquet"
    if not file.exists():
        pytest.skip(f"no web text in {data_dir()}; set PALIMPSEST_DATA to the data folder")
    texts = pq.read_table(file, columns=["text"])["text"].slice(0, 120)
    pages = [str(text).split()[:120] for text in texts]
    pages += [edited(page, dice.randrange(7), dice) for page in pages[:90]]
    form = [f"form{n}" for n in range(120)]
    pages += [edited(form, dice.choice((1, 2, 4, 5)), dice) for _ in range(60)]
    drift = [f"drift{n}" for n in range(120)]
    for _ in range(30):
        drift = [*drift[4:], *(f"drift{dice.randrange(10**6)}" for _ in range(4))]
        pages.append(drift)
    dice.shuffle(pages)
    return pages


def expected(texts: list[str]) -> tuple[set[int], int]:
    """Places of all but the first of each cluster by brute force, and how many pairs are near duplicates."""
    runs = [set(zip(*(minhash.WORD.findall(t.lower())[i:] for i in range(5)), strict=False)) for t in texts]
    lowest = list(range(len(texts)))

    def find(place: int) -> int:
        while lowest[place] != place:
            place = lowest[place]
        return place

    near = 0
    for a, b in combinations(range(len(texts)), 2):
        shared = len(runs[a] & runs[b])
        if shared >= 0.75 * (len(runs[a]) + len(runs[b]) - shared):
            near += 1
            one, other = sorted((find(a), find(b)))
            lowest[other] = one
    return {place for place in range(len(texts)) if find(place) != place}, near


@pytest.mark.usefixtures("state")
def test_near_duplicates_are_those_of_the_exact_jaccard(tmp_path):
    texts = [" ".join(words) for words in planted(random.Random(4))]
    zeros = {field.name: 0 for field in PAGES if pa.types.is_integer(field.type) or pa.types.is_floating(field.type)}
    rows = [
        {
            **zeros, "page_id": f"p{number}", "url": f"https://s{number}.example/", "site": f"s{number}.example",
            "text": text, "fetched_at": number, "day": 0, "minhash_bands": minhash.bands(text, 5),
        }
        for number, text in enumerate(texts)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, PAGES), tmp_path / "pages.parquet")
    pq.write_table(QUARANTINE.empty_table(), tmp_path / "quarantine.parquet")
    inputs = {table: tmp_path / f"{table}.parquet" for table in ("pages", "quarantine")}
    inputs["overlaps"] = decontamination.none_found(tmp_path)
    inputs["comparisons"] = comparisons.none_known(tmp_path)
    variables = {"rules": RULES.model_dump(), "corpus": "planted", "origin": "real"}
    warehouse.build(SELECT, inputs=inputs, variables=variables, out=tmp_path)
    drops = pq.read_table(tmp_path / "document_drops.parquet").to_pylist()
    found = {int(row["page_id"][1:]) for row in drops}
    wanted, near = expected(texts)
    assert near > 400 and len(wanted) > 100
    assert found == wanted
    assert all(row["value"] >= 0.75 for row in drops)
