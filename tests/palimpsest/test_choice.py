"""Layouts that select: the rules, each on scores and tokens that are known, and what a study file may ask for."""

from __future__ import annotations

import numpy as np
import pytest

from palimpsest.choice import best_of_each, chances, kept_by, lot
from palimpsest.config import Select, Study
from palimpsest.mixes import layout_rows, recipe_rows, stream_rows
from tests.palimpsest.conftest import write_study

SCORE = np.array([0.1, 0.9, 0.5, 0.7, 0.3])
TOKENS = np.array([100, 40, 30, 30, 200])
LOTS = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
EVEN = np.ones(5)


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ({"share": 0.25}, [1, 2, 3]),  # 40 + 30 + 30 of 400 tokens
        ({"share": 0.24}, [1, 3]),
        ({"share": 0.01}, [1]),  # the best at least, however long
        ({"threshold": 0.5}, [1, 2, 3]),
    ],
)
def test_a_rule_keeps_the_best(rule, kept):
    found, chance = kept_by(Select(by="rank", **rule), SCORE, EVEN, TOKENS, LOTS)
    assert np.flatnonzero(found).tolist() == kept
    assert chance.tolist() == found.tolist()


def test_a_larger_share_holds_the_smaller_and_equal_scores_go_by_lot():
    score, tokens = np.repeat([1.0, 0.0], 500), np.full(1000, 10)
    draws = np.array([lot(f"{n}") for n in range(1000)])
    less, more = (kept_by(Select(by="rank", share=s), score, np.ones(1000), tokens, draws)[0] for s in (0.2, 0.4))
    assert (less.sum(), more.sum()) == (200, 400)
    assert more[less].all()
    assert draws[:500][less[:500]].max() < draws[:500][~less[:500]].min()


def test_the_best_of_each_place_is_kept_and_of_equal_ones_the_first_of_their_lots():
    place = np.array([7, 3, 7, 3, 7, 1])
    score = np.array([0.5, 0.2, 0.9, 0.2, 0.9, -4.0])
    draws = np.array([0.1, 0.8, 0.6, 0.3, 0.2, 0.9])
    found = best_of_each(place, score, draws)
    assert np.flatnonzero(found).tolist() == [3, 4, 5]
    order = np.random.default_rng(0).permutation(6)
    assert best_of_each(place[order], score[order], draws[order]).tolist() == found[order].tolist()


def test_a_sample_takes_its_share_of_the_tokens_by_weight():
    random = np.random.default_rng(0)
    weight, tokens = random.gamma(1.0, size=20_000), random.integers(10, 500, 20_000)
    chance = chances(weight, tokens, 0.3)
    assert (chance * tokens).sum() == pytest.approx(0.3 * tokens.sum())
    assert chance.max() <= 1
    free = chance < 1
    assert chance[free] / weight[free] == pytest.approx((chance[free] / weight[free])[0])
    draws = np.array([lot(f"{n}", 3) for n in range(20_000)])
    kept, told = kept_by(Select(by="rank", sample=0.3, seed=3), weight, weight, tokens, draws)
    assert told == pytest.approx(chance)
    assert tokens[kept].sum() == pytest.approx(0.3 * tokens.sum(), rel=0.03)
    assert kept_by(Select(by="rank", sample=0.3), np.zeros(2), np.zeros(2), TOKENS[:2], LOTS[:2])[0].sum() == 0


def test_lots_are_even_the_texts_own_and_others_with_another_seed():
    first, second = (np.array([lot(f"{n}", seed) for n in range(2_000)]) for seed in (0, 1))
    assert first.mean() == pytest.approx(0.5, abs=0.03)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.06
    assert lot("one") == lot("one", 0)


SIMPLE = {"kind": "simple", "strategy": "rephrase"}


STRETCHED = {"kind": "stretched", "strategy": "thought", "select": {"by": "suffix", "each": "place"}}


def study_of(folder, *, selection=None, **layouts):
    given = {"real": {"kind": "real"}, "simple": SIMPLE} | layouts
    engine = {"kind": "recorded", "file": str(folder / "recordings.jsonl")}
    rationale = {"kind": "rationale", "generations": 2, "engine": engine}
    strategies = {"rephrase": {"kind": "rephrase", "generations": 3, "engine": engine}, "rationale": rationale}
    more = {"strategies": strategies | {"thought": rationale | {"candidates": 3}}}
    more |= {"selection": selection} if selection else {}
    return write_study(folder, layouts=given, mixes={"real": {"layout": "real", "epochs": 4}}, **more)


@pytest.mark.parametrize(
    ("layout", "selection", "match"),
    [
        ({"select": {"by": "rank"}}, None, "'select' has no rule; give exactly one of"),
        ({"select": {"by": "rank", "share": 0.5, "sample": 0.5}}, None, "'select' has share and sample"),
        ({"select": {"by": "rank", "share": 1.0}}, None, "less than 1"),
        ({"select": {"by": "quality", "share": 0.5}}, None, "commonness"),
        ({"select": {"by": "rank", "share": 0.5, "seed": 1}}, None, "'seed' is for 'by: random' and for 'sample'"),
        ({"select": {"by": "rank", "share": 0.5}, "align": "importance"}, None, "take one of them out"),
        ({"kind": "stretched", "strategy": "rationale", "select": {"by": "rank", "share": 0.5}}, None, "each: place"),
        ({"select": {"by": "rank", "each": "place"}}, None, "'select' of kind 'stretched' is 'each: place'"),
        ({"select": {"by": "suffix", "share": 0.5}}, None, "it goes with 'each: place'"),
        (STRETCHED | {"strategy": "rationale"}, None, "asks for one rationale at each place.*more 'candidates'"),
        (STRETCHED, None, "selection.suffix: selecting by 'suffix' reads with a model"),
        (STRETCHED, {"suffix": {"model": "org/name"}}, "names no run of this platform; write it like run:demo"),
        ({}, {"rank": ["likelihood"]}, "an average takes two scores"),
        ({}, {"methods": ["rank", "rank"]}, "name each score once"),
    ],
)
def test_what_cannot_be_selected_is_refused(tmp_path, layout, selection, match):
    with pytest.raises(ValueError, match=match):
        study_of(tmp_path, selection=selection, kept=SIMPLE | layout)


def test_a_study_scores_what_its_layouts_ask_for_and_no_more(tmp_path):
    assert study_of(tmp_path).selects == ()
    kept = SIMPLE | {"select": {"by": "rank", "share": 0.5}}
    assert study_of(tmp_path, kept=kept).selects == ("likelihood", "classifier", "rank")
    averaged = {"rank": ["commonness", "classifier"], "methods": ["random"]}
    assert study_of(tmp_path, kept=kept, selection=averaged).selects == ("commonness", "classifier", "rank", "random")


def test_a_layout_has_the_first_candidates_or_chooses_among_all_and_all_are_what_it_cost(tmp_path):
    plain = {"kind": "stretched", "strategy": "thought"}
    study = study_of(tmp_path, first=plain, best=STRETCHED, selection={"suffix": {"model": "run:demo/real-s0"}})
    rows = {row["layout"]: (row["generations"], row["places"]) for row in layout_rows(study)}
    assert (rows["first"], rows["best"], rows["simple"]) == ((2, 2), (6, 2), (3, None))
    assert study.generations_in(["first"]) == {"thought": 2}
    assert study.generations_in(["first", "best"]) == {"thought": 6}
    assert study.layouts["best"].select.words == "by suffix, the best of each place"
    assert study.selects == ("suffix",)


def test_a_study_that_selects_nothing_is_keyed_as_if_there_were_no_selection(tmp_path):
    """What the lake keys its datasets by: the dump of the study, and the rows its mixes are built from."""
    study = study_of(tmp_path)
    dumped = study.model_dump(mode="json")
    assert "selection" not in dumped
    assert not any("select" in layout for layout in dumped["layouts"].values())
    scored = study_of(tmp_path, selection={"methods": ["commonness"]})
    for rows in (layout_rows, recipe_rows, stream_rows):
        assert rows(scored) == rows(study)
    assert Study.model_validate(dumped).model_dump(mode="json") == dumped
    kept = study_of(tmp_path, kept=SIMPLE | {"select": {"by": "rank", "share": 0.5}}).model_dump(mode="json")
    assert kept["layouts"]["kept"]["select"]["share"] == 0.5
