"""What sqlfluff sees of dbt's ``adapter``: a dispatched macro reads as a call of its own name."""

from __future__ import annotations

from collections.abc import Callable


def dispatch(name: str) -> Callable[..., str]:
    return lambda *arguments: f"{name}({', '.join(str(argument) for argument in arguments)})"


def quote(name: str) -> str:
    return f'"{name}"'
