"""What the lake holds of some pages, and of what was made of them.

A version *holds* a page if a row of its tables names it by address or id, or its archive has a record of it. What
descends from a version that holds one is taken to be made of it, but for tables that account for every page by row
(`COMPLETE`): such a one without the page is clean, and so is what was made of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Container, Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from graphlib import TopologicalSorter
from pathlib import Path

import pyarrow.parquet as pq

from palimpsest.ingest.pages import holds_unnamed
from palimpsest.ingest.records import without_user
from palimpsest.lake import MANIFEST, Lake, LakeError, NotPublished, Published
from palimpsest.takedown import archive, tombstones

URLS = ("url", "held_out_url", "duplicate_of")
IDS = ("document_id", "training_document_id", "page_id")
KEYS = ("key", "generation_id")
TEXTS = (".json", ".jsonl", ".txt", ".csv", ".html")
REWRITTEN = ("pages", "crawls", "captures", "audits")
"""Cannot be made again, or only for much: they stay, without the page."""
COMPLETE = (*REWRITTEN, "documents", "split")
SKIPPED = (tombstones.DATASET, "guard/quarantine", "waivers", "fetched", "streamed")
"""What people decided, and lists of files: no text of a page is in it."""
BATCH = 100
"""Rows with their bytes in memory at once."""
TRAINED = ("tokens", "runs")
"""What descends from these came of training."""


NAMED = {
    "pages": [("pages.parquet", "page_id")],
    "documents": [("documents.parquet", "document_id"), ("document_drops.parquet", "page_id")],
    "split": [("train.parquet", "document_id"), ("validation.parquet", "document_id")],
    "plan": [("requests.parquet", "key")],
}
"""Tables that have the address of a page beside its id."""


@dataclass
class Identity:
    """By what pages, and all that was made of them, are named."""

    urls: set[str]
    ids: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)
    """Of requests: of the ledger's rows, and of generations."""


@dataclass
class Plan:
    """What is to be done. Each dataset version as a row with its ``uri``, ``rows`` that name the page, ``digest``."""

    removed: list[dict] = field(default_factory=list)
    """Children first."""
    rewritten: list[dict] = field(default_factory=list)
    trained: list[dict] = field(default_factory=list)
    """Models, and what was measured of them, that cannot unlearn."""
    keys: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)
    """Other pages that deduplication took for the same text."""
    left: list[str] = field(default_factory=list)
    """Where more of it may lie that is not the lake's to remove, in words."""

    def add(self, other: Plan) -> None:
        """Take in what another plan has beside this one's."""
        for name in (one.name for one in fields(self)):
            mine = getattr(self, name)
            known = {row["uri"] if isinstance(row, dict) else row for row in mine}
            mine += [row for row in getattr(other, name) if (row["uri"] if isinstance(row, dict) else row) not in known]

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be done; what only is listed does not count."""
        return not (self.removed or self.rewritten)

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def kind_of(dataset: str) -> str:
    """What a dataset is of: 'pages' of corpora/sample/pages/2026-10-01, 'captures' of captures/1f."""
    parts = dataset.split("/")
    return parts[2] if parts[0] in ("corpora", "studies", "loops", "labelled") and len(parts) > 2 else parts[0]


def document_id(url: str) -> str:
    """As the documents of a corpus have it (dbt model ``documents``)."""
    return hashlib.sha256(url.encode()).hexdigest()[:16]


def resolve(lake: Lake, name: str) -> str:
    """The address of a page by its address, without a name and password, or by the id of a page, a document or a
    generation.

    Raises `LakeError` for an id that nothing in the lake has.
    """
    if "/" in name:
        return without_user(name)
    for order in tombstones.orders(lake):
        told = tombstones.details(order)
        if name in (*told["ids"], *told["keys"]):
            return order.extra["urls"][0]
    for version in versions(lake):
        for file, column in NAMED.get(kind_of(version.dataset), ()):
            for row in _table(version, file, ["url", column]):
                if row[column] == name:
                    return row["url"]
    raise LakeError(
        f"{name}: no page in lake {lake.root} has this id; give a page_id, document_id or generation_id, or the address"
    )


def copies_of(lake: Lake, urls: Container[str]) -> set[str]:
    """The pages that deduplication took for copies of these, or these for copies of."""
    found: set[str] = set()
    for version in versions(lake):
        if kind_of(version.dataset) == "documents":
            for row in _table(version, "document_drops.parquet", ["url", "duplicate_of"]):
                if row["duplicate_of"] and (row["url"] in urls) != (row["duplicate_of"] in urls):
                    found |= {row["url"], row["duplicate_of"]}
    return {url for url in found if url not in urls}


def identify(lake: Lake, urls: Iterable[str]) -> Identity:
    """All ids of these pages: of every capture, and of every request that was planned about them."""
    who = Identity(set(urls))
    who.ids |= {document_id(url) for url in who.urls}
    for order in tombstones.orders(lake):
        if who.urls & set(order.extra["urls"]):  # of versions that have been removed since
            told = tombstones.details(order)
            who.ids.update(told["ids"])
            who.keys.update(told["keys"])
    for version in versions(lake):
        if kind_of(version.dataset) == "pages":
            rows = _table(version, "pages.parquet", ["url", "page_id"])
            who.ids |= {row["page_id"] for row in rows if row["url"] in who.urls}
        elif kind_of(version.dataset) == "plan":
            rows = _table(version, "requests.parquet", ["url", "key"])
            who.keys |= {row["key"] for row in rows if row["url"] in who.urls}
    return who


def find(lake: Lake, who: Identity) -> Plan:
    """Everything in the lake that is of these pages, whichever version of its dataset it is in."""
    held = {version.uri: version for version in versions(lake)}
    parents = {uri: [p["uri"] for p in version.manifest["parents"]] for uri, version in held.items()}
    plan, gone, learned, trained = Plan(ids=sorted(who.ids), keys=sorted(who.keys)), set(), set(), set()
    for uri in TopologicalSorter(parents).static_order():
        version = held.get(uri)
        if version is None or version.dataset in SKIPPED or kind_of(version.dataset) in SKIPPED:
            continue
        row = {"uri": uri, "digest": version.digest, "bytes": version.manifest["bytes"]}
        if learned & set(parents[uri]) or any(kind_of(p["dataset"]) in TRAINED for p in version.manifest["parents"]):
            learned.add(uri)
            if (gone | trained) & set(parents[uri]):
                trained.add(uri)
                run = version.extra.get("mlflow_run_id")
                plan.trained.append(row | ({"mlflow_run_id": run} if run else {}))
            continue
        row["rows"], obstacle = mentions(version, who)
        kind = kind_of(version.dataset)
        if obstacle:
            plan.left.append(obstacle)
        elif kind in REWRITTEN:
            plan.rewritten += [row] if row["rows"] else []
        elif row["rows"] or (kind not in COMPLETE and gone & set(parents[uri])):
            gone.add(uri)
            plan.removed.insert(0, row)
    plan.copies = sorted(copies_of(lake, who.urls))
    plan.left += _sources(lake, who, held.values())
    return plan


def mentions(version: Published, who: Identity) -> tuple[int, str]:
    """Rows, records and texts that name the page, or may hold it without, and what keeps them from being removed."""
    count, kind = 0, kind_of(version.dataset)
    if kind == "pages":
        count += _rows_unnamed(version)
    for name in _files(version):
        if name.endswith(".parquet") and kind != "captures":  # a source's own table: `_sources` names it
            count += _rows_naming(version, name, who)
        elif name.endswith(TEXTS) and kind != "captures":
            content = _read(version, name)
            count += any(_is_quoted(url, content) for url in who.urls)
        elif kind in ("captures", "crawls"):
            found, can_be_cut = archive.held(version.lake.fetch(version) / name, who.urls)
            if found and not can_be_cut:
                return count, (
                    f"{version.uri}/{name}: compressed as one stream, so its record cannot be cut out; extraction "
                    "leaves it out. Delete the folder if the other pages of it can be missed"
                )
            count += found
    return count, ""


def versions(lake: Lake) -> Iterator[Published]:
    """Every published version of the lake."""
    with lake.weather():
        places = sorted(str(place) for place in lake.fs.glob(f"{lake.base}/**/{MANIFEST}"))
    for place in places:
        uri = place.removeprefix(f"{lake.base}/").removesuffix(f"/{MANIFEST}")
        if not any(part.startswith(".") for part in uri.split("/")):
            with contextlib.suppress(NotPublished):  # removed since it was listed
                yield lake.open(uri)


def is_named(row: dict, who: Identity) -> bool:
    """Whether a row of a table is of one of the pages."""
    named = ((URLS, who.urls), (IDS, who.ids), (KEYS, who.keys))
    return any(row.get(name) in known for names, known in named for name in names)


def _is_quoted(url: str, content: bytes) -> bool:
    """Whether a text has this very address in it, not only a longer one that begins so."""
    return re.search(re.escape(url.encode()) + rb"(?![^\s\"'<>(),;|\\])", content) is not None


def _rows_naming(version: Published, file: str, who: Identity) -> int:
    try:
        with version.lake.fs.open(f"{version.lake.base}/{version.uri}/{file}", "rb") as stream:
            table = pq.ParquetFile(stream)
            columns = [name for name in table.schema_arrow.names if name in (*URLS, *IDS, *KEYS)]
            batches = table.iter_batches(columns=columns) if columns else ()
            return sum(is_named(row, who) for batch in batches for row in batch.to_pylist())
    except FileNotFoundError:  # a removal was interrupted here: its order names the version
        return 0


def _rows_unnamed(version: Published) -> int:
    """Rows of the quarantine whose bytes may be of any page; a few at a time, for each has up to 64 KiB."""
    if "quarantine.parquet" not in _files(version):
        return 0
    with version.lake.fs.open(f"{version.lake.base}/{version.uri}/quarantine.parquet", "rb") as stream:
        batches = pq.ParquetFile(stream).iter_batches(BATCH, columns=["url", "cause", "payload"])
        return sum(holds_unnamed(row) for batch in batches for row in batch.to_pylist())


def _sources(lake: Lake, who: Identity, held: Iterable[Published]) -> list[str]:
    """Where the pages stand in source files outside the lake, and in fetched ones that are no WARC."""
    own, found = set(), set()
    for version in held:
        if kind_of(version.dataset) == "crawls":
            own.add(f"{version.dataset.rsplit('/', 1)[-1]}/pages.warc.gz")
        elif kind_of(version.dataset) == "fetched":
            entries = json.loads(_read(version, "files.json"))
            own |= {one["name"] for one in entries if archive.is_warc(_capture(lake, one["uri"]))}
        elif kind_of(version.dataset) == "pages":
            for name in ("pages.parquet", "quarantine.parquet"):
                for row in _table(version, name, ["url", "warc_file", "warc_offset"]):
                    if row["url"] in who.urls:
                        found.add((row["warc_file"], row["warc_offset"]))
    return [
        f"source file {name}, record or row at {offset}: the file stays as it is; extraction leaves the page out"
        for name, offset in sorted(found)
        if name not in own
    ]


def _capture(lake: Lake, uri: str) -> Path:
    version = lake.open(uri)
    return lake.fetch(version) / _files(version)[0]


def _table(version: Published, file: str, columns: list[str]) -> list[dict]:
    """Its rows; none where it has not got the file."""
    if file not in _files(version):
        return []
    with version.lake.fs.open(f"{version.lake.base}/{version.uri}/{file}", "rb") as stream:
        return pq.read_table(stream, columns=columns).to_pylist()


def _read(version: Published, file: str) -> bytes:
    return version.lake.fs.cat_file(f"{version.lake.base}/{version.uri}/{file}")


def _files(version: Published) -> list[str]:
    return [file["name"] for file in version.manifest["files"]]
