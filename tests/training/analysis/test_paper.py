"""What the report makes of the paper's own study: which of its mixes it holds against each other, and at what."""

from __future__ import annotations

import pytest

from palimpsest.config import load_study
from training import points
from training.analysis.gaps import find_ablations, find_gaps
from training.analysis.laws import Law, fit_series
from training.analysis.members import describe_mixes
from training.analysis.series import find_series

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
    training, point = study.training_of(mix), points.own(study, study.mixes[mix].like or mix)._asdict()
    run = {"losses": {"iid": loss}, "parameters": {"total": PARAMETERS[training.model.layers]}, "point": point}
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


@pytest.mark.parametrize(
    ("what", "first", "second", "same"),
    [("real document", "stitched_2", "first_2", False),
     ("real document", "stitched_8", "first_8", True),
     ("real document", "simple_8", "simple_8_alone", True),
     ("real document", "stitched_8", "stitched_8_alone", True),
     ("real stream", "stitched_2", "stitched_2_only", False),
     ("attention", "real", "real_masked", True),
     ("attention", "simple_16", "simple_16_masked", True),
     *(("settings", f"{kind}_{g}", f"{kind}_{g}_controlled", None) for kind in ("stitched", "stretched") for g in G)],
)  # fmt: skip
def test_every_ablation_of_section_6_3_is_a_pair_of_mixes_that_differ_in_it_alone(members, what, first, second, same):
    found = {(a["first"], a["second"]): a for a in find_ablations(members, ["iid"])}
    assert found[first, second]["what"] == what
    assert same is None or found[first, second]["same_settings"] is same


def test_no_ablation_stands_in_the_place_of_a_mix_of_the_table(members):
    for line in find_series(members):
        if line.axis == "generations":
            assert line.beaten == 0 or line.name in ("simple", "stitched", "stretched, thought"), line.name
    names = [(line.axis, line.name) for line in find_series(members)]
    assert len(set(names)) == len(names)


def test_the_sweep_of_contexts_goes_on_to_the_optimum_it_was_run_at(members):
    lines, short = lines_of(members, "context"), (256, 512, 1024, 2048)
    for name, kind in (("simple", "simple"), ("stitched", "stitched"), ("stretched, thought", "stretched")):
        mixes = (*(f"{kind}_16_context_{context}" for context in short), f"{kind}_16")
        assert (name, *mixes, *(["stretched_16_context_8192"] if kind == "stretched" else [])) in lines


def test_real_text_alone_has_a_law_in_model_size(members):
    """Section 6.7: 0.05/N^1.02 + 3.43, N in thousand millions, of tuned real-only models from 150M to 1.5B."""
    line = next(line for line in find_series(members) if (line.axis, line.kind) == ("parameters", "real"))
    assert [m.mix for m in line.members.values()] == ["real_150m", "real", "real_600m", "real_1b5"]
    law = Law(A=0.05 * 1e9**1.02, B=1.02, C=3.43)
    found = fit_series([*line.members], [dict.fromkeys((0, 1, 2), law.loss(n)) for n in line.members])
    assert pytest.approx(3.43, abs=1e-3) == found.law.C and pytest.approx(1.02, rel=0.01) == found.law.B
