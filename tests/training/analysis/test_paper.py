"""What the report makes of the paper's own study: which of its mixes it holds against each other, and at what."""

from __future__ import annotations

import pytest

from palimpsest.config import load_study
from training.analysis.gaps import find_gaps
from training.analysis.series import describe_mixes, find_series

PARAMETERS = {6: 154_147_328, 12: 299_649_792, 24: 602_457_088, 36: 1_540_732_416}
"""By layers (digest, section 4)."""
G = [2, 4, 8, 16, 32]


@pytest.fixture(scope="module")
def members():
    """Every mix at the settings it is written with; the file's order is that of their losses, the best first."""
    study = load_study("megadocs_paper")
    return describe_mixes(
        study, {mix: runs_of(study, mix, 3.4 + place / 1000) for place, mix in enumerate(study.mixes)}
    )


def runs_of(study, mix, loss):
    training = study.training_of(mix)
    run = {"losses": {"iid": loss}, "parameters": {"total": PARAMETERS[training.model.layers]}}
    return dict.fromkeys(training.seeds, run)


def lines_of(members, axis):
    return {(line.name, *(m.mix for m in line.members.values())) for line in find_series(members) if line.axis == axis}


def gaps_of(members, axis):
    found = [gap for gap in find_gaps(members, ["iid"]) if gap["axis"] == axis]
    return {(gap["layout"], *((p["mix"], p["against"]) for p in gap["points"])) for gap in found}


def test_each_layout_is_one_series_in_g_and_both_megadocs_are_held_against_simple(members):
    lines, gaps = lines_of(members, "generations"), gaps_of(members, "generations")
    assert ("simple", *(f"simple_{g}" for g in G)) in lines
    for name, kind in (("stitched", "stitched"), ("stretched, thought", "stretched")):
        assert (name, *(f"{kind}_{g}" for g in G)) in lines
        assert (name, *((f"{kind}_{g}", f"simple_{g}") for g in G)) in gaps
