"""Buttons on a task's page: to its report, its Data Docs, its study's generation and guard, its MLflow run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.models.taskinstancekey import TaskInstanceKey

PREFIX = "/palimpsest"
"""Where the plugin's pages are mounted in the API server."""


def airflow(address: str) -> str:
    """A page of Airflow's UI as the browser sees it, behind whatever base URL it has."""
    from airflow.configuration import conf

    return f"{(conf.get('api', 'base_url', fallback='') or '').rstrip('/')}/{address}"


def page(address: str) -> str:
    """A page of this plugin as the browser sees it."""
    return airflow(f"{PREFIX.strip('/')}/{address}")


def mlflow(address: str = "") -> str:
    """A page of MLflow's UI; PALIMPSEST_MLFLOW_URL says where users reach it."""
    port = os.environ.get("PALIMPSEST_MLFLOW_PORT", "5000")
    return f"{os.environ.get('PALIMPSEST_MLFLOW_URL', f'http://127.0.0.1:{port}').rstrip('/')}/{address}"


def kept(ti_key: TaskInstanceKey, name: str) -> str | None:
    """The address a task kept under ``name`` (`tasks.common.keep_links`); None hides the button."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    with create_session() as session:
        query = XComModel.get_many(
            key="links",
            run_id=ti_key.run_id,
            dag_ids=ti_key.dag_id,
            task_ids=ti_key.task_id,
            map_indexes=ti_key.map_index,
        )
        found = session.execute(query.with_only_columns(XComModel.value)).first()
    return (XComModel.deserialize_value(found) or {}).get(name) if found else None


class ReportLink(BaseOperatorLink):
    name = "Report"

    def get_link(self, operator, *, ti_key: TaskInstanceKey) -> str:
        address = kept(ti_key, self.name)
        return page(address) if address else ""


class DataDocsLink(BaseOperatorLink):
    name = "Data Docs"

    def get_link(self, operator, *, ti_key: TaskInstanceKey) -> str:
        address = kept(ti_key, self.name)
        return page(address) if address else ""


class GenerationLink(BaseOperatorLink):
    name = "Generation"

    def get_link(self, operator, *, ti_key: TaskInstanceKey) -> str:
        address = kept(ti_key, self.name)
        return page(address) if address else ""


class GuardLink(BaseOperatorLink):
    name = "Guard"

    def get_link(self, operator, *, ti_key: TaskInstanceKey) -> str:
        address = kept(ti_key, self.name)
        return page(address) if address else ""


class MlflowLink(BaseOperatorLink):
    name = "MLflow"

    def get_link(self, operator, *, ti_key: TaskInstanceKey) -> str:
        address = kept(ti_key, self.name)
        return mlflow(address) if address else ""


LINKS = [ReportLink(), DataDocsLink(), GenerationLink(), GuardLink(), MlflowLink()]
