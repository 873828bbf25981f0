"""What the catalog takes from a dataset's files beside its manifest."""

from __future__ import annotations

import json
import math
from typing import Any

import pyarrow.parquet as pq

from palimpsest.lake import Published


def quarantine_rows(published: Published) -> list[dict[str, Any]]:
    """Rows a stage set aside: pages that could not be read, generations that could not be made."""
    files = {f["name"] for f in published.manifest["files"]}
    rows: list[tuple] = []
    if "quarantine.parquet" in files:
        table = pq.read_table(published.file("quarantine.parquet"), columns=["url", "cause", "detail"])
        rows += [(r["url"], r["cause"], r["detail"]) for r in table.to_pylist()]
    if "missing.parquet" in files:
        table = pq.read_table(published.file("missing.parquet"), columns=["url", "strategy", "g", "cause"])
        rows += [(r["url"], r["cause"], f"{r['strategy']} sample {r['g']}") for r in table.to_pylist()]
    return [
        {"dataset_uri": published.uri, "number": number, "url": _text(url), "cause": cause, "detail": _text(detail)}
        for number, (url, cause, detail) in enumerate(rows)
    ]


def training_run(published: Published) -> list[dict[str, Any]]:
    """The training run of a ``studies/<s>/runs/<run>`` dataset; nothing for any other."""
    parts = published.dataset.split("/")
    if len(parts) != 4 or parts[0] != "studies" or parts[2] != "runs":
        return []
    evaluation = json.loads(published.file("evaluation.json").read_text(encoding="utf-8"))
    return [
        {
            "dataset_uri": published.uri,
            "study": parts[1],
            "run": evaluation["run"],
            "recipe": evaluation["recipe"],
            "seed": evaluation["seed"],
            "losses": finite(evaluation["losses"]),
            "mlflow_run_id": published.extra.get("mlflow_run_id"),
        }
    ]


def finite(value: Any) -> Any:
    """The JSON value with NaN and infinities as null: PostgreSQL's JSON has neither."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _text(value: str | None) -> str | None:
    """PostgreSQL's text cannot hold the NUL character, which broken pages do contain."""
    return value and value.replace("\0", "\ufffd")
