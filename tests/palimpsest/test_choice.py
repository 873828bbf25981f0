"""Layouts that select: the rules, each on scores and tokens that are known, and what a study file may ask for."""

from __future__ import annotations

import numpy as np
import pytest

from palimpsest.choice import chances, kept_by, lot
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


def study_of(folder, *, selection=None, **layouts):
    given = {"real": {"kind": "real"}, "simple": SIMPLE} | layouts
    more = {"selection": selection} if selection else {}
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
        ({"kind": "stretched", "strategy": "rationale", "select": {"by": "rank", "share": 0.5}}, None, "not for kind"),
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
