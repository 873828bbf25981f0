"""One checkpoint run: profiles and suites in, a verdict per expectation out, Data Docs pages written.

Every run has its own in-memory context, so gates cannot overwrite each other's configuration; only the results and
the Data Docs site are shared files, and a file lock lets one run write them at a time.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import logging
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import great_expectations as gx
import pandas as pd
from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.data_context.types.base import DataContextConfig, ProgressBarsConfig
from great_expectations.data_context.types.resource_identifiers import ValidationResultIdentifier

from expectations.rules import EveryRow, asked_for
from expectations.verdicts import Judged, Verdict, data_docs_dir
from palimpsest.state import state_dir

HISTORY = 200
"""Runs listed on the index page; building it reads each of them."""


def judge(
    dataset: str,
    profiles: Mapping[str, pd.DataFrame],
    files: Mapping[str, Path],
    suites: Mapping[str, list[EveryRow]],
) -> Judged:
    """Run every suite against its profile (``files``: the same profiles as Parquet) and write this run's Data Docs."""
    state = state_dir() / "gx"
    with _alone(state):
        context = _context(state)
        checkpoint = _checkpoint(context, dataset, files, suites)
        started = dt.datetime.now(dt.UTC)
        run = RunIdentifier(run_name=f"{dataset.replace('/', '-')}-{uuid.uuid4().hex[:6]}", run_time=started)
        results = checkpoint.run(run_id=run).run_results
        context.build_data_docs(resource_identifiers=list(results))
        pages = {key.expectation_suite_identifier.name: _page(context, key) for key in results}
        names = {f"{dataset.replace('/', '.')}.{suite}": suite for suite in suites}
        return Judged(
            verdicts=[
                _verdict(names[key.expectation_suite_identifier.name], outcome)
                for key, result in results.items()
                for outcome in result.results
            ],
            pages={names[name]: page for name, page in pages.items()},
            profiles=profiles,
        )


@contextmanager
def _alone(state: Path) -> Iterator[None]:
    state.mkdir(parents=True, exist_ok=True)
    with (state / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _context(state: Path) -> gx.data_context.EphemeralDataContext:
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    memory = {"class_name": "InMemoryStoreBackend"}
    results = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(state / "results")}
    site = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(data_docs_dir())}
    config = DataContextConfig(
        stores={
            "expectations_store": {"class_name": "ExpectationsStore", "store_backend": memory},
            "validation_results_store": {"class_name": "ValidationResultsStore", "store_backend": results},
            "checkpoint_store": {"class_name": "CheckpointStore", "store_backend": memory},
            "validation_definition_store": {"class_name": "ValidationDefinitionStore", "store_backend": memory},
        },
        expectations_store_name="expectations_store",
        validation_results_store_name="validation_results_store",
        checkpoint_store_name="checkpoint_store",
        data_docs_sites={
            "data_docs": {
                "class_name": "SiteBuilder",
                "show_how_to_buttons": False,
                "store_backend": site,
                "site_index_builder": {
                    "class_name": "DefaultSiteIndexBuilder",
                    "validation_results_limit": HISTORY,
                    "view": {"module_name": "expectations.pages", "class_name": "GateIndex"},
                },
                "site_section_builders": {
                    "expectations": "none",
                    "profiling": "none",
                    "validations": {"view": {"module_name": "expectations.pages", "class_name": "GatePage"}},
                },
            }
        },
        analytics_enabled=False,
        progress_bars=ProgressBarsConfig(globally=False),
    )
    return gx.get_context(mode="ephemeral", project_config=config)


def _checkpoint(
    context: gx.data_context.EphemeralDataContext,
    dataset: str,
    files: Mapping[str, Path],
    suites: Mapping[str, list[EveryRow]],
) -> gx.Checkpoint:
    source = context.data_sources.add_pandas(name=dataset.replace("/", "."))
    validations = []
    for name, expectations in suites.items():
        title = f"{dataset.replace('/', '.')}.{name}"
        suite = context.suites.add(gx.ExpectationSuite(name=title, expectations=expectations))
        batch = source.add_parquet_asset(name, path=files[name]).add_batch_definition(name)
        validations.append(
            context.validation_definitions.add(gx.ValidationDefinition(name=title, data=batch, suite=suite))
        )
    return context.checkpoints.add(gx.Checkpoint(name=dataset, validation_definitions=validations))


def _page(context: gx.data_context.EphemeralDataContext, key: ValidationResultIdentifier) -> str:
    url = context.get_docs_sites_urls(resource_identifier=key)[0]["site_url"]
    return str(Path(unquote(urlparse(url).path)).relative_to(data_docs_dir()))


def _verdict(suite: str, outcome: Any) -> Verdict:
    config = outcome.expectation_config
    if outcome.exception_info.get("raised_exception"):
        raise RuntimeError(f"{config.type} of suite {suite} broke: {outcome.exception_info['exception_message']}")
    rule = config.to_domain_obj()
    return Verdict(
        suite=suite,
        expectation=config.type,
        sentence=rule.description.rsplit(" [", 1)[0],
        severity=rule.severity.value,
        observed=outcome.result["observed_value"],
        asked=asked_for(rule.minimum, rule.maximum, rule.unit),
        success=outcome.success,
        setting=rule.setting,
    )
