"""Figures of a study's data for trends, of which no text has to be read: they stop nothing.

real_share: share of the trained tokens that people wrote, of each mix; real_share_least: in the domain with the least.
generators: effective number of models behind a layout's texts, the exponential of the entropy of their shares of the
tokens; 1 where one wrote all. accepted: share of the reviewed texts of a strategy that the review let through.
"""

from __future__ import annotations

import math
from collections import defaultdict

import duckdb

from expectations.guard.shares import shares
from palimpsest.config import Study

WRITERS = """
    select strategy, g, model, sum(tokens) as tokens from generations
    where model is not null group by strategy, g, model order by strategy, g, model
"""
REVIEWED = """
    with decided as (
        select strategy, true as accepted from generations where verdict <> 'not_reviewed'
        union all
        select strategy, false as accepted from generation_drops
    ),
    writers as (select strategy, min(model) as model from generations group by strategy)
    select decided.strategy, coalesce(any_value(writers.model), 'unknown'), avg(decided.accepted::integer)
    from decided left join writers on decided.strategy = writers.strategy
    group by decided.strategy order by decided.strategy
"""


def figures(connection: duckdb.DuckDBPyConnection, study: Study) -> list[dict[str, object]]:
    """Rows as `expectations.guard.texts.Found.measures` has them; ``strategy`` may be the name of a mix or layout."""
    found = []

    def measured(name: str, generator: str, metric: str, value: float) -> None:
        row = {"strategy": name, "generator": generator, "metric": metric, "value": float(value)}
        found.append(row | {"real_mean": None, "real_sd": None})

    least: dict[str, float] = defaultdict(lambda: 1.0)
    for part in shares(connection, by_domain=True):
        least[part.recipe] = min(least[part.recipe], part.real)
    for whole in shares(connection, by_domain=False):
        if whole.recipe in study.mixes:
            measured(whole.recipe, "mix", "real_share", whole.real)
            measured(whole.recipe, "mix", "real_share_least", least[whole.recipe])
    writers = connection.execute(WRITERS).fetchall()
    for name, layout in study.layouts.items():
        tokens: dict[str, int] = defaultdict(int)
        for strategy, g, model, count in writers:
            if strategy in layout.strategies and g < study.first_of(layout, strategy):
                tokens[model] += count
        if sum(tokens.values()):
            measured(name, "layout", "generators", effective_count(list(tokens.values())))
    for strategy, model, accepted in connection.execute(REVIEWED).fetchall():
        measured(strategy, model, "accepted", accepted)
    return found


def effective_count(sizes: list[int]) -> float:
    """Exp of the entropy of the shares: as many equal parts would be as hard to tell."""
    whole = sum(sizes)
    return math.exp(-sum(size / whole * math.log(size / whole) for size in sizes if size))
