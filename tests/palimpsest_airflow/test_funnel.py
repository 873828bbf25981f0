"""The funnel of a corpus: as sentences for the log of a run, and as the page of its Dag."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palimpsest.funnel import FILE, funnels, together
from palimpsest.lake import Facts
from palimpsest_airflow.ui.funnel import funnel_page

FIRST, SECOND = dt.date(2026, 10, 1), dt.date(2026, 10, 2)
ROWS = [
    (FIRST, "document", "", "", 3, 1_200, 1_600),
    (FIRST, "dropped", "near_duplicate", "duplicates.near", 1, 400, 500),
    (FIRST, "dropped", "symbol_noise", "gopher_quality.symbol_ratio", 1, 100, 130),
    (FIRST, "dropped", "symbol_noise", "gopher_quality.alphabetic_words", 1, 100, 130),
    (FIRST, "quarantined", "timeout", "", 2, None, None),
    (SECOND, "document", "", "", 2, 1_000, 1_300),
    (SECOND, "quarantined", "timeout", "", 1, None, None),
    (SECOND, "quarantined", "<damaged>", "", 4, None, None),
]


@pytest.fixture
def documents(lake):
    def write(directory):
        names = ("day", "outcome", "reason", "rule", "pages", "words", "tokens")
        rows = [dict(zip(names, row, strict=True)) for row in ROWS]
        pq.write_table(pa.Table.from_pylist(rows), directory / FILE)
        return Facts()

    return lake.publish("corpora/sample/documents", write)


def test_a_funnel_is_a_sentence_for_each_day_and_for_all(documents):
    days = funnels(documents)
    assert {day: str(funnel) for day, funnel in days.items()} == {
        FIRST: "8 records: 2 quarantined (timeout 2), 3 dropped (symbol_noise 2, near_duplicate 1), "
        "3 documents of 1,200 words (about 1,600 tokens)",
        SECOND: "7 records: 5 quarantined (<damaged> 4, timeout 1), 0 dropped, "
        "2 documents of 1,000 words (about 1,300 tokens)",
    }
    assert str(together(days)).startswith("15 records: 7 quarantined (<damaged> 4, timeout 3), 3 dropped")
    assert str(together(days)).endswith("5 documents of 2,200 words (about 2,900 tokens)")


def test_the_page_has_every_day_and_every_reason(documents):
    page = funnel_page(documents.lake, "sample")
    for row in (
        ("2026-10-01", 8, 2, 3, 3, "1,200", "1,600", "66.7%"),
        ("2026-10-02", 7, 5, 0, 2, "1,000", "1,300", "100.0%"),
        ("all", 15, 7, 3, 5, "2,200", "2,900", "78.6%"),
    ):
        cells = "".join(f"<td class=number>{cell}</td>" for cell in row[1:])
        assert f"<td>{row[0]}</td>{cells}" in page
    assert page.index("<td>all<") < page.index("<td>2026-10-02<") < page.index("<td>2026-10-01<")
    assert "<td>symbol_noise</td><td class=number>2</td><td class=number>13.3%</td>" in page
    assert "&lt;damaged&gt;" in page and "<damaged>" not in page
    assert "2026-10-02 (4)" in page


def test_documents_without_a_funnel_have_none(lake):
    assert "has not made" in funnel_page(lake, "sample")
    old = lake.publish("corpora/sample/documents", lambda directory: Facts())
    assert funnels(old) == {}
    assert "has not made" in funnel_page(lake, "sample")
