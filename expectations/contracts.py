"""The columns each published table promises, and how a file's own columns differ from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import duckdb

TYPES = {
    "text": {"VARCHAR"},
    "integer": {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"},
    "number": {"FLOAT", "DOUBLE"},
    "flag": {"BOOLEAN"},
    "time": {"TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "TIMESTAMP_NS", "TIMESTAMP_MS", "TIMESTAMP_S"},
    "date": {"DATE"},
    "texts": {"VARCHAR[]"},
}
"""What a promised type may be in Parquet, as DuckDB names it: width is the writer's choice, kind is not."""

Columns = Mapping[str, str]


@dataclass(frozen=True)
class Contract:
    columns: Columns
    key: tuple[str, ...]
    unknown: tuple[str, ...] = ()
    """Columns of the key that may be null, which is a value as any other."""


DOCUMENT = {
    "document_id": "text",
    "page_id": "text",
    "url": "text",
    "site": "text",
    "title": "text",
    "text": "text",
    "words": "integer",
    "fetched_at": "time",
    "day": "date",
    "language": "text",
    "language_score": "number",
    "text_sha256": "text",
    "corpus": "text",
    "origin": "text",
    "depth": "integer",
}

DOCUMENTS = {
    "documents": Contract(DOCUMENT, ("document_id",)),
    "document_drops": Contract(
        {
            "page_id": "text",
            "url": "text",
            "reason": "text",
            "rule": "text",
            "value": "number",
            "threshold": "number",
            "duplicate_of": "text",
        },
        ("page_id",),
    ),
}

STUDY = {
    "train": Contract({**DOCUMENT, "tokens": "integer", "is_reserve": "flag"}, ("document_id",)),
    "validation": Contract({**DOCUMENT, "tokens": "integer", "is_short": "flag", "is_long": "flag"}, ("document_id",)),
    "generations": Contract(
        {
            "generation_id": "text",
            "document_id": "text",
            "strategy": "text",
            "kind": "text",
            "g": "integer",
            "text": "text",
            "tokens": "integer",
            "finish_reason": "text",
            "truncated": "flag",
            "engine": "text",
            "model": "text",
            "seed": "integer",
            "prompt": "text",
            "prompt_sha256": "text",
            "attempt": "integer",
            "parts": "integer",
            "input_tokens": "integer",
            "output_tokens": "integer",
            "input_truncated": "flag",
            "defects": "texts",
            "faithfulness": "number",
            "origin": "text",
            "depth": "integer",
            "grounded": "flag",
            "self_consuming": "flag",
            "seed_document_ids": "texts",
            "generator_mix": "text",
            "decoding": "text",
            "verifier": "text",
            "verdict": "text",
        },
        ("strategy", "document_id", "g"),
    ),
    "generation_drops": Contract(
        {
            "generation_id": "text",
            "document_id": "text",
            "url": "text",
            "strategy": "text",
            "kind": "text",
            "g": "integer",
            "reason": "text",
            "detail": "text",
            "defects": "texts",
            "attempt": "integer",
            "parts": "integer",
            "text": "text",
        },
        ("strategy", "document_id", "g"),
    ),
    "megadoc_parts": Contract(
        {
            "layout": "text",
            "position": "integer",
            "megadoc_id": "text",
            "part": "integer",
            "kind": "text",
            "document_id": "text",
            "g": "integer",
            "text": "text",
            "tokens": "integer",
            "ends_row": "flag",
            "domain": "text",
            "origin": "text",
            "depth": "integer",
            "grounded": "flag",
            "self_consuming": "flag",
        },
        ("layout", "position", "part"),
    ),
    "megadocs": Contract(
        {
            "layout": "text",
            "position": "integer",
            "megadoc_id": "text",
            "document_id": "text",
            "text": "text",
            "parts": "integer",
            "tokens": "integer",
            "real_tokens": "integer",
            "synthetic_tokens": "integer",
            "unknown_tokens": "integer",
            "depth": "integer",
        },
        ("layout", "position"),
    ),
    "mixes": Contract(
        {
            "recipe": "text",
            "role": "text",
            "share": "number",
            "layout": "text",
            "is_synthetic": "flag",
            "fraction": "number",
            "stream_megadocs": "integer",
            "stream_tokens": "integer",
            "stream_real_tokens": "integer",
            "stream_synthetic_tokens": "integer",
            "windows": "integer",
            "epochs": "number",
            "steps_per_real_epoch": "integer",
            "steps": "integer",
            "sequences": "integer",
            "stream_sequences": "integer",
            "passes": "number",
            "realised_fraction": "number",
            "trained_tokens": "integer",
        },
        ("recipe", "layout"),
    ),
    "mix_shares": Contract(
        {
            "recipe": "text",
            "role": "text",
            "domain": "text",
            "origin": "text",
            "depth": "integer",
            "grounded": "flag",
            "self_consuming": "flag",
            "trained_tokens": "number",
            "recipe_share": "number",
            "domain_share": "number",
        },
        ("recipe", "domain", "origin", "depth", "grounded", "self_consuming"),
        unknown=("depth",),  # where a lineage is lost, which G1 and G5 say
    ),
}


def differences(connection: duckdb.DuckDBPyConnection, table: str, contract: Contract) -> tuple[list[str], list[str]]:
    """(what is missing or mistyped, what is there beyond the contract), each as phrases for a person."""
    found = {name: kind for name, kind, *_ in connection.execute(f"describe {table}").fetchall()}
    wrong = []
    for name, kind in contract.columns.items():
        if name not in found:
            wrong.append(f"{name} is missing")
        elif found[name] not in TYPES[kind]:
            wrong.append(f"{name} is {found[name]}, not {kind}")
    return wrong, sorted(set(found) - set(contract.columns))
