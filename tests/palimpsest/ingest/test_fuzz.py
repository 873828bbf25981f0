"""A short run of the fuzz that `make fuzz` runs for 20 minutes; it counts inputs here, not seconds."""

from __future__ import annotations

import pytest

from tests.benchmarks import fuzz as bench
from tests.palimpsest.ingest import fuzz


def test_a_short_fuzz_finds_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "FINDINGS", tmp_path)
    changed, change = [], fuzz._changed
    monkeypatch.setattr(fuzz, "_changed", lambda *known: changed.append(change(*known)) or changed[-1])
    examined, examine = [], fuzz.pages.examine
    monkeypatch.setattr(fuzz.pages, "examine", lambda *page, **how: examined.append(examine(*page, **how)))
    tried, lines = fuzz.run(seconds=600, seed=1, most=100)
    assert len(set(changed)) == 100 < tried
    assert lines > 100
    columns = {name for page in examined for name in page}
    assert columns > {"pii_iban", "pii_secret", "paragraph_languages", "datatrove_words"}


def test_the_fuzz_keeps_what_it_finds(tmp_path, monkeypatch):
    def broken(*_):
        raise KeyError("broken on purpose")

    monkeypatch.setattr(fuzz, "FINDINGS", tmp_path)
    monkeypatch.setattr(fuzz, "examine_all", broken)
    with pytest.raises(AssertionError, match="KeyError: 'broken on purpose'"):
        fuzz.run(seconds=60, seed=1)
    assert len(list(tmp_path.glob("*.warc.gz"))) == 1
    [row] = bench.run(seconds=60)
    assert (row["ours"], row["unit"]) == (1, "findings")
