from __future__ import annotations

import json
import math

import pytest

from palimpsest.guard.thresholds import DEFAULTS
from palimpsest.guard.verdict import Verdict, bounded, not_judged, percent, worst


def test_the_limit_itself_is_allowed():
    assert bounded("G8", "tail", 0.9, "", at_least=0.9).outcome == "passed"
    assert bounded("G8", "tail", 0.89, "", at_least=0.9).outcome == "failed"
    assert bounded("G9", "z", 6.1, "", at_most=6, severity="warning").outcome == "warned"
    with pytest.raises(ValueError, match="one of them"):
        bounded("G9", "z", 6.1, "")


@pytest.mark.parametrize("figure", [math.nan, math.inf])
def test_no_verdict_has_a_figure_that_is_none(figure):
    with pytest.raises(ValueError, match="report it as not judged"):
        bounded("G9", "z", figure, "", at_most=6)
    with pytest.raises(ValueError, match="without a value"):
        Verdict("G9", "passed", "", None, 6, "critical")


def test_what_nobody_judged_is_worse_than_what_passed():
    passed, unknown = bounded("G8", "", 1, "", at_least=0), not_judged("G8", "", "no text")
    assert worst([passed, unknown]) == "not_judged"
    assert worst([unknown, bounded("G8", "", 1, "", at_most=0)]) == "failed"
    assert worst([]) == "not_judged"
    assert json.loads(json.dumps(unknown.as_dict()))["sentence"] == "no text"


def test_shares_read_well():
    assert [percent(share) for share in (0.83, 0.004, 1.124, 0, 0.05, 0.0251)] == [
        "83%",
        "0.4%",
        "112%",
        "0%",
        "5%",
        "2.5%",
    ]


def test_a_study_sets_some_limits_and_mistypes_none():
    assert DEFAULTS.override({"tail_full_min": 0.8}).tail_full_min == 0.8
    assert DEFAULTS.override({}) == DEFAULTS
    with pytest.raises(ValueError, match="tail_ful_min"):
        DEFAULTS.override({"tail_ful_min": 0.8})
    with pytest.raises(ValueError, match="real_min"):
        DEFAULTS.override({"real_min": 0.05})
