"""Runs in MLflow that belong to no study: an experiment by itself, and a run in it by its name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from training.mlflow_store import Tracker, airflow_tags, begin, ended, experiment_of, store


class Experiment(NamedTuple):
    """An experiment of no study."""

    name: str
    description: str


@contextmanager
def run(experiment: Experiment, name: str, settings: Mapping[str, object]) -> Iterator[Tracker]:
    """A tracker for a run of this name; an earlier one of its name in the experiment is replaced."""
    with store() as client:
        params = {key: str(value) for key, value in settings.items()}
        run_id = begin(client, experiment_of(client, experiment), name, airflow_tags(), params)
    with ended(client, run_id) as tracker:
        yield tracker
