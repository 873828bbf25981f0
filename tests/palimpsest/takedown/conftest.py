"""A lake in which one page has gone all the way: from a crawl file over a study to a trained model."""

from __future__ import annotations

import datetime as dt
import gzip
import html
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palimpsest import tokenizer as tok
from palimpsest.catalog import Catalog
from palimpsest.config import Corpus, Source
from palimpsest.generate.plan import plan
from palimpsest.generate.publish import publish_generations
from palimpsest.generate.run import generate_shard
from palimpsest.guard import audit
from palimpsest.ingest.stage import extract_days
from palimpsest.lake import Facts, Lake, Published
from palimpsest.mixes import build_mixes
from palimpsest.split import split
from palimpsest.takedown import order
from palimpsest.takedown.order import Done
from tests.conftest import made_once
from tests.palimpsest.conftest import document, write_study
from tests.palimpsest.ingest.conftest import response
from training.pack import tokenize

VICTIM, COPY = 3, 23
URL, COPY_URL = document(VICTIM)["url"], document(COPY)["url"]
DAYS = [dt.date(2026, 10, 1), dt.date(2026, 10, 2)]
WHY = "its author asked for it"
TRACES = re.compile(rf"Note {VICTIM}\.|of page {VICTIM}:|{re.escape(URL)}(?!\d)")
"""What only the page's text, what was written over it, and its address have in them."""


@dataclass
class World:
    folder: Path
    lake: Lake
    corpus: Corpus

    @property
    def catalog(self) -> Catalog:
        return Catalog.from_env()

    def warc(self, *records: bytes, name: str = "crawl.warc.gz") -> Path:
        file = self.folder / name
        file.write_bytes(b"".join(gzip.compress(record, mtime=0) for record in records))
        return file


@dataclass
class Taken:
    world: World
    before: Lake
    done: Done


def traces(lake: Lake) -> dict[str, int]:
    """Files of the lake, but the list of takedowns, that hold something of the page."""
    found = {name: len(TRACES.findall(text)) for name, text in texts_of(lake) if not name.startswith("takedowns/")}
    return {name: count for name, count in found.items() if count}


def datasets(lake: Lake) -> list[str]:
    return [published.dataset for published in lake.all_latest() if published.dataset != "takedowns"]


def texts_of(lake: Lake) -> Iterator[tuple[str, str]]:
    """Everything that can be read in a lake: rows, archives, token files as their words."""
    base = Path(lake.base)
    for file in sorted(one for one in base.rglob("*") if one.is_file()):
        name = str(file.relative_to(base))
        if file.suffix == ".parquet":
            yield name, "\n".join(str(row) for row in pq.read_table(file).to_pylist())
        elif file.suffix == ".gz":
            yield name, gzip.decompress(file.read_bytes()).decode(errors="replace")
        elif file.suffix == ".bin":
            import numpy as np

            ids = np.fromfile(file, json.loads((file.parent / "manifest.json").read_text())["extra"]["dtype"])
            yield name, tok.load(file.parent / "tokenizer.json").decode(ids.tolist())
        else:
            yield name, file.read_text(errors="replace")


def page(number: int, day: int = 0, note: str = "") -> bytes:
    paragraphs = "".join(f"<p>{html.escape(line)}</p>" for line in f"{document(number)['text']}{note}".split("\n"))
    body = f"<html><head><title>A page</title></head><body><main>{paragraphs}</main></body></html>"
    return response(document(number)["url"], body.encode(), date=f"{DAYS[day]}T08:00:{number:02}Z")


@pytest.fixture(scope="session")
def made(tmp_path_factory, parsed_dbt) -> Path:
    return made_once(tmp_path_factory, "takedown", lambda folder: _make(folder, parsed_dbt))


@pytest.fixture
def world(made, tmp_path, state, monkeypatch) -> World:
    """A copy of its own, before anything is taken down."""
    return _copy(made, tmp_path / "world", monkeypatch)


@pytest.fixture(scope="module")
def taken(made, tmp_path_factory) -> Iterator[Taken]:
    """The world after its page was taken down, to be looked at only."""
    folder = tmp_path_factory.mktemp("taken")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PALIMPSEST_STATE", str(folder / "state"))
        patch.delenv("PALIMPSEST_CATALOG", raising=False)
        world = _copy(made, folder / "world", patch)
        before = Lake(shutil.copytree(world.lake.base, folder / "before"))
        catalog = world.catalog
        catalog.migrate()
        catalog.sync(world.lake)
        asked = {"study": "small", "strategy": "rephrase", "shard": 0, "g": 0, "part": 0, "cause": "x", "detail": ""}
        catalog.record_failures([asked | {"key": "of it", "url": URL}, asked | {"key": "of another", "url": COPY_URL}])
        assert catalog.quarantined(URL)
        yield Taken(world, before, take_down(world))


def take_down(world: World, name: str = URL, **options) -> Done:
    return order.take_down(world.lake, world.catalog, name, **{"reason": WHY, **options})


def _copy(made: Path, folder: Path, patch: pytest.MonkeyPatch) -> World:
    shutil.copytree(made, folder)
    for name, place in (("LAKE", folder / "lake"), ("STUDIES", folder), ("DATA", folder)):
        patch.setenv(f"PALIMPSEST_{name}", str(place))
    return World(folder, Lake(folder / "lake"), _corpus(folder))


def _corpus(folder: Path) -> Corpus:
    return Corpus(
        name="sample",
        description="Made for a test.",
        source=Source(files=["$PALIMPSEST_DATA/*.warc.gz"]),  # by a name that is the same wherever the folder lies
        start=DAYS[0],
        end=DAYS[1],
        path=folder / "sample.yaml",
    )


def _make(folder: Path, parsed_dbt: Path) -> None:
    world = World(folder, Lake(folder / "lake"), _corpus(folder))
    missing = response(URL, b"", date="2026-10-02T09:00:00Z", status="404 Not Found")
    world.warc(*(page(n, n % 2) for n in range(24)), page(VICTIM, 0), missing)
    with pytest.MonkeyPatch.context() as patch:
        (folder / "state").mkdir()
        (folder / "state" / "dbt").symlink_to(parsed_dbt)
        patch.setenv("PALIMPSEST_STATE", str(folder / "state"))
        patch.setenv("PALIMPSEST_DATA", str(folder))
        patch.setenv("PALIMPSEST_CATALOG", f"sqlite:///{folder / 'state' / 'catalog.db'}")
        _study(world, extract_days(_corpus(folder), DAYS, world.lake))
    shutil.rmtree(folder / "state")


def _study(world: World, days: list[Published]) -> None:
    lake, study = world.lake, write_study(world.folder)
    documents = lake.publish("corpora/sample/documents", _documents, parents=days)
    lake.publish("corpora/sample/gate", lambda directory: Facts(), parents=[documents])
    parts = split(study, lake, documents=[documents])
    planned = plan(study, lake, split=parts)
    for shard in range(study.shards):
        generate_shard(study, lake, split=parts, plan=planned, shard=shard)
    generations = publish_generations(study, lake, split=parts, plan=planned)
    mixes = build_mixes(study, lake, split=parts, plan=planned, generations=generations)
    tokens = tokenize(study, lake, split=parts, mixes=mixes)
    told = [row | {"good": True} for row in audit.sample(generations, parts)]
    audit.publish("small", lake, told, by="Ada Lovelace")
    run = lake.publish("studies/small/runs/real-s0", _run, parents=[tokens])
    lake.publish("studies/small/report", lambda directory: Facts(), parents=[mixes, run])


def _documents(directory: Path) -> Facts:
    rows = [document(n) | {"page_id": f"page-{n}"} for n in range(24) if n != COPY]
    pq.write_table(pa.Table.from_pylist(rows), directory / "documents.parquet")
    drop = {"page_id": f"page-{COPY}", "url": COPY_URL, "reason": "near_duplicate", "duplicate_of": URL}
    pq.write_table(pa.Table.from_pylist([drop]), directory / "document_drops.parquet")
    return Facts()


def _run(directory: Path) -> Facts:
    told = {"run": "real-s0", "recipe": "real", "seed": 0, "losses": {}}
    (directory / "evaluation.json").write_text(json.dumps(told))
    return Facts(extra={"mlflow_run_id": "0123abcd"})
