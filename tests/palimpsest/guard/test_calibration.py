from __future__ import annotations

import math
from dataclasses import replace

import pytest

from palimpsest.cli import main
from palimpsest.guard import calibration
from palimpsest.guard.thresholds import DEFAULTS
from palimpsest.lake import Lake


@pytest.fixture(scope="module")
def published(cpython, tmp_path_factory):
    lake = Lake(tmp_path_factory.mktemp("lake"))
    return calibration.publish("small", cpython[100:1100], lake, tokens=50_000)


@pytest.fixture(scope="module")
def found(published):
    return calibration.load(published)


def test_limits_lie_between_what_must_pass_and_what_must_not(found):
    of = {(run.decoding, run.depth): run for run in found.runs}
    limits = found.thresholds
    assert len(of) == 6
    assert of["pure", 1].probe < limits.probe_ngram_max < of["pure", 2].probe
    assert of["mode-seeking", 1].tail_full < limits.tail_full_min < of["pure", 1].tail_full
    assert of["mode-seeking", 1].tail_sample < limits.tail_sample_fail < limits.tail_sample_warn
    assert limits.real_self_consuming_min == DEFAULTS.real_self_consuming_min
    assert all(math.isfinite(figure) for null in found.nulls.values() for figure in null.values())


def test_what_cannot_be_told_apart_keeps_its_default_and_says_so(found):
    level = [replace(run, probe=1.2, z={"entropy": None}, mmd=None) for run in found.runs]
    limits, notes = calibration.suggest(level)
    assert not {"probe_ngram_max", "entropy_z_max", "mmd_warn"} & set(limits)
    assert any(note.startswith("probe_ngram_max stays 1.1: what must pass measures 1.2") for note in notes)
    assert len(notes) == 4


def test_a_calibration_is_read_back_from_the_lake(lake, published, found, cpython):
    assert calibration.read("small", lake) is None
    assert calibration.read("small", published.lake) == found
    assert found.corpus == "small" and 40_000 < found.tokens <= 50_000
    assert found.thresholds == DEFAULTS.override(published.extra["limits"])
    again = calibration.publish("small", [], published.lake, tokens=50_000)
    assert again.digest == published.digest  # the same parents, options and code: nothing is measured again
    with pytest.raises(ValueError, match="3 documents with"):
        calibration.calibrate("tiny", cpython[:3])


def test_the_command_names_what_is_missing(lake, capsys):
    assert main(["guard", "calibrate", "nowhere"]) == 1
    assert "nowhere" in capsys.readouterr().err
    assert main(["guard", "calibrate", "sample"]) == 1
    assert "corpora/sample/gate has never been published" in capsys.readouterr().err
    assert main(["guard", "experiment", "--seeds", "0"]) == 1
    assert "--seeds must be 1 or more" in capsys.readouterr().err
