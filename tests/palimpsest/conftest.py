"""A small real study: documents with awkward text, recordings for some of them, every layout."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import subprocess
import sys
import time
import urllib.request
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from palimpsest.config import Study, load_study
from palimpsest.lake import Facts, Lake, Published

SENTENCES = [
    "The tide rises twice a day.",
    "Bread wants time, not force.",
    "Ein Zug fährt über die Brücke — spät, aber er fährt.",
    "A literal <|endoftext|> mark and a </think> in the text.",
    "日本語の文もあります。",
    "👩‍👩‍👧 families of code points stay whole.",
    "Line one\nline two\n\nline four",
]


def document(number: int) -> dict[str, object]:
    url = f"https://site{number % 3}.example/page/{number}"
    text = "\n".join(f"{SENTENCES[(number + i) % 7]} Note {number}.{i}." for i in range(4 + number % 5))
    return {
        "document_id": hashlib.sha256(url.encode()).hexdigest()[:16],
        "url": url,
        "site": f"site{number % 3}.example",
        "title": f"Page {number}",
        "text": text,
        "words": len(text.split()),
        "text_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "corpus": "sample",
        "origin": "real",
        "depth": 0,
    }


def publish_documents(lake: Lake, origin: str | None = "real") -> Published:
    def write(directory: Path) -> Facts:
        rows = [document(n) | {"origin": origin} for n in range(24)]
        pq.write_table(pa.Table.from_pylist(rows), directory / "documents.parquet")
        return Facts()

    return lake.publish("corpora/sample/documents", write, config={"origin": origin})


def publish_corpus(lake: Lake, count: int) -> None:
    """So many documents with all columns that ingestion gives them, admitted by their gate."""

    def write(directory: Path) -> Facts:
        moment = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)
        crawled = {"fetched_at": moment, "day": moment.date(), "language": "en", "language_score": 1.0}
        rows = [{**document(n), "page_id": document(n)["document_id"], **crawled} for n in range(count)]
        pq.write_table(pa.Table.from_pylist(rows), directory / "documents.parquet")
        return Facts()

    documents = lake.publish("corpora/sample/documents", write)
    lake.publish("corpora/sample/gate", lambda directory: Facts(), parents=[documents])


def write_study(folder: Path, **changes: object) -> Study:
    """The study as a file in ``folder``, loaded; keyword arguments replace its top-level keys."""
    recordings = folder / "recordings.jsonl"
    lines = []
    for n in range(24):
        if n % 8 != 7:  # every eighth page has no recordings at all
            lines += [
                {"url": document(n)["url"], "strategy": kind, "g": g, "text": f"{kind} {g} of page {n}: told anew."}
                for kind, count in (("rephrase", 3), ("rationale", 2))
                for g in range(count)
            ]
    recordings.write_text("".join(json.dumps(line) + "\n" for line in lines))
    urls = folder / "validation.txt"
    urls.write_text("# held out\n" + "".join(f"{document(n)['url']}\n" for n in (0, 5, 6, 11)))
    engine = {"kind": "recorded", "file": str(recordings)}
    content = {
        "name": "small",
        "description": "A small study for tests.",
        "corpora": ["sample"],
        "validation": {"rule": "urls", "urls_file": str(urls), "short_max_words": 50, "long_min_words": 60},
        "tokenizer": {"vocab_size": 512},
        "shards": 3,
        "strategies": {
            "rephrase": {"kind": "rephrase", "generations": 3, "engine": engine},
            "rationale": {"kind": "rationale", "generations": 2, "engine": engine},
            "augment": {"kind": "augment", "generations": 4, "engine": {"kind": "augment"}},
        },
        "layouts": {
            "real": {"kind": "real"},
            "simple": {"kind": "simple", "strategy": "rephrase"},
            "stitched": {"kind": "stitched", "strategy": "rephrase"},
            "front": {"kind": "stitched", "strategy": "rephrase", "real": "first", "generations": 2},
            "bare": {"kind": "stitched", "strategy": "rephrase", "real": "none"},
            "stretched": {"kind": "stretched", "strategy": "rationale"},
            "augmented": {"kind": "simple", "strategy": "augment"},
        },
        "mixes": {
            "real": {"layout": "real", "epochs": 4},
            "simple": {"layout": "simple", "f": 0.75, "epochs": 2},
            "stitched": {"layout": "stitched", "f": 0.5, "epochs": 2, "max_tokens": 900},
        },
        "reference": "real",
        "training": {
            "model": {"layers": 1, "width": 16, "mlp": 32, "heads": 2},
            "context": 32,
            "batch": 4,
            "block": 8,
            "seeds": [0, 1],
            "reference_shares": [0.5],
        },
    }

    file = folder / f"{changes.get('name', 'small')}.yaml"
    file.write_text(yaml.safe_dump({**content, **changes}))
    return load_study(file)


@pytest.fixture
def documents(lake: Lake) -> Published:
    return publish_documents(lake)


@pytest.fixture
def make_study(tmp_path: Path):
    return partial(write_study, tmp_path)


@pytest.fixture
def study(make_study) -> Study:
    return make_study()


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    """The address of an S3 server in a process of its own."""
    from tests.palimpsest.generate.faulty import free_port

    port = free_port()
    log = (tmp_path_factory.mktemp("s3") / "log").open("w")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 120
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            break
        assert server.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    yield url
    server.kill()
    server.wait()
    log.close()
