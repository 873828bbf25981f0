from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palimpsest import tokenizer as tok
from palimpsest.lake import LakeError, NotPublished
from tests.training.conftest import make_study, parts_table, publish_mixes, publish_split
from training.pack import tokenize

VALIDATION = [
    {"document_id": "v1", "text": "the far side", "is_short": True, "is_long": False},
    {"document_id": "v0", "text": "the moon pulls the tide", "is_short": False, "is_long": True},
]
LAYOUTS = {
    "real": [[("the tide rises", True)], [("", True)], [("naïve 水 <|endoftext|> mark", True)]],
    "stretched": [
        [("the tide ", False), ("<think>why</think>", False), ("rises", True)],
        [("the moon", True)],
    ],
}


def packed(lake, layouts=LAYOUTS, change=lambda parts: parts):
    study = make_study()
    split, tokenizer = publish_split(lake, VALIDATION)
    mixes = publish_mixes(lake, study, change(parts_table(tokenizer, layouts | {"simple": layouts["real"]})))
    return study, split, mixes


def stream(tokens, name):
    return np.fromfile(tokens.file(f"{name}.bin"), tokens.extra["dtype"])


def test_a_stream_is_its_parts_in_order_with_a_boundary_after_every_row(lake):
    study, split, mixes = packed(lake)
    tokens = tokenize(study, lake, split=split, mixes=mixes)
    tokenizer = tok.load(tokens.file("tokenizer.json"))
    for layout, megadocs in LAYOUTS.items():
        expected, index = [], []
        for position, megadoc in enumerate(megadocs):
            start = len(expected)
            for content, ends in megadoc:
                expected += tokenizer.encode(content, add_special_tokens=False).ids + [0] * ends
            index.append((position, f"{layout}-{position}", start, len(expected) - start))
        assert stream(tokens, layout).tolist() == expected
        rows = pq.read_table(tokens.file(f"{layout}.index.parquet")).to_pylist()
        assert [tuple(row.values()) for row in rows] == index
        assert tokens.extra["streams"][layout] == len(expected)


def test_row_order_of_the_parts_file_does_not_matter(lake):
    study, split, mixes = packed(lake)
    first = tokenize(study, lake, split=split, mixes=mixes)
    *_, shuffled = packed(lake, change=lambda parts: parts.take(pa.array(np.arange(len(parts))[::-1])))
    second = tokenize(study, lake, split=split, mixes=shuffled)
    assert first.uri != second.uri
    assert first.digest == second.digest


def test_a_boundary_mark_inside_a_text_stays_text(lake):
    study, split, mixes = packed(lake)
    found = stream(tokenize(study, lake, split=split, mixes=mixes), "real")
    assert (found == 0).sum() == len(LAYOUTS["real"])


def test_validation_documents_keep_their_flags_and_closing_boundary(lake):
    study, split, mixes = packed(lake)
    tokens = tokenize(study, lake, split=split, mixes=mixes)
    tokenizer, found = tok.load(tokens.file("tokenizer.json")), stream(tokens, "validation")
    texts = {row["document_id"]: row for row in VALIDATION}
    rows = pq.read_table(tokens.file("validation.index.parquet")).to_pylist()
    assert [row["document_id"] for row in rows] == ["v0", "v1"]
    for row in rows:
        ids = found[row["start"] : row["start"] + row["tokens"]]
        assert ids[-1] == 0
        assert tokenizer.decode(ids[:-1].tolist()) == texts[row["document_id"]]["text"]
        assert row["is_long"] == texts[row["document_id"]]["is_long"]


def test_a_wrong_token_count_names_layout_megadoc_and_part_and_publishes_nothing(lake):
    def change(parts):
        rows = parts.to_pylist()
        wrong = next(row for row in rows if row["layout"] == "stretched" and row["part"] == 1)
        wrong["tokens"] += 1
        return pa.Table.from_pylist(rows, parts.schema)

    study, split, mixes = packed(lake, change=change)
    with pytest.raises(LakeError, match="layout stretched, megadoc stretched-0, part 1"):
        tokenize(study, lake, split=split, mixes=mixes)
    with pytest.raises(NotPublished):
        lake.latest("studies/small/tokens")
