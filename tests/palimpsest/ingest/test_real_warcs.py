"""Every response of other people's WARC files ends as a page or in quarantine."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter

import pytest

from palimpsest.config import Corpus, Source
from palimpsest.ingest.sources import SourceFile
from palimpsest.ingest.stage import extract_days
from palimpsest.ingest.warc import read_records


@pytest.fixture
def folder(shared):
    if not (shared / "data" / "warc").is_dir():
        pytest.skip("no WARC files in the shared data")
    return shared / "data" / "warc"


@pytest.mark.parametrize(
    ("name", "responses", "pages"),
    [
        ("dolma_sample-0000.warc.gz", 22, 22),
        ("dolma_sample-0001.warc.gz", 15, 15),
        ("commoncrawl_whirlwind.warc.gz", 1, 1),
        ("commoncrawl_whirlwind.warc.wet.gz", 1, 1),
        ("commoncrawl_whirlwind.warc.wat.gz", 0, 0),
        ("warcio_example.warc", 1, 1),
        ("warcio_example.warc.gz", 1, 1),
        ("warcio_example-resource.warc.gz", 0, 0),
        ("warcio_example-iana.org-chunked.warc", 1, 1),
        ("warcio_example.arc.gz", 1, 1),
        ("aut_archive-org-2008.warc.gz", 299, None),
    ],
)
def test_all_responses_are_accounted_for(folder, lake, name, responses, pages):
    path = folder / name
    found = list(read_records(SourceFile(name, path), 10_000_000))
    days = sorted({record.date.date() for record in found})
    corpus = Corpus(
        name="other",
        description="Other people's files.",
        source=Source(files=[str(path)]),
        start=dt.date(2000, 1, 1),
        end=dt.date(2030, 1, 1),
    )
    published = extract_days(corpus, days, lake)
    balance = [p.manifest["rows"] for p in published]
    assert sum(b["input"] for b in balance) == responses
    kept = sum(b["kept"] for b in balance)
    quarantined = sum(sum(b["quarantined"].values()) for b in balance)
    assert kept + quarantined == responses
    assert pages is None or kept == pages
    assert pages is not None or kept > 80


def test_the_reader_finds_what_the_reference_readers_find(folder):
    expected = json.loads((folder / "expected.json").read_text())["files"]
    checked = 0
    for name, facts in expected.items():
        reference = facts.get("fastwarc")
        if reference is None or reference["error"]:
            continue
        found = Counter(r.kind for r in read_records(SourceFile(name, folder / name), 10_000_000))
        assert dict(found) == reference["records"], name
        checked += 1
    assert checked >= 9
