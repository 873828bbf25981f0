from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palimpsest import tokenizer as tok
from palimpsest.lake import REPOSITORY, Lake, LakeError, NotPublished
from tests.training.conftest import make_study, parts_table, publish_mixes, publish_split
from training import pack
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


def test_the_parts_say_where_each_text_is_and_whose(lake):
    study, split, mixes = packed(lake)
    tokens = tokenize(study, lake, split=split, mixes=mixes)
    rows = pq.read_table(tokens.file("stretched.parts.parquet")).to_pylist()
    assert [(row["position"], row["part"], row["document_id"], row["ends_row"]) for row in rows] == [
        (0, 0, "d0", False), (0, 1, "d0", False), (0, 2, "d0", True), (1, 0, "d1", True),
    ]  # fmt: skip
    assert [row["start"] for row in rows] == [0, *np.cumsum([row["tokens"] for row in rows])[:-1].tolist()]


def test_streams_are_the_same_in_pieces_of_any_size(lake, tmp_path, monkeypatch):
    study, split, mixes = packed(lake)
    whole = tokenize(study, lake, split=split, mixes=mixes)
    monkeypatch.setattr(pack, "CHUNK_TOKENS", 3)
    monkeypatch.setattr(pack, "READ_PARTS", 2)
    monkeypatch.setattr(pack, "ENCODE_CHARACTERS", 9)
    pieces = tokenize(study, Lake(tmp_path / "other"), split=split, mixes=mixes)
    assert pieces.digest == whole.digest


MEASURE = """
import resource, sys
from palimpsest.lake import Lake
from tests.training.conftest import make_study
from training.pack import tokenize
lake = Lake(sys.argv[1])
split, mixes = lake.latest("studies/small/split"), lake.latest("studies/small/mixes")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
tokens = tokenize(make_study(), lake, split=split, mixes=mixes)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, tokens.extra["streams"]["real"])
"""


def test_memory_grows_with_the_number_of_texts_not_with_their_length(lake, tmp_path):
    """8 times the text in as many parts takes nowhere near 8 times the memory."""
    grown = []
    for words in (1_000, 8_000):
        own = Lake(tmp_path / str(words))
        study = make_study()
        split, tokenizer = publish_split(own, VALIDATION)
        megadocs = [[(f"{number} " + "tide " * words, True)] for number in range(200)]
        publish_mixes(own, study, parts_table(tokenizer, {"real": megadocs, "simple": megadocs[:1]}))
        command = [sys.executable, "-c", MEASURE, own.root]
        paths = {"PYTHONPATH": f"{REPOSITORY / 'plugins'}:{REPOSITORY}", "TOKENIZERS_PARALLELISM": "false"}
        output = subprocess.run(command, env={**os.environ, **paths}, capture_output=True, text=True, check=True).stdout
        grown.append([int(value) for value in output.split()])
    (small, tokens), (large, more) = grown
    assert more > 7 * tokens
    assert large < 3 * small + 20_000, f"KiB above the start: {small}, {large} for {tokens}, {more} tokens"


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
