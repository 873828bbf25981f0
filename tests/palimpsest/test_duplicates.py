"""What the tables take for near duplicates is what the exact Jaccard of every pair says, on real and planted pages."""

from __future__ import annotations

import random
from itertools import combinations
from pathlib import Path

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
    """Words of web pages, of pages around the threshold, of a form filled in 150 times, and of a text that drifts."""
    file = data_dir() / "text" / "web_train-00000-of-00006.parquet"
    if not file.exists():
        pytest.skip(f"no web text in {data_dir()}; set PALIMPSEST_DATA to the data folder")
    texts = pq.read_table(file, columns=["text"])["text"].slice(0, 120)
    pages = [str(text).split()[:120] for text in texts]
    pages += [edited(page, dice.randrange(7), dice) for page in pages[:90]]
    form = [f"form{n}" for n in range(120)]
    pages += [edited(form, dice.choice((1, 2, 4, 5)), dice) for _ in range(150)]
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


def dropped(pages: list[tuple[str, str]], folder: Path) -> list[dict]:
    """What the tables drop of pages (site, text), whose keys are those of the text as it was extracted."""
    zeros = {field.name: 0 for field in PAGES if pa.types.is_integer(field.type) or pa.types.is_floating(field.type)}
    rows = [
        {
            **zeros, "page_id": f"p{number}", "url": f"https://{site}/{number}", "site": site, "text": text,
            "fetched_at": number, "day": 0, "minhash_bands": minhash.bands(text, 5),
        }
        for number, (site, text) in enumerate(pages)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, PAGES), folder / "pages.parquet")
    pq.write_table(QUARANTINE.empty_table(), folder / "quarantine.parquet")
    inputs = {table: folder / f"{table}.parquet" for table in ("pages", "quarantine")}
    inputs["overlaps"] = decontamination.none_found(folder)
    inputs["comparisons"] = comparisons.none_known(folder)
    variables = {"rules": RULES.model_dump(), "corpus": "planted", "origin": "real"}
    warehouse.build(SELECT, inputs=inputs, variables=variables, out=folder)
    return pq.read_table(folder / "document_drops.parquet").to_pylist()


@pytest.mark.usefixtures("state")
def test_near_duplicates_are_those_of_the_exact_jaccard(tmp_path):
    texts = [" ".join(words) for words in planted(random.Random(4))]
    drops = dropped([(f"s{number}.example", text) for number, text in enumerate(texts)], tmp_path)
    wanted, near = expected(texts)
    assert near > 400 and len(wanted) > 100
    assert {int(row["page_id"][1:]) for row in drops} == wanted
    assert all(row["value"] >= 0.75 for row in drops)


@pytest.mark.usefixtures("state")
def test_near_duplicates_are_found_by_what_is_left_of_pages_whose_sites_have_furniture(tmp_path):
    """150 words around an article of 200 leave pairs from two sites a Jaccard that hardly meets in a band."""
    dice = random.Random(11)
    articles = [[f"word{dice.randrange(10**6)}" for _ in range(200)] for _ in range(60)]
    furniture = {site: " ".join(f"{site}{n}" for n in range(150)) for site in ("garden", "orchard")}
    pages = [
        (site, f"{furniture[site]}\n{' '.join(edited(article, 1, dice))}") for site in furniture for article in articles
    ]
    pairs = [
        (minhash.bands(one, 5), minhash.bands(other, 5))
        for (_, one), (_, other) in zip(pages, pages[60:], strict=False)
    ]
    assert sum(set(one).isdisjoint(other) for one, other in pairs) > 10  # as extracted
    drops = dropped(pages, tmp_path)
    assert {int(row["page_id"][1:]) for row in drops} == set(range(60, 120))
    assert {row["reason"] for row in drops} == {"near_duplicate"}
