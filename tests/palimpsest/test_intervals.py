"""Whatever order the intervals of a corpus come in, and whatever was built in between: the same documents, by bytes.

What the latest documents know of pairs of texts is used for those, and only for those, that are as they were.

The pages are made so that days have much to do with each other: addresses captured again with the same or another text,
copies and near copies of pages of other days, lines that a site repeats, and records that no page can be made of.
"""

from __future__ import annotations

import datetime as dt
import json
import random
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palimpsest import comparisons, documents
from palimpsest.catalog import Catalog
from palimpsest.config import Corpus
from palimpsest.documents import build_documents
from palimpsest.ingest.stage import extract_days
from palimpsest.lake import MANIFEST, Lake, Published
from palimpsest.manifest import describe_files
from palimpsest.takedown import erase, order
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


def corpus_of(tmp_path: Path, dice: random.Random) -> Corpus:
    (tmp_path / "pages.jsonl").write_text("".join(json.dumps(row) + "\n" for row in captures(dice)))
    columns = {"url": "{url}", "text": "text", "date": "date"}
    return Corpus(
        name="days",
        description="Made for a test.",
        source={"kind": "table", "files": [str(tmp_path / "pages.jsonl")], "columns": columns},
        start=DAYS[0],
        end=DAYS[-1],
        documents={"disabled": others_than_duplicates(), "site_repeat_pages": 4},
        path=tmp_path / "days.yaml",
    )


def drops(published: Published) -> list[dict]:
    return pq.read_table(published.file("document_drops.parquet")).to_pylist()


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize("seed", [1, 2])
def test_intervals_in_any_order_make_the_same_documents(tmp_path, seed):
    dice = random.Random(seed)
    corpus, lake = corpus_of(tmp_path, dice), Lake(tmp_path / "at-once")
    extract_days(corpus, DAYS, lake)
    wanted = build_documents(corpus, lake)
    reasons = {row["reason"] for row in drops(wanted)}
    assert reasons == {"superseded", "exact_duplicate", "near_duplicate"}  # or there is nothing to get wrong
    assert wanted.extra["funnel"]["quarantined"] and wanted.extra["funnel"]["changes"]["repeat_lines_cut"]
    for number in range(2):
        other, order = Lake(tmp_path / f"in-order-{number}"), dice.sample(DAYS, len(DAYS))
        build_after = dice.randrange(2, len(DAYS) - 1)
        for place, day in enumerate(order):
            extract_days(corpus, [day], other)
            if place == build_after:
                between = build_documents(corpus, other)
                assert between.digest != wanted.digest
        both = texts_compared(between) & texts_compared(wanted)
        assert both and both < texts_compared(between)  # of some pairs a text has changed: of a page with other lines
        assert build_documents(corpus, other).digest == wanted.digest, order


def texts_compared(published: Published) -> set[tuple[str, str]]:
    rows = pq.read_table(published.file(comparisons.FILE)).to_pylist()
    return {(row["words_sha256_low"], row["words_sha256_high"]) for row in rows}


def take_down_a_survivor(corpus: Corpus, lake: Lake, survivor: str) -> Corpus:
    order.take_down(lake, Catalog.from_env(), survivor, reason="its author asked for it")
    return corpus


def shorter_runs(corpus: Corpus, lake: Lake, _: str) -> Corpus:
    changed = corpus.model_copy(update={"documents": corpus.documents.model_copy(update={"shingle_words": 3})})
    extract_days(changed, DAYS, lake)
    return changed


def higher_threshold(corpus: Corpus, lake: Lake, _: str) -> Corpus:
    rules = corpus.documents.model_copy(update={"near_duplicate_jaccard": 0.76})
    return corpus.model_copy(update={"documents": rules})


@pytest.fixture(scope="module")
def lakes(tmp_path_factory, parsed_dbt) -> tuple[Corpus, Path]:
    """A corpus, and where its days lie in two lakes: ``old`` has documents of them, ``fresh`` never had any."""
    folder = tmp_path_factory.mktemp("lakes")
    corpus = corpus_of(folder, random.Random(3))
    (folder / "state").mkdir()
    (folder / "state" / "dbt").symlink_to(parsed_dbt)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PALIMPSEST_STATE", str(folder / "state"))
        extract_days(corpus, DAYS, Lake(folder / "fresh"))
        shutil.copytree(folder / "fresh", folder / "old")
        build_documents(corpus, Lake(folder / "old"))
    return corpus, folder


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize("change", [take_down_a_survivor, shorter_runs, higher_threshold])
def test_after_a_change_the_documents_are_those_of_a_lake_that_never_had_others(tmp_path, lakes, change):
    corpus, made = lakes
    for name in ("old", "fresh"):
        shutil.copytree(made / name, tmp_path / name)
    old, fresh = Lake(tmp_path / "old"), Lake(tmp_path / "fresh")
    before = old.latest("corpora/days/documents")
    survivor = next(row["duplicate_of"] for row in drops(before) if row["reason"] == "near_duplicate")
    wanted = build_documents(change(corpus, fresh, survivor), fresh)
    assert wanted.digest != before.digest
    assert build_documents(change(corpus, old, survivor), old).digest == wanted.digest


def sealed(lake: Lake, published: Published) -> None:
    """As if it had been published with the files that now lie in it."""
    folder = Path(lake.base, published.uri)
    (folder / MANIFEST).unlink()
    (folder / MANIFEST).write_text(json.dumps(published.manifest | describe_files(folder)))
    lake.point(lake.open(published.uri))


@pytest.mark.usefixtures("state")
def test_pairs_of_standing_texts_are_taken_from_the_latest_documents_of_this_code(tmp_path, monkeypatch):
    """They are told apart from measured ones by a figure that is not theirs."""
    corpus, lake = corpus_of(tmp_path, random.Random(3)), Lake(tmp_path / "lake")
    extract_days(corpus, DAYS[:5], lake)
    standing = build_documents(corpus, lake)
    file = Path(lake.base, standing.uri, comparisons.FILE)
    table = pq.read_table(file)
    pq.write_table(table.set_column(2, "jaccard", pa.array([0.0] * len(table))), file)
    sealed(lake, standing)
    extract_days(corpus, DAYS, lake)
    found = build_documents(corpus, lake)
    figures = {tuple(row.values()) for row in pq.read_table(found.file(comparisons.FILE)).to_pylist()}
    known = {(low, high) for low, high, jaccard in figures if jaccard == 0.0}
    assert known == {tuple(row.values())[:2] for row in table.to_pylist()} & texts_compared(found)
    assert len(known) > 5 and any(jaccard > 0.75 for *_, jaccard in figures)

    with monkeypatch.context() as patch:
        patch.setattr(documents, "CODE", (*documents.CODE, "plugins/palimpsest/words.py"))
        wanted = build_documents(corpus, lake).digest
    assert wanted != found.digest

    erase.remove(lake, found.uri)
    file.write_bytes(b"damaged")
    lake.point(lake.open(standing.uri))
    assert build_documents(corpus, lake).digest == wanted
