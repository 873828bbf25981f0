"""Tier 0: what the papers report happens to a trigram of CPython's own text under pure sampling, over three seeds.

Of the mode-seeking arms only the one without real text runs here; the command runs them all. G7 to G9 are asked of what
the trigrams write; G2 and G5, which ask of a mix and not of its words, have their tests with the gate.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from palimpsest.guard.experiment import ARMS, findings, grid, table, world
from palimpsest.guard.judge import judge, judge_probe
from palimpsest.guard.loops import Arm, generations
from palimpsest.guard.measure import watch
from palimpsest.guard.probe import additive_probe
from palimpsest.guard.tail import sampled
from palimpsest.guard.thresholds import DEFAULTS
from palimpsest.guard.tokens import size
from palimpsest.guard.verdict import worst
from tests.palimpsest.guard.conftest import SEEDS

PURE = [arm for arm in ARMS if not arm.mode_seeking]


@pytest.fixture(scope="module")
def chosen(cpython):
    """A third of the documents."""
    return [cpython[place] for place in np.random.default_rng(0).permutation(len(cpython))[:1_300]]


@pytest.fixture(scope="module")
def rows(chosen):
    """The grid under pure sampling; the whole one is a command."""
    return list(grid(chosen, SEEDS, arms=PURE))


def test_loops_go_as_the_papers_say(rows):
    found = findings(rows)
    assert {finding.name for finding in found} == {
        "replace 0 grows",
        "real text helps",
        "half real is flat",
        "accumulate is bounded",
        "subsample lies between",
        "tail follows its null",
    }
    assert [finding.sentence for finding in found if not finding.holds] == []


def test_without_real_text_every_generation_is_worse_than_the_last(rows):
    for seed in SEEDS:
        own = [row for row in rows if row.arm == "replace 0.0" and row.seed == seed]
        assert np.diff([own[0].base, *(row.perplexity for row in own)]).min() > 0


def test_seeking_the_mode_loses_more_than_sampling(chosen, rows):
    drawn = [row for row in rows if row.arm == "replace 0.0" and row.seed == SEEDS[0]]
    sought = list(grid(chosen, SEEDS[:1], arms=[Arm("replace", 0.0, mode_seeking=True)]))
    assert len(drawn) == len(sought) == 5
    assert all(worse.recall < row.sampled - 0.1 for worse, row in zip(sought, drawn, strict=True))
    assert all(worse.perplexity > row.perplexity for worse, row in zip(sought[1:], drawn[1:], strict=True))
    assert np.diff([row.perplexity for row in sought]).min() > 0


def test_a_loop_that_grows_as_fast_as_it_began_is_not_bounded(rows):
    steady = [
        replace(row, perplexity=row.base * (1 + 0.01 * row.generation**1.1)) if row.arm == "accumulate" else row
        for row in rows
    ]
    (bounded,) = [finding for finding in findings(steady) if finding.name == "accumulate is bounded"]
    assert not bounded.holds


def test_findings_say_what_does_not_hold(rows):
    def broken(*pair):
        names = dict(zip(pair, reversed(pair), strict=True))
        return {
            f.name for f in findings([replace(row, arm=names.get(row.arm, row.arm)) for row in rows]) if not f.holds
        }

    of_shares = {"replace 0 grows", "real text helps", "half real is flat", "tail follows its null"}
    assert of_shares <= broken("replace 0.0", "replace 0.5")
    assert {"accumulate is bounded", "subsample lies between"} <= broken("accumulate", "replace 0.1")


def test_the_table_has_a_line_per_arm(rows):
    lines = table(rows).splitlines()
    assert len(lines) == 1 + len(PURE)
    assert lines[0].split() == ["decoding", "policy", "g1", "g2", "g3", "g4", "g5", "rare"]


def test_a_mix_has_the_real_share_its_policy_says(cpython):
    here = world(cpython[:300], 0)
    for arm, shares in (
        (Arm("replace", 0.25), (0.25, 0.25, 0.25)),
        (Arm("subsample"), (1 / 2, 1 / 3, 1 / 4)),
        (Arm("subsample", 0.3), (1 / 2, 1 / 3, 0.3)),
        (Arm("accumulate"), (1 / 2, 1 / 3, 1 / 4)),
    ):
        random = np.random.default_rng(0)
        found = list(generations(here.real, here.model, arm, 3, len(here.vocabulary), random))
        assert [round_.real_share for round_ in found] == pytest.approx(shares, abs=0.001)
        budget = size(here.real)
        sizes = [budget * (n + 2 if arm.policy == "accumulate" else 1) for n in range(3)]
        assert [size(round_.mix) for round_ in found] == sizes


@pytest.mark.parametrize("seed", SEEDS)
def test_the_probe_passes_depth_1_and_stops_depth_2(written, seed):
    here = written(seed)
    tests, types = {"": here.world.test}, len(here.world.vocabulary)
    for decoding in ("pure", "mode-seeking"):
        outcomes = []
        for depth in (1, 2):
            probe = additive_probe(here.world.real, here.generations[decoding, depth], tests, types, seeds=1)
            outcomes.append(worst(judge_probe(probe, DEFAULTS, "texts")))
        assert outcomes == ["passed", "failed"]
    half = here.generations["pure", 1][: len(here.generations["pure", 1]) // 2]
    probe = additive_probe(here.world.real, half, tests, types, seeds=1)
    assert worst(judge_probe(probe, DEFAULTS, "texts")) == "passed"


@pytest.mark.parametrize("seed", SEEDS)
def test_tail_and_entropy_stop_mode_seeking_at_once_and_let_pure_sampling_through(written, seed):
    here = written(seed)
    held_out = [here.world.vocabulary.decode(document) for document in here.world.test]
    outcomes = {}
    for decoding in ("pure", "mode-seeking"):
        verdicts = judge(watch(here.texts(decoding, 1), here.reference, held_out=held_out), DEFAULTS, "texts")
        outcomes[decoding] = {(v.gate, v.measure): v.outcome for v in verdicts if v.severity == "critical"}
    assert set(outcomes["pure"].values()) == {"passed"}
    assert outcomes["mode-seeking"]["G8", "tail_full"] == "failed"
    assert outcomes["mode-seeking"]["G9", "entropy"] == "failed"


def test_the_analytic_null_is_what_pure_sampling_keeps(rows):
    drawn = [row for row in rows if row.arm == "replace 0.0"]
    assert len(drawn) == 15
    for row in drawn:
        assert -0.02 <= row.recall - row.sampled <= 0.06


def test_nothing_to_split_is_said(cpython):
    with pytest.raises(ValueError, match="1 documents cannot be split"):
        world(cpython[:1], 0)
    assert sampled(world(cpython[:40], 0).source, 1) > 0.5
