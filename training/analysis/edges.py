"""Searches that ended at the end of an axis: what they found may be worse than what lies beyond."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from palimpsest.config import Study

Certificates = Mapping[str, Mapping]
"""By recipe, as `training.search.certificate` makes them."""


def of_references(certificates: Certificates, recipes: Sequence[str]) -> str:
    """What is to be said of figures read off the real-only recipe; empty if each search of it ended inside its box."""
    found = {axis: end for name in recipes for axis, end in certificates.get(name, {}).get("edges", {}).items()}
    words = _words(found)
    return words and f"the search of a real-only run ended at {words}, so it may be worse than it need be"


def of_mix(study: Study, certificates: Certificates, mix: str) -> str:
    """The ends of axes at which the settings of a mix lie, its own or those it follows; empty if at none."""
    return _words(certificates.get(study.mixes[mix].like or mix, {}).get("edges", {}))


def sentence(table: Mapping, mixes: Iterable[str]) -> str:
    """What is to be borne in mind where these mixes are compared; empty if none of them lies at an end."""
    asked = set(mixes)
    found = [f"‘{row['mix']}’ ({row['at_end']})" for row in table["mixes"] if row.get("at_end") and row["mix"] in asked]
    if not found:
        return ""
    return f"At the end of an axis of the search, and perhaps better beyond it: {', '.join(found)}."


def _words(edges: Mapping[str, str]) -> str:
    return " and ".join(f"the {end} end of {axis.replace('_', ' ')}" for axis, end in edges.items())
