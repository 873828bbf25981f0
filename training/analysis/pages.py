"""What all report pages share: their templates, and drawings as parts of the page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from training import track
from training.analysis.style import INK

if TYPE_CHECKING:
    from jinja2 import Environment


def environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = Path(__file__).parent / "templates"
    return Environment(loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined)


def links(parent_run_id: str | None) -> dict[str, str]:
    """Where to look further: the run that made the report, as far as the addresses are known."""
    airflow, mlflow = track.airflow_url(track.airflow_tags()), track.run_url(parent_run_id) if parent_run_id else None
    return {name: url for name, url in (("This run in Airflow", airflow), ("Its runs in MLflow", mlflow)) if url}


def drawing(title: str, note: str, svg: str) -> dict[str, object]:
    """A figure of the page: in its text colour, scaling with it, named for screen readers."""
    width = float(re.search(r'width="([\d.]+)pt"', svg).group(1))
    body = svg[svg.index("<svg") :].replace(INK, "currentColor")
    opening, rest = body.split(">", 1)
    opening = re.sub(r' (width|height)="[^"]*"', "", opening)
    return {
        "title": title,
        "note": note,
        "wide": width > 600,
        "svg": f'{opening} role="img" aria-label="{title}">{rest}',
    }
