"""dbt's documentation of the project as one self-contained page in the state folder; made by `up`, in seconds."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from palimpsest.lake import REPOSITORY
from palimpsest_airflow.local.settings import Refused, Settings

PROJECT = REPOSITORY / "dbt_project"


def write(folder: Path) -> Path:
    """The page; no table is read and no database opened, so columns come from the YAML beside the models."""
    from dbt.cli.main import dbtRunner

    with tempfile.TemporaryDirectory(prefix="palimpsest-dbt-docs-") as scratch:
        places = ["--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT)]
        places += ["--target-path", f"{scratch}/target", "--log-path", f"{scratch}/log", "--log-level", "error"]
        for command in (["parse"], ["docs", "generate", "--static", "--empty-catalog", "--no-compile"]):
            answer = dbtRunner().invoke([*command, *places, "--no-send-anonymous-usage-stats", "--no-version-check"])
            if not answer.success:
                raise Refused(f"dbt {' '.join(command)}: {answer.exception}")
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / ".static_index.html"
        partial.write_bytes(Path(scratch, "target", "static_index.html").read_bytes())
        page = folder / "static_index.html"
        os.replace(partial, page)
    return page


if __name__ == "__main__":
    write(Settings.from_env().state / "dbt_docs")
