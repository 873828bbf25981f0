"""dbt's documentation of the project as one self-contained page in the state folder; made by `up`, in seconds."""

from __future__ import annotations

import os
import tempfile
from importlib import metadata
from pathlib import Path

from palimpsest.lake import REPOSITORY, digest_code
from palimpsest_airflow.local.settings import Refused, Settings

PROJECT = REPOSITORY / "dbt_project"


def write(folder: Path) -> Path:
    """The page; no table is read and no database opened, so columns come from the YAML beside the models.

    One that was made of this version of the project is left as it is.
    """
    page, made_of = folder / "static_index.html", folder / "made_of"
    if page.exists() and made_of.exists() and made_of.read_text() == version():
        return page
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
        os.replace(partial, page)
    made_of.write_text(version())
    return page


def version() -> str:
    """Of what the page is made: the project's files and dbt."""
    return f"{digest_code('dbt_project')} dbt {metadata.version('dbt-core')}"


if __name__ == "__main__":
    write(Settings.from_env().state / "dbt_docs")
