"""The testbed of translations: passages in eight versions to choose from, where a ninth is the target."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palimpsest.lake import Lake
from training.testbeds.docs import degrade, learned, rated, reweighted, worth
from training.testbeds.docs.arms import ORACLE, RANK, Bench
from training.testbeds.docs.parts import parts
from training.testbeds.translations import texts

WORSE = {name: 0.1 * n for n, name in enumerate(texts.WORTH)}
"""Share of the letters that a version misreads here: the first, which is worth most, none."""


@pytest.fixture(scope="module")
def published(tmp_path_factory, pages):
    """Passages are pages of Python's help; a version misreads them the more, the less it is worth."""
    folder = tmp_path_factory.mktemp("data")
    random, rows = np.random.default_rng(0), []
    for number, page in enumerate(pages):
        split = "val" if number % 5 == 0 else "train"
        own = {"doc_id": f"d{number:03}", "split": split}
        rows.append(own | {"version": texts.TARGET, "text": page})
        for version, share in WORSE.items():
            told = " ".join(degrade.misread(share)(page.split(), random))
            rows.append(own | {"version": version, "text": told})
    (folder / "translations").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), folder / "translations" / "translations.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PALIMPSEST_DATA", str(folder))
        patch.setattr(texts, "VOUCHED", 150)
        patch.setattr(texts, "POOL", 60)
        yield texts.publish(Lake(folder / "lake"), 0)


@pytest.fixture(scope="module")
def bench(published):
    return Bench(published, 0)


def test_the_pool_has_every_version_of_its_passages_and_none_of_the_targets(published):
    read = {
        name: pq.read_table(published.file(f"{name}.parquet")).to_pylist() for name in ("generations", "train", "test")
    }
    pool = read["generations"]
    assert Counter(row["kind"] for row in pool) == dict.fromkeys(texts.WORTH, 60)
    by_passage: dict[str, set] = {}
    for row in pool:
        by_passage.setdefault(row["document_id"], set()).add(row["kind"])
    assert all(kinds == set(texts.WORTH) for kinds in by_passage.values())
    assert len({row["generation_id"] for row in pool}) == len(pool)
    best = {row["text"] for row in pool if row["kind"] == "NHEB"}  # the page itself, here
    assert not best & {row["text"] for row in read["train"] + read["test"]}
    assert {row["kind"] for row in pool if row["clean"]} == {"NHEB", "ACV", "Darby", "BBE"}
    assert len(read["test"]) == 100


def test_worth_follows_what_versions_are_worth_beside_the_target(bench):
    found = {row["kind"]: row["worth"] for row in worth.measure(bench)}
    assert found["clean"] == 1
    order = [found[kind] for kind in texts.WORTH]
    assert order[0] > order[1] > order[3] > order[-1]


def test_scores_find_the_versions_that_help(bench):
    bench.simple()
    bench.scored(rated.NAME, lambda: rated.score(bench))
    rows = {row["arm"]: row for row in bench.tables["arms"]}
    for name in ("log-probability", RANK, rated.NAME):
        assert rows[name]["auroc"] > 0.7, name
        assert rows[name]["perplexity"] < rows["random"]["perplexity"], name
    assert rows[ORACLE]["auroc"] == 1
    figures = {row["figure"]: row["value"] for row in bench.tables["figures"] if row["arm"] == rated.NAME}
    weights = [figures[f"weight of {name}"] for name in ("commonness", "likelihood", "classifier")]
    assert sum(weights) == pytest.approx(1)
    assert figures["weight of likelihood"] > figures["weight of commonness"], "which takes misread text for good"
    assert figures["least loss of a proxy"] < figures["mean loss of the proxies"]


@pytest.fixture
def short(monkeypatch):
    for name, value in {"EARLY": 20, "STEPS": 8, "CONTEXT": 24, "TEXTS": (32, 64), "HELD": 32}.items():
        monkeypatch.setattr(learned, name, value)
    monkeypatch.setattr(reweighted, "TEXTS", 64)


@pytest.mark.usefixtures("short", "store")
def test_weights_are_learned_at_every_batch_by_features_and_by_the_loss_alone(published):
    own = parts("translations", "A test.")
    tables = own["mts"].measure(0, published)
    assert [row["arm"] for row in tables["arms"]] == ["MTS 32", "MTS 64"]
    assert {row["arm"] for row in tables["carried"]} == {"MTS 32", "MTS 64"}
    assert all(row["auroc"] > 0.55 for row in tables["arms"])
    told = own["loss"].measure(0, published)
    assert [row["arm"] for row in told["arms"]] == ["loss alone 32", "loss alone 64", "Learning to Reweight"]
    assert {row["arm"] for row in told["trace"]} == {"loss alone 32", "loss alone 64"}
    assert "carried" not in told
    by_arm = {row["arm"]: row for row in tables["arms"] + told["arms"]}
    assert by_arm["MTS 64"]["flops"] > by_arm["MTS 32"]["flops"] > 0
    assert by_arm["loss alone 64"]["flops"] > by_arm["MTS 64"]["flops"], "which reads each batch once more"
    assert by_arm["Learning to Reweight"]["auroc"] > 0.5
    assert len({row["perplexity"] for row in by_arm.values()}) == len(by_arm), "no two arms keep the same"


def test_where_nothing_helps_the_target_reweighting_says_so(bench, published, monkeypatch):
    from palimpsest import tokenizer
    from training.selection import target

    monkeypatch.setattr(learned, "STEPS", 1)
    monkeypatch.setattr(learned, "EARLY", 3)
    monkeypatch.setattr(reweighted, "alignments", lambda losses, theta, direction, exact: -losses(theta).detach())
    read = target.read(bench.pool, tokenizer.load(published.file("tokenizer.json")), every_real=True)
    with pytest.raises(
        ValueError, match="nothing in the pool lowers the loss on the target; give the model more steps"
    ):
        reweighted.score(bench.pool, read, learned.settings(0, 64))
