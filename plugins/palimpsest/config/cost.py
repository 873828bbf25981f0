"""What a study's cost is reckoned with before it is known."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from palimpsest.config.base import Name, Strict


class Assumed(Strict):
    """Figures for ``python -m training cost`` alone, each said there and overridden by its options; no run reads them.

    Sizes are used until the lake has the study's plan. How fast a server writes stands with it (tokens_per_second).
    """

    documents: int | None = Field(default=None, ge=1)
    """Real training documents, those beyond 'real_share' too."""
    real_tokens: int | None = Field(default=None, ge=1)
    """Of all these."""
    written: dict[Name, int] = {}
    """Tokens of one generation, by strategy."""
    tflops: float | None = Field(default=None, gt=0)
    """Model TFLOP/s that one device reaches in training; until runs of this study have been measured."""
    device: Literal["gpu", "cpu"] = "gpu"
    """What 'tflops' is of: on a CPU training takes no GPU hours."""
