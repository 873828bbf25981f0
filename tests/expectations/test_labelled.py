"""The gates of a labelled study in Data Docs."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq

from expectations.__main__ import main
from expectations.verdicts import data_docs_dir
from palimpsest.guard.verdict import bounded, not_judged
from palimpsest.lake import Facts

FOUND = [
    bounded("L2", "head_loss", 1.3, "cells that were not short lose 1.3 points", at_most=1),
    not_judged("L1", "gain", "by 1 seeds nobody can tell"),
    bounded("L5", "separation", 0, "0 of 9 accepted items nearly equal a test item", at_most=0),
    bounded("L6", "real_seeds", 3, "cell a has 3 real items", at_least=50, severity="warning", subject="a"),
]


def test_each_sentence_of_the_card_is_in_data_docs(lake, capsys):
    def write(directory):
        rows = [{**verdict.as_dict(), "details": json.dumps(verdict.details)} for verdict in FOUND]
        pq.write_table(pa.Table.from_pylist(rows), directory / "verdicts.parquet")
        return Facts(extra={"headline": "It harms.", "failed": [verdict.sentence for verdict in FOUND[:2]]})

    lake.publish("labelled/toy/card", write)
    assert main(["labelled", "toy"]) == 0
    told = capsys.readouterr()
    assert "labelled/toy/card: It harms." in told.out
    assert set(told.err.splitlines()) == {
        "critical: by 1 seeds nobody can tell",
        "critical: cells that were not short lose 1.3 points",
        "warning: cell a has 3 real items",
    }
    pages = "".join(page.read_text() for page in data_docs_dir().rglob("*.html"))
    assert all(verdict.sentence in pages for verdict in FOUND)
