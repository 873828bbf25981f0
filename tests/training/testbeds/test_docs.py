"""The testbed of documentation: texts that are worse in ways that are known, and arms of one budget."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest

from palimpsest.guard.corpus import source_files
from palimpsest.guard.tokens import TOKEN
from palimpsest.lake import Lake
from training.analysis import testbed, testbed_texts
from training.testbeds import stage
from training.testbeds.docs import arms, degrade, settings, texts
from training.testbeds.docs.arms import Bench
from training.testbeds.docs.degrade import GRADES
from training.testbeds.docs.parts import TESTBED


@pytest.fixture(scope="module")
def drawn(pages):
    return texts.draw(pages, 0)


@pytest.fixture(scope="module")
def bench(published):
    found = Bench(published, 0)
    found.simple()
    return found


def test_a_seed_draws_its_texts_as_many_of_each_kind_and_none_is_in_two_parts(pages, drawn):
    assert [len(part) for part in (drawn.test, drawn.vouched, drawn.pool)] == [100, 40, 360]
    assert Counter(drawn.kind) == {kind: 184 if kind == "clean" else 22 for kind in GRADES}
    clean = [text for text, kind in zip(drawn.pool, drawn.kind, strict=True) if kind == "clean"]
    parts = [*drawn.test, *drawn.vouched, *clean]
    assert len(set(parts)) == len(parts)
    assert set(parts) < {" ".join(TOKEN.findall(page)) for page in pages}
    assert all("  " not in text and "\n" not in text for text in drawn.pool), "layout tells nothing"
    assert texts.draw(pages, 0) == drawn
    assert texts.draw(pages, 1).pool != drawn.pool
    assert drawn.kind != sorted(drawn.kind), "nor does the order"


def test_texts_are_made_worse_as_much_as_is_said():
    words, random = [f"w{n}" for n in range(1000)], np.random.default_rng(0)
    for share in (0.3, 1.0):
        worse = degrade.shuffled(share)(words, random)
        assert Counter(worse) == Counter(words)
        assert np.mean([a != b for a, b in zip(worse, words, strict=True)]) == pytest.approx(share, abs=0.02)
    letters = ["o"] * 5000
    assert "".join(degrade.misread(0.1)(letters, random)).count("0") == pytest.approx(500, rel=0.15)
    notices = degrade.boilerplate(words, random)
    assert len(notices) == 1000
    assert len(set(notices)) < 120


def test_code_is_the_librarys_own_without_what_it_says_of_itself(pages):
    file = next(file for file in source_files() if file.name == "textwrap.py")
    found = " ".join(degrade.functions(file))
    assert "def wrap" in found
    assert "Wrap a single paragraph of text" in " ".join(TOKEN.findall(file.read_text()))
    assert "Wrap a single paragraph of text" not in found
    written = degrade.code(["word"] * 300, np.random.default_rng(0))
    assert len(written) == 300
    assert {"(", "=", "self"} < set(written)


def test_too_few_documents_are_refused(pages):
    with pytest.raises(ValueError, match="5 documents are too few"):
        texts.draw(pages[:5], 0)


def test_scores_find_what_is_clean_and_what_they_keep_teaches_more_than_as_much_by_lot(bench):
    rows = {row["arm"]: row for row in bench.tables["arms"]}
    assert (rows[arms.ORACLE]["auroc"], rows[arms.ORACLE]["spearman"]) == pytest.approx((1, 1))
    for name in ("log-probability", "classifier", arms.RANK):
        assert rows[name]["auroc"] > 0.6
    order = (arms.ORACLE, "log-probability", arms.RANDOM)
    assert sorted(order, key=lambda arm: rows[arm]["perplexity"]) == list(order)
    assert rows[arms.RANDOM]["auroc"] is None
    parts = sum(rows[name]["flops"] for name in arms.AVERAGED)
    assert rows[arms.RANK]["flops"] == parts > 0


def test_every_arm_keeps_the_same_words_to_the_last_and_everything_all_of_them(bench):
    lengths = np.array([len(text) for text in bench.encoded])
    words = {kind: lengths[bench.kind == kind].sum() for kind in GRADES}
    kept = Counter()
    for row in bench.tables["kinds"]:
        kept[row["arm"]] += row["kept"] * words[row["kind"]]
    assert kept.pop(arms.EVERYTHING) == pytest.approx(lengths.sum())
    assert all(own == pytest.approx(round(lengths.sum() / 2)) for own in kept.values())


def test_where_nothing_is_left_out_there_is_one_lot(published, monkeypatch):
    bench, lots = Bench(published, 0), []

    def learned(score, lot, budget):
        lots.append((budget, lot))
        return 1.0, dict.fromkeys(GRADES, 1.0)

    one, other = (bench._learned(np.zeros(len(bench.encoded)), lot, 1.0) for lot in (0, 1))
    assert one[0] == pytest.approx(other[0], rel=1e-9), "all lots of all texts teach the same"
    monkeypatch.setattr(bench, "_learned", learned)
    bench.add(arms.EVERYTHING, lambda: None, budget=1.0)
    bench.add(arms.RANDOM, lambda: None)
    assert lots == [(1.0, 0), *((arms.BUDGET, lot) for lot in range(arms.LOTS))]


@pytest.fixture
def small(monkeypatch, tmp_path, pages):
    """The command on few texts and short trainings; where its page goes."""
    monkeypatch.setattr(texts, "cpython_documents", lambda: pages)
    monkeypatch.setattr(settings, "STEPS", 4)
    monkeypatch.setenv("PALIMPSEST_LAKE", str(tmp_path / "lake"))
    monkeypatch.setattr(testbed, "REPOSITORY", tmp_path)
    (tmp_path / "docs" / "results").mkdir(parents=True)
    return tmp_path / "docs" / "results" / "testbed_docs.md"


def test_the_command_measures_what_is_missing_and_writes_the_page(small):
    assert stage.main(TESTBED, 1, ["simple"]) == small
    told = small.read_text()
    assert "no learned score is measured, so it stays the default" in told
    assert (small.parent / "testbed_docs" / "gap.png").stat().st_size > 1000
    stage.main(TESTBED, 1, ["pvm"])
    told = small.read_text()
    assert "no learned score passes, so rank average stays the default" in told, "one seed of five"
    assert "| PVM, alpha 0.1: better than rank average, paired, in ≥ 4 of 5 seeds |" in told
    assert "| PVM, alpha 1 | passes over the target |" in told
    lake = Lake.from_env()
    (part,) = lake.versions("testbeds/docs/pvm")
    assert [parent["dataset"] for parent in part.manifest["parents"]] == ["testbeds/docs/texts"]
    assert {row["arm"] for row in pq.read_table(part.file("arms.parquet")).to_pylist()} == {
        f"PVM, alpha {alpha:g}" for alpha in settings.ALPHAS
    }


def test_to_look_at_what_is_measured_draws_no_texts_of_other_code(small, monkeypatch):
    stage.main(TESTBED, 1, ["simple"])
    lake = Lake.from_env()
    monkeypatch.setattr(texts, "CODE", (*texts.CODE, "training/testbeds/docs/arms.py"))
    with pytest.raises(ValueError, match="part 'simple' of the testbed is not measured yet"):
        stage.report(lake, TESTBED)
    assert len(lake.versions("testbeds/docs/texts")) == 1


def test_a_part_that_the_testbed_has_not_is_named():
    with pytest.raises(ValueError, match="testbed docs has no part noise; its parts: worth, simple, rated"):
        stage.main(TESTBED, 1, ["noise"])


def test_the_page_knows_arms_by_their_names():
    assert (testbed_texts.RANDOM, testbed_texts.ORACLE, testbed_texts.EVERYTHING, testbed_texts.RANK) == (
        arms.RANDOM, arms.ORACLE, arms.EVERYTHING, arms.RANK,
    )  # fmt: skip
