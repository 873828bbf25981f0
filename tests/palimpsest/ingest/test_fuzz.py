"""A short run of the fuzz that `make fuzz` runs for 20 minutes; it counts inputs here, not seconds."""

from __future__ import annotations

import pytest

from tests.palimpsest.ingest import fuzz


def test_a_short_fuzz_finds_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "FINDINGS", tmp_path)
    tried, lines = fuzz.run(seconds=300, seed=1, most=100)
    assert tried == 100
    assert lines > 100


def test_the_fuzz_keeps_what_it_finds(tmp_path, monkeypatch):
    def broken(*_):
        raise KeyError("broken on purpose")

    monkeypatch.setattr(fuzz, "FINDINGS", tmp_path)
    monkeypatch.setattr(fuzz, "examine_all", broken)
    with pytest.raises(AssertionError, match="KeyError: 'broken on purpose'"):
        fuzz.run(seconds=60, seed=1)
    assert len(list(tmp_path.glob("*.warc.gz"))) == 1
