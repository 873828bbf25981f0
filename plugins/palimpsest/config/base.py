"""What corpus and study files share: strict models, the types of their values, and suggestions for a wrong name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from palimpsest.lake import LakeError

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,47}$")]
Share = Annotated[float, Field(gt=0, le=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
"""Fits the 32-bit column of the tables and every random generator."""
COMMIT = re.compile(r"[0-9a-f]{40}")


def _commit(value: str) -> str:
    if not COMMIT.fullmatch(value):
        raise ValueError(f"'{value}' is no commit in full (40 hexadecimal digits); a branch or tag may move")
    return value


Commit = Annotated[str, AfterValidator(_commit), Field(json_schema_extra={"pattern": f"^{COMMIT.pattern}$"})]
"""Of a hub's repository; in words what the pattern says to an editor."""


class ConfigError(LakeError):
    """A corpus or study file that cannot be run as written."""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def known(key: str, value: str, allowed: Iterable[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{key}: '{value}' is unknown{suggest(value, allowed)}")


def suggest(value: str, allowed: Iterable[str]) -> str:
    allowed = sorted(allowed)
    close = difflib.get_close_matches(value, allowed, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    return f"{hint} (allowed: {', '.join(allowed) or 'none defined'})"
