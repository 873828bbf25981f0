"""The expectations themselves: one class per rule, named as a sentence, judging every row of a small profile table.

A profile has one row per thing judged (a table, a strategy, a layout, a recipe). Great Expectations' own column
expectations would report only the worst value or skip missing ones; these report every row's value by name and treat
a missing value as a failure. Thresholds are always passed in, never kept here.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import pandas as pd
from great_expectations.compatibility import pydantic
from great_expectations.core.metric_domain_types import MetricDomainTypes
from great_expectations.execution_engine import PandasExecutionEngine
from great_expectations.expectations.expectation import BatchExpectation
from great_expectations.expectations.metrics.metric_provider import metric_value
from great_expectations.expectations.metrics.table_metric_provider import TableMetricProvider

SHOWN = 6
"""Rows named in an observed value; a study may have dozens of recipes, the table must stay readable."""

Unit = Literal["count", "share", "ratio"]


class ProfileTable(TableMetricProvider):
    """The batch itself: profiles are a few dozen rows, so judging them in one piece costs nothing."""

    metric_name = "table.profile"

    @metric_value(engine=PandasExecutionEngine)
    def _pandas(cls, execution_engine, metric_domain_kwargs, metric_value_kwargs, metrics, runtime_configuration):
        frame, _, _ = execution_engine.get_compute_domain(metric_domain_kwargs, domain_type=MetricDomainTypes.TABLE)
        return frame


def show(value: float | None, unit: Unit) -> str:
    if value is None or pd.isna(value):
        return "not measured"
    if unit == "share":
        return f"{100 * value:.3g}%"
    return f"{value:,.0f}" if unit == "count" else f"{value:.3g}"


class EveryRow(BatchExpectation):
    """Every row's ``column`` lies within [minimum, maximum]; ``key`` names the row, ``detail`` explains a bad one."""

    key: str
    column: str
    unit: Unit = "count"
    minimum: float | None = None
    maximum: float | None = None
    detail: str | None = None
    only: str | None = None
    """A flag column: rows without it are not judged."""

    sentence: ClassVar[str] = ""
    """What is expected; {asked} stands for the threshold."""
    setting: ClassVar[str] = ""
    """The key of the corpus or study file that has the threshold; empty where nothing loosens the rule."""
    metric_dependencies: ClassVar[tuple[str, ...]] = ("table.profile",)
    success_keys: ClassVar[tuple[str, ...]] = ("key", "column", "unit", "minimum", "maximum", "detail", "only")
    args_keys: ClassVar[tuple[str, ...]] = success_keys

    @pydantic.root_validator(pre=True)
    def _say(cls, values: dict[str, Any]) -> dict[str, Any]:
        fields = cls.__fields__
        given = {name: values.get(name, fields[name].default) for name in ("minimum", "maximum", "unit", "severity")}
        asked = asked_for(given["minimum"], given["maximum"], given["unit"])
        severity = getattr(given["severity"], "value", given["severity"])
        sentence = cls.sentence.format(asked=asked)
        return {**values, "description": f"{sentence[:1].upper()}{sentence[1:]} [{severity}]"}

    def _validate(self, metrics: dict, runtime_configuration=None, execution_engine=None) -> dict[str, Any]:
        profile: pd.DataFrame = metrics["table.profile"]
        frame = profile[profile[self.only]] if self.only else profile
        values = frame[self.column].astype("float64")
        bad = values.isna()
        if self.minimum is not None:
            bad |= values < self.minimum
        if self.maximum is not None:
            bad |= values > self.maximum
        order = [*frame.index[bad], *frame.index[~bad]]
        named = [f"{frame[self.key][i]} {show(values[i], self.unit)}{self._because(frame, i, bad[i])}" for i in order]
        more = f" · and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
        return {
            "success": not bad.any() and len(profile) > 0,
            "result": {
                "observed_value": " · ".join(named[:SHOWN]) + more or "nothing to judge",
                "rows": len(frame),
                "bad_rows": int(bad.sum()),
            },
        }

    def _because(self, frame: pd.DataFrame, row: Any, bad: bool) -> str:
        return f" ({frame[self.detail][row]})" if bad and self.detail and frame[self.detail][row] else ""


def asked_for(minimum: float | None, maximum: float | None, unit: Unit) -> str:
    """A threshold in words: ``at most 5%``, ``none``, ``between 2 and 9``."""
    if minimum == maximum == 0:
        return "none"
    if minimum is not None and maximum is not None:
        return f"{show(minimum, unit)} to {show(maximum, unit)}"
    if maximum is not None:
        return "none" if maximum == 0 else f"at most {show(maximum, unit)}"
    return f"at least {show(minimum, unit)}"
