"""What a person made of texts that a verifier accepted: a sample to read, and ``studies/<s>/audits`` of the answers.

The sample of a strategy is the first of its accepted texts by the hash of their id, so nobody chooses what is read:
an audit counts only if it has an answer for the first so many, whichever version of the generations they are of.
"""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from palimpsest.lake import Facts, Lake, LakeError, Published

COUNT = 250
"""Texts of each strategy: more than are asked for, since later reviews drop some."""
COLUMNS = ("strategy", "generation_id", "document_id", "source", "text", "good", "note")
AUDIT = pa.schema([(name, pa.string()) for name in ("strategy", "generation_id")] + [
    ("good", pa.bool_()), ("note", pa.string())
])  # fmt: skip
YES, NO = {"yes", "y", "true", "1"}, {"no", "n", "false", "0"}


def order(generation_ids: Iterable[str]) -> list[str]:
    """The order in which accepted texts are read."""
    return sorted(set(generation_ids), key=lambda found: hashlib.sha256(f"audit:{found}".encode()).digest())


def sample(generations: Published, split: Published, count: int = COUNT) -> list[dict[str, str]]:
    """Rows of `COLUMNS`, ``good`` and ``note`` empty: of each strategy's accepted texts the first ``count``.

    Raises `LakeError` where no text was reviewed.
    """
    found = _accepted(generations)
    if not found:
        raise LakeError(f"{generations.uri} has no text that a review accepted: there is nothing to audit")
    wanted = {name for ids in found.values() for name in ids[:count]}
    columns = ["strategy", "generation_id", "document_id", "text"]
    table = pq.read_table(
        generations.file("generations.parquet"), columns=columns, filters=[("generation_id", "in", wanted)]
    )
    rows = {(row["strategy"], row["generation_id"]): row for row in table.to_pylist()}
    documents = {row["document_id"] for row in rows.values()}
    read = pq.read_table(
        split.file("train.parquet"), columns=["document_id", "text"], filters=[("document_id", "in", documents)]
    )
    sources = dict(zip(read["document_id"].to_pylist(), read["text"].to_pylist(), strict=True))
    return [
        {**rows[key], "source": sources.get(rows[key]["document_id"], ""), "good": "", "note": ""}
        for strategy, ids in found.items()
        for key in ((strategy, name) for name in ids[:count])
    ]


def write(rows: Iterable[Mapping[str, str]], file: Path) -> None:
    """The sample as CSV, or as Parquet where the file is called so."""
    if file.suffix == ".parquet":
        schema = pa.schema([(name, pa.string()) for name in COLUMNS])
        pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema), file)
        return
    with file.open("w", encoding="utf-8", newline="") as target:
        writer = csv.DictWriter(target, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def read(file: Path) -> list[dict[str, object]]:
    """Strategy, generation_id, good and note of every row. Raises `LakeError` for a row without an answer."""
    if not file.is_file():
        raise LakeError(f"{file}: no such file; `python -m palimpsest guard audit STUDY` writes one to be filled in")
    if file.suffix == ".parquet":
        rows = pq.read_table(file).to_pylist()
    else:
        with file.open(encoding="utf-8-sig", newline="") as source:
            rows = list(csv.DictReader(source))
    if not rows or not {"strategy", "generation_id", "good"} <= rows[0].keys():
        raise LakeError(f"{file}: no audit; it needs the columns strategy, generation_id and good of the exported file")
    return [
        {
            "strategy": row["strategy"],
            "generation_id": row["generation_id"],
            "good": _answer(file, number, row["good"]),
            "note": row.get("note") or None,
        }
        for number, row in enumerate(rows, 1)
    ]


def publish(study: str, lake: Lake, rows: list[dict[str, object]], *, by: str) -> Published:
    """``studies/<s>/audits``: audit.parquet, who read it and when.

    Raises `LakeError` unless the rows of each strategy are the first of its accepted texts in some version of the
    study's generations.
    """
    if len(by.strip()) < 2:
        raise LakeError("an audit needs the name of who read the texts: --by 'Ada Lovelace'")
    told: dict[str, list[str]] = {}
    for row in rows:
        told.setdefault(str(row["strategy"]), []).append(str(row["generation_id"]))
    versions = [(version, _accepted(version)) for version in reversed(lake.versions(f"studies/{study}/generations"))]
    of = next((version for version, accepted in versions if all(_leads(accepted, *own) for own in told.items())), None)
    if of is None:
        raise LakeError(
            f"study {study}: these are not the first accepted texts of any version of its generations, each once; "
            f"export a sample, answer every row of it and leave none out: python -m palimpsest guard audit {study}"
        )

    def write_audit(directory: Path) -> Facts:
        pq.write_table(pa.Table.from_pylist(rows, AUDIT), directory / "audit.parquet")
        counts = {name: len(ids) for name, ids in told.items()}
        good = {name: sum(bool(row["good"]) for row in rows if row["strategy"] == name) for name in told}
        return Facts(extra={"by": by.strip(), "at": at, "audited": counts, "good": good})

    at = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    config = {"by": by.strip(), "rows": [[row[name] for name in AUDIT.names] for row in rows]}
    return lake.publish(f"studies/{study}/audits", write_audit, config=config, parents=[of])


def answers(audits: Iterable[Published]) -> dict[str, bool]:
    """Whether each audited text is good, by its generation_id; of two audits of a text the later counts."""
    found: dict[str, bool] = {}
    for audit in audits:
        table = pq.read_table(audit.file("audit.parquet"))
        found |= dict(zip(table["generation_id"].to_pylist(), table["good"].to_pylist(), strict=True))
    return found


def _accepted(generations: Published) -> dict[str, list[str]]:
    """Ids of what the review accepted of each strategy, in the order in which they are read."""
    columns = ["strategy", "generation_id", "verdict"]
    table = pq.read_table(generations.file("generations.parquet"), columns=columns)
    found: dict[str, list[str]] = {}
    for strategy, name, verdict in zip(*(table[column].to_pylist() for column in columns), strict=True):
        if verdict != "not_reviewed":
            found.setdefault(strategy, []).append(name)
    return {strategy: order(ids) for strategy, ids in found.items()}


def _leads(accepted: Mapping[str, list[str]], strategy: str, ids: list[str]) -> bool:
    return sorted(accepted.get(strategy, [])[: len(ids)]) == sorted(ids)


def _answer(file: Path, number: int, value: object) -> bool:
    said = str(value if value is not None else "").strip().lower()
    if said not in YES | NO:
        raise LakeError(
            f"{file}, row {number}: good is '{said}'; answer every row with yes or no (a sample that is half read is "
            "no sample)"
        )
    return said in YES
