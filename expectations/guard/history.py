"""The guard's figures of a study over time, as a mart: one row per strategy or mix, generator, figure and interval."""

from __future__ import annotations

import datetime as dt
import logging
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from expectations.guard import models
from palimpsest import warehouse
from palimpsest.config import Study
from palimpsest.lake import Facts, Lake, Published

log = logging.getLogger(__name__)
KEPT = pa.schema(
    [
        ("strategy", pa.string()),
        ("generator", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("real_mean", pa.float64()),
        ("real_sd", pa.float64()),
        ("data_until", pa.date32()),
        ("version", pa.string()),
        ("version_number", pa.int64()),
    ]
)
CODE = (
    "expectations/guard/history.py",
    "expectations/guard/models.py",
    "plugins/palimpsest/warehouse.py",
    "dbt_project/dbt_project.yml",
    "dbt_project/macros",
    "dbt_project/models/guard",
)


def publish_history(study: Study, lake: Lake) -> Published | None:
    """``studies/<s>/guard_metrics`` over every version that the study's gate has let through, and the models trained on
    them; None where nothing was measured.

    Drift is an alarm: a warning in the log and in ``extra['drifts']``, it stops nothing.
    """
    gates = [gate for gate in lake.versions(f"studies/{study.name}/gate") if gate.extra.get("data_until")]
    rows = [row | {"version_number": number} for number, gate in enumerate(gates) for row in _rows(gate)]
    trained = models.trained(study, lake, gates)
    rows += [row for number, found in enumerate(trained) for row in models.rows(study, found, number)]
    if not rows:
        return None
    guard = {"drift_max": study.guard.thresholds.entropy_z_max}

    def write(directory: Path) -> Facts:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "measures.parquet"
            pq.write_table(pa.Table.from_pylist(rows, KEPT), file)
            inputs, variables = {"guard_measures": file}, {"guard": guard}
            warehouse.build("path:models/guard", inputs=inputs, variables=variables, out=directory)
        found = pq.read_table(directory / "guard_metrics.parquet").to_pylist()
        newest = max(row["data_until"] for row in found)
        return Facts(extra={"drifts": [_said(row) for row in found if row["drifts"] and row["data_until"] == newest]})

    dataset = f"studies/{study.name}/guard_metrics"
    parents = [*gates, *(sign for found in trained for sign in found.signs)]
    published = lake.publish(dataset, write, config=guard, parents=parents, code=CODE)
    for sentence in published.extra["drifts"]:
        log.warning("drift: %s", sentence)
    return published


def _rows(gate: Published) -> list[dict[str, object]]:
    file = next((f["name"] for f in gate.manifest["files"] if f["name"] == "profiles/guard_measures.parquet"), None)
    told = {"data_until": dt.date.fromisoformat(gate.extra["data_until"]), "version": gate.manifest["key"]}
    rows = pq.read_table(gate.file(file)).to_pylist() if file else []
    return [row | told for row in rows]


def _said(row: dict) -> str:
    other = "; another model writes now" if row["is_other_generator"] else ""
    of = f"{models.KINDS.get(row['generator'], 'strategy')} {row['strategy']}"
    return (
        f"{row['metric']} of {of} moved from {row['value_before']:.4g} to {row['value']:.4g} by {row['data_until']}, "
        f"{abs(row['moved']):.1f} deviations of real text{other}"
    )
