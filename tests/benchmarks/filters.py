"""Gopher's, C4's and FineWeb's rules in SQL beside datatrove's filters: every decision, every figure, and speed.

Texts are those of $PALIMPSEST_DATA: the pages under html/ and warc/, as extracted, the short texts and 200 of the long
ones under text/ (``PYTHONPATH=plugins:. .venv/bin/python tests/benchmarks/filters.py all``: all 24,242). datatrove
decides rule by rule in an environment of its own (filters/rules.py). Ours are the rows of int_pages_measured, built by
dbt from pages with the columns ``datatrove_*``. Processor seconds are counted, except for the SQL step alone: seconds
on the clock of the two models that decide, the least of three builds. With ``record`` in place of ``all`` the tests'
texts get datatrove's decisions and figures anew.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from palimpsest import comparisons, decontamination, warehouse
from palimpsest.config import DocumentRules
from palimpsest.config.files import data_dir
from palimpsest.documents import SELECT
from palimpsest.ingest import datatrove, pages, tokens
from tests.benchmarks.dedup import BASE, PEER
from tests.benchmarks.serving.clients import datatrove_python
from tests.benchmarks.serving.texts import texts_of, web_pages

LONG_TEXTS = 200
PROBED = 4
"""Of every so many texts the figures are compared to the last bit, of all the decisions."""
ROUNDS = 3
STEP = ("int_pages_measured", "int_pages_judged")
SHOWN = 10
RULES = DocumentRules(definitions="datatrove", disabled=["language.expected", "duplicates.exact", "duplicates.near"])
SCHEMA = pages.pages_schema("resiliparse", definitions="datatrove")
RECORDED = Path(__file__).parents[1] / "palimpsest" / "ingest" / "datatrove.jsonl"
JOINED = {"gopher_quality.hashes": "hashes, ellipses", "gopher_quality.ellipses": "hashes, ellipses"}
"""datatrove has one threshold for the two."""


def run() -> list[dict]:
    long = sorted((data_dir() / "text").glob("web_train-*.parquet"))[:1]
    if not long:
        print(f"filters: no texts in {data_dir()}; set PALIMPSEST_DATA to the data folder")
        return []
    return compare(web_pages() + texts_of([data_dir() / "text" / "web_short.parquet"]) + texts_of(long)[:LONG_TEXTS])


def compare(texts: Sequence[str]) -> list[dict]:
    """Prints the table of rules and what differs; speeds and agreement as rows."""
    tokens.load()
    began = time.process_time()
    figures = [datatrove.measure(text) for text in texts]
    measuring = time.process_time() - began
    with tempfile.TemporaryDirectory(prefix="palimpsest-bench-") as scratch:
        os.environ["PALIMPSEST_STATE"] = scratch
        file = written(Path(scratch) / "pages.parquet", texts, figures)
        step, building = _timed(file, Path(scratch))
        ours = decided(file, Path(scratch))
        theirs = _datatrove(texts, figures, Path(scratch))
    name, count = f"filters: {len(texts):,} texts", len(texts)
    speeds = {
        "SQL step": step,
        "measuring and SQL step": measuring + step,
        "measuring and whole build": measuring + building,
    }
    seconds = theirs["seconds"] if theirs else None
    rows = [
        {"name": f"{name}, {what}", "ours": count / spent, "peer": seconds and count / seconds, "unit": "texts/s"}
        for what, spent in speeds.items()
    ]
    if theirs:
        equal = _report(texts, ours, theirs)
        rows.append({"name": f"{name}, decided alike by every rule", "ours": equal, "unit": "rate"})
    return rows


def written(file: Path, texts: Sequence[str], figures: Sequence[dict]) -> Path:
    """As pages of a site each, so that no rule of a site touches them."""
    zero = {field.name: pa.array([0], field.type)[0].as_py() for field in SCHEMA
            if pa.types.is_integer(field.type) or pa.types.is_floating(field.type)}  # fmt: skip
    rows = [
        {**zero, "page_id": f"{place:016x}", "url": f"https://s{place}.example/", "site": f"s{place}.example",
         "text": text, "fetched_at": place, "day": 0, "minhash_bands": [], **found}
        for place, (text, found) in enumerate(zip(texts, figures, strict=True))
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), file)
    return file


def _build(file: Path, scratch: Path, project: Path = warehouse.PROJECT) -> list[warehouse.NodeResult]:
    pq.write_table(pages.QUARANTINE.empty_table(), scratch / "quarantine.parquet")
    inputs = {"pages": file, "quarantine": scratch / "quarantine.parquet"}
    inputs["overlaps"] = decontamination.none_found(scratch)
    inputs["comparisons"] = comparisons.none_known(scratch)
    variables = {"rules": RULES.model_dump(), "corpus": "bench", "origin": "real"}
    return warehouse.build(SELECT, inputs=inputs, variables=variables, out=scratch, threads=1, project=project)


def _timed(file: Path, scratch: Path) -> tuple[float, float]:
    """Seconds of the models that decide, and processor seconds of the whole build, dbt's start-up with it."""
    found = []
    for _ in range(ROUNDS):
        began = time.process_time()
        results = _build(file, scratch)
        found.append((sum(r.seconds for r in results if r.name in STEP), time.process_time() - began))
    return min(step for step, _ in found), min(building for _, building in found)


def decided(file: Path, scratch: Path) -> list[set[str]]:
    """The rules that drop each text: int_pages_measured, written out by a copy of the project."""
    copy = scratch / "dbt_project"
    shutil.copytree(warehouse.PROJECT, copy, ignore=shutil.ignore_patterns("target", "logs"))
    model = copy / "models" / "corpus" / "intermediate" / f"{STEP[0]}.sql"
    model.write_text("{{ config(materialized='external') }}\n" + model.read_text(encoding="utf-8"), encoding="utf-8")
    _build(file, scratch, copy)
    failed = duckdb.sql(f"select page_id, rule from '{scratch}/{STEP[0]}.parquet' where failed").fetchall()
    ours: list[set[str]] = [set() for _ in range(pq.read_metadata(file).num_rows)]
    for page, rule in failed:
        reference, name = rule.split(".")
        ours[int(page, 16)].add(f"{reference}.{JOINED.get(rule, name)}")
    return ours


def _datatrove(texts: Sequence[str], figures: Sequence[dict], scratch: Path, every: int = PROBED) -> dict | None:
    python = datatrove_python(BASE, "datatrove-dedup", PEER)
    if not python:
        return None
    file = scratch / "texts.jsonl"
    with file.open("w", encoding="utf-8") as lines:
        for text, found in zip(texts, figures, strict=True):
            plain = {name.removeprefix(datatrove.PREFIX): value for name, value in found.items()}
            lines.write(json.dumps({"text": text, "figures": plain}) + "\n")
    script = Path(__file__).parent / "filters" / "rules.py"
    command = [str(python), str(script), str(file), str(every)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def _report(texts: Sequence[str], ours: Sequence[set[str]], theirs: dict) -> float:
    """Share of the texts on which all rules agree."""
    table = Table(
        "rule", "datatrove drops", "ours drop", "other decision", "other figure", title=f"{len(texts):,} texts"
    )
    dropped = [set(found) for found in theirs["dropped"]]
    differ = [mine ^ yours for mine, yours in zip(ours, dropped, strict=True)]
    columns = [Counter(rule for text in found for rule in text) for found in (dropped, ours, differ, theirs["inexact"])]
    for rule in theirs["rules"]:
        table.add_row(rule, *(f"{column[rule]:,}" for column in columns))
    alike = sum(bool(mine) == bool(yours) for mine, yours in zip(ours, theirs["reasons"], strict=True))
    table.add_row("kept or dropped by the four filters", f"{sum(map(bool, theirs['reasons'])):,}",
                  f"{sum(map(bool, ours)):,}", f"{len(texts) - alike:,}", "")  # fmt: skip
    Console(width=120).print(table)
    for place in [place for place, rules in enumerate(differ) if rules or theirs["inexact"][place]][:SHOWN]:
        print(f"text {place}: decided otherwise {sorted(differ[place])}, measured otherwise {theirs['inexact'][place]}")
        print(f"  {texts[place][:200]!r}")
    return sum(not rules for rules in differ) / len(texts)


def _all() -> None:
    files = sorted((data_dir() / "text").glob("web_train-*.parquet"))
    for texts in (web_pages() + texts_of([data_dir() / "text" / "web_short.parquet"]), *(texts_of([f]) for f in files)):
        for row in compare(texts):
            print(row)


def _record() -> None:
    """The texts of the tests, with the figures and decisions that are datatrove's."""
    rows = [json.loads(line) for line in RECORDED.read_text(encoding="utf-8").splitlines()]
    texts = [row["text"] * row["times"] for row in rows]
    figures = [datatrove.measure(text) for text in texts]
    with tempfile.TemporaryDirectory(prefix="palimpsest-bench-") as scratch:
        theirs = _datatrove(texts, figures, Path(scratch), every=1)
    for row, found, dropped, inexact in zip(rows, figures, theirs["dropped"], theirs["inexact"], strict=True):
        if inexact:
            raise SystemExit(f"{row['name']}: {', '.join(inexact)} is not datatrove's")
        row |= {"dropped": dropped, "figures": found}
    RECORDED.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    {"all": _all, "record": _record}[sys.argv[1]]()
