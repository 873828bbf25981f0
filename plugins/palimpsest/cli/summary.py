"""A published dataset in one line."""

from __future__ import annotations

from palimpsest.lake import Published


def summary(published: Published) -> str:
    rows = published.manifest["rows"]
    if rows is None:
        counts = f"{published.manifest['bytes']:,} bytes"
    else:
        lost = {**rows["dropped"], **rows["quarantined"]}
        counts = f"{rows['input']:,} in, {rows['kept']:,} kept" + (f", {lost}" if lost else "")
    return f"{published.dataset}: {counts}  [{published.digest[:12]}]"
