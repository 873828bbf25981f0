"""The real text of a continual loop's rounds."""

from __future__ import annotations

import datetime as dt

import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from palimpsest.config.continual import Slice
from palimpsest.lake import LakeError
from palimpsest.slices import of_round, parts
from palimpsest.split import split
from tests.palimpsest.conftest import document, publish_corpus

DAYS = [(f"d{number:03}", dt.date(2026, 1, 1) + dt.timedelta(days=number % 10)) for number in range(100)]


def test_parts_are_disjoint_of_equal_counts_and_the_same_for_every_round():
    found = parts(DAYS, Slice(number=0, of=4))
    assert [len(part) for part in found] == [25] * 4
    assert {one for part in found for one in part} == {one for one, _ in DAYS}
    assert found == parts(DAYS[::-1], Slice(number=3, of=4, replay=0.5))
    half = parts(DAYS, Slice(number=0, of=4, share=0.5))
    assert [len(part) for part in half] == [12, 13, 12, 13]


def test_by_interval_the_oldest_come_first():
    days = dict(DAYS)
    found = [[days[one] for one in part] for part in parts(DAYS, Slice(number=0, of=4, by="interval"))]
    assert all(max(before) <= min(after) for before, after in zip(found, found[1:], strict=False))
    alike = [[days[one] for one in part] for part in parts(DAYS, Slice(number=0, of=4))]
    assert max(alike[0]) > min(alike[3])


@pytest.mark.parametrize(
    ("number", "replay", "again"), [(0, 0.5, 0), (1, 0.0, 0), (1, 0.5, 25), (1, 0.75, 25), (3, 0.2, 7)]
)
def test_a_round_sees_its_part_and_the_share_of_earlier_ones(number, replay, again):
    wanted = Slice(number=number, of=4, replay=replay)
    found = parts(DAYS, wanted)
    own = of_round(found, wanted)
    assert set(found[number]) <= own and len(own) == 25 + again
    assert not own & {one for part in found[number + 1 :] for one in part}


def test_a_study_of_a_round_has_its_part_alone_and_the_first_rounds_tokenizer(lake, make_study):
    publish_corpus(lake, 24)
    documents = lake.latest("corpora/sample/documents")
    rounds = [
        split(make_study(slice={"number": number, "of": 2, "replay": 0.25}), lake, documents=[documents])
        for number in (0, 1)
    ]
    ids = [set(pq.read_table(found.file("train.parquet"))["document_id"].to_pylist()) for found in rounds]
    whole = split(make_study(), lake, documents=[documents])
    everything = set(pq.read_table(whole.file("train.parquet"))["document_id"].to_pylist())
    assert [len(own) for own in ids] == [10, 14] and len(ids[0] & ids[1]) == 4 and ids[0] | ids[1] == everything
    assert rounds[0].manifest["rows"]["dropped"] == {"held_out": 4, "of_another_round": 10}
    assert rounds[1].manifest["rows"]["kept"] == 14
    tokenizers = [found.file("tokenizer.json").read_text() for found in rounds]
    assert tokenizers[0] == tokenizers[1] != whole.file("tokenizer.json").read_text()
    held = [pq.read_table(found.file("validation.parquet"))["url"].to_pylist() for found in (*rounds, whole)]
    assert held[0] == held[1] == held[2]


def test_what_lies_beyond_the_share_is_in_no_round(lake, make_study):
    publish_corpus(lake, 24)
    documents = lake.latest("corpora/sample/documents")
    found = split(make_study(slice={"number": 1, "of": 2, "share": 0.5}), lake, documents=[documents])
    assert found.manifest["rows"]["dropped"] == {"held_out": 4, "of_another_round": 5, "of_no_round": 10}
    used = {document(number)["document_id"] for number in range(24)}
    assert set(pq.read_table(found.file("split_drops.parquet"))["document_id"].to_pylist()) <= used
    with pytest.raises(LakeError, match="20 training documents are too few for 30 rounds of a continual loop"):
        split(make_study(slice={"number": 0, "of": 30}), lake, documents=[documents])


def test_parts_are_numbered_from_0():
    with pytest.raises(ValidationError, match="number 4 of 4 parts: they are numbered from 0 to 3"):
        Slice(number=4, of=4)
