"""What sqlfluff sees of the project's macros: each reads as a call of its own name, so a model's own SQL is linted.

dbt's macros return Python values, which sqlfluff's Jinja cannot; those a model loops over are given as one example.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

MACROS = Path(__file__).parents[1] / "macros"


def _call(name: str) -> Callable[..., str]:
    return lambda *arguments: f"{name}({', '.join(str(argument) for argument in arguments)})"


for _file in sorted(MACROS.glob("*.sql")):
    for _name in re.findall(r"macro (\w+)\(", _file.read_text(encoding="utf-8")):
        globals()[_name] = _call(_name)


def page_rules() -> list[dict[str, str]]:
    return [{"name": "rule", "reason": "reason", "value": "words", "bound": "min", "threshold": "50"}]


def datatrove_figures() -> list[str]:
    return ["figure"]
