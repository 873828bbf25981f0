"""The page of tier 0 of the collapse experiments."""

from __future__ import annotations

import pytest

from palimpsest.guard.corpus import cpython_documents
from palimpsest.guard.experiment import ARMS, load, publish
from palimpsest.guard.findings import findings
from palimpsest.lake import NotPublished
from training.analysis import collapse


def test_the_page_has_what_was_published_and_nothing_else(lake, tmp_path, monkeypatch):
    with pytest.raises(NotPublished):
        collapse.main(tmp_path)
    some = cpython_documents()[::8]
    monkeypatch.setattr("palimpsest.guard.experiment.cpython_documents", lambda: some)
    pure = [arm for arm in ARMS if arm.decoding == "pure"]
    published = publish(lake, 1, 3, arms=pure)
    page = collapse.main(tmp_path)
    text, rows = page.read_text(encoding="utf-8"), load(published)
    assert published.digest[:12] in text and published.extra["hardware"] in text
    for finding in findings(rows):
        assert f"| {finding.sentence} | {'holds' if finding.holds else '**does not hold**'} |" in text
    last = next(row for row in rows if row.arm == "replace 0.25" and row.generation == 3)
    assert f" {last.perplexity:,.0f} | {last.recall:.3f} |" in text
    drawn = [line.split("](")[1].rstrip(")") for line in text.splitlines() if line.startswith("![")]
    assert drawn == [f"collapse/{name}.png" for name in ("perplexity-pure", "perplexity-continual", "rare-words")]
    assert sorted(file.name for file in (tmp_path / "collapse").iterdir()) == sorted(name[9:] for name in drawn)
