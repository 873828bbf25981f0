"""The shipped study of translations on a few chapters of the table: what is real, what a rephrase, what held out."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from palimpsest.config import load_corpus, load_study
from palimpsest.documents import build_documents
from palimpsest.generate.plan import plan
from palimpsest.generate.publish import publish_generations
from palimpsest.generate.run import generate_shard
from palimpsest.ingest.stage import extract_days
from palimpsest.mixes import build_mixes
from palimpsest.split import split
from training.points import recipes


@pytest.fixture
def table(shared, tmp_path, monkeypatch):
    """Some chapters of both splits where the study looks for the table, and all its rows."""
    rows = pq.read_table(shared / "data" / "translations" / "translations.parquet")
    rows = rows.filter(pc.is_in(rows["book"], pc.cast(["Ruth", "Daniel", "II Peter", "Amos"], "string")))
    folder = tmp_path / "data" / "translations"
    folder.mkdir(parents=True)
    pq.write_table(rows, folder / "translations.parquet")
    monkeypatch.setenv("PALIMPSEST_DATA", str(tmp_path / "data"))
    return rows.to_pylist()


def test_the_study_holds_out_whole_chapters_and_nests_its_rephrases(lake, table):
    corpus, study = load_corpus("translations"), load_study("translations")
    extract_days(corpus, [dt.date(2023, 4, 30)], lake)
    documents = build_documents(corpus, lake)
    passages = {row["doc_id"]: row for row in table if row["version"] == "BSB"}
    assert documents.manifest["rows"]["input"] == 4 * len(passages)  # quarters of them
    assert documents.manifest["rows"]["kept"] >= 0.97 * 4 * len(passages)

    # a few chapters are too little for the shares and batches of the whole table
    small = {"batch": 1, "context": 128, "reference_shares": [0.25, 1.0]}
    study = study.model_copy(update={"real_share": 0.5, "training": study.training.changed(small)})
    parts = split(study, lake, documents=[documents])
    train = pq.read_table(parts.file("train.parquet")).to_pylist()
    held = pq.read_table(parts.file("validation.parquet")).to_pylist()
    of = {row["document_id"]: passages[row["url"].rsplit("/", 1)[1].rsplit(".", 1)[0]] for row in train + held}
    assert {of[row["document_id"]]["split"] for row in held} == {"val"}
    assert {of[row["document_id"]]["split"] for row in train} == {"train"}
    assert not {of[row["document_id"]]["chapter_id"] for row in held} & {
        of[row["document_id"]]["chapter_id"] for row in train
    }

    planned = plan(study, lake, split=parts)
    for shard in range(study.shards):
        generate_shard(study, lake, split=parts, plan=planned, shard=shard)
    generations = publish_generations(study, lake, split=parts, plan=planned)
    texts = {(row["doc_id"], row["version"]): row["text"] for row in table}
    order = study.strategies["rephrase"].engine.columns.order
    made = pq.read_table(generations.file("generations.parquet")).to_pylist()
    assert len(made) == 8 * sum(not row["is_reserve"] for row in train)
    quarters = {row["document_id"]: int(row["url"].rsplit(".", 1)[1]) for row in train}
    for row in made:
        words = texts[of[row["document_id"]]["doc_id"], order[row["g"]]].split()
        start, end = (len(words) * (quarters[row["document_id"]] - back) // 4 for back in (1, 0))
        assert row["text"] == " ".join(words[start:end])

    mixes = build_mixes(study, lake, split=parts, plan=planned, generations=generations)
    megadocs = defaultdict(list)
    for row in pq.read_table(mixes.file("megadoc_parts.parquet")).to_pylist():
        megadocs[row["layout"], row["megadoc_id"]].append(row["g"] if row["kind"] != "real" else "real")
    for samples in (1, 2, 4, 8):
        found = [made for (layout, _), made in megadocs.items() if layout == f"stitched_{samples}"]
        assert found and all(made == [*range(samples), "real"] for made in found)
    assert len(recipes(mixes)) == len(study.mixes) + len(study.reference_recipes)
