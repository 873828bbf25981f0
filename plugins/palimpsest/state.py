"""Where this machine keeps what is not data: the catalog, MLflow's store, Data Docs, the parsed dbt project."""

from __future__ import annotations

import os
from pathlib import Path

from palimpsest.lake import REPOSITORY


def state_dir() -> Path:
    """The folder PALIMPSEST_STATE names; ``.palimpsest`` in the repository where it names none."""
    return Path(os.environ.get("PALIMPSEST_STATE") or REPOSITORY / ".palimpsest").resolve()
