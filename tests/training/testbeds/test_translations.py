"""The testbed of translations: passages in eight versions to choose from, where a ninth is the target."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from palimpsest.guard.tokens import TOKEN
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
        split = "val" if number >= 450 else "train"
        own = {"doc_id": f"d{number:03}", "chapter_id": f"c{number // 3:03}", "split": split}
        rows.append(own | {"version": texts.TARGET, "text": page})
        for version, share in WORSE.items():
            told = " ".join(degrade.misread(share)(page.split(), random))
            rows.append(own | {"version": version, "text": told})
    (folder / "translations").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), folder / "translations" / "translations.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PALIMPSEST_DATA", str(folder))
        for name, count in {"VOUCHED": 150, "POOL": 60, "TEST": 100}.items():
            patch.setattr(texts, name, count)
        yield texts.publish(Lake(folder / "lake"), 0)


@pytest.fixture(scope="module")
def bench(published):
    return Bench(published, 0)


def test_the_pool_has_every_version_of_its_passages_and_parts_have_chapters_of_their_own(published, pages):
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
    parts = {name: [row["text"] for row in read[name]] for name in ("train", "test")}
    parts["pool"] = [row["text"] for row in pool if row["kind"] == "NHEB"]  # the page itself, here
    assert [len(parts[name]) for name in ("train", "pool", "test")] == [150, 60, 100]
    of = {" ".join(TOKEN.findall(page)): number // 3 for number, page in enumerate(pages)}
    chapters = {name: {of[text] for text in own} for name, own in parts.items()}
    assert not chapters["train"] & chapters["pool"]
    assert not (chapters["train"] | chapters["pool"]) & chapters["test"]
    assert max(set.union(*chapters.values())) < 150, "held-out chapters are left alone"
    assert {row["kind"] for row in pool if row["clean"]} == {"NHEB", "ACV", "Darby", "ASV"}


def test_a_file_with_too_few_passages_is_refused(published, monkeypatch, tmp_path):
    file = texts.matching(texts.FILE)[0]
    monkeypatch.setattr(texts, "TEST", 300)
    with pytest.raises(ValueError, match=r"translations.parquet has 450 passages .* of which 510 passages are needed"):
        texts.draw(file, 0)
    without = tmp_path / "without.parquet"
    rows = [row for row in pq.read_table(file).to_pylist() if row["version"] != "YLT"]
    pq.write_table(pa.Table.from_pylist(rows), without)
    with pytest.raises(ValueError, match="has 0 passages for training in all of BSB, NHEB, .* YLT"):
        texts.draw(without, 0)


def test_worth_follows_what_versions_are_worth_beside_the_target(bench):
    found = {row["kind"]: row["worth"] for row in worth.measure(bench)}
    order = [found[kind] for kind in ("clean", *texts.WORTH)]
    assert order[1] == pytest.approx(1, abs=0.2), "the first version is the page itself"
    assert order[1] > order[2] > order[4] > order[-1]


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
    assert rows[rated.NAME]["flops"] > rows[RANK]["flops"], "scores that are made twice, one more of them"


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
    assert len({row["perplexity"] for row in by_arm.values()}) == len(by_arm), "no two arms keep the same"
    assert {row["figure"]: row["value"] for row in told["figures"] if row["arm"] == "Learning to Reweight"}[
        "looks with weights"
    ] == 4, "8 steps have no more"


def test_reweighting_finds_misread_text(bench, published, monkeypatch):
    """Of one version that is the target's own text and one that is half misread."""
    from palimpsest import tokenizer
    from training.selection import target

    for name, value in {"EARLY": 40, "STEPS": 10, "CONTEXT": 48}.items():
        monkeypatch.setattr(learned, name, value)
    read = target.read(bench.pool, tokenizer.load(published.file("tokenizer.json")), every_real=True)
    found = reweighted.score(bench.pool, read, learned.settings(0, 64)).score[bench.places]
    ends = np.isin(bench.kind, ["NHEB", "Geneva1599"])
    assert roc_auc_score(bench.kind[ends] == "NHEB", found[ends]) > 0.7


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
