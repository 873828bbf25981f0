"""What Airflow's UI gains: study reports, Data Docs and dbt docs behind its own login, and links to them.

Every component imports this file, so the pages themselves are imported by the first request.
"""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from palimpsest_airflow.links import LINKS, PREFIX, mlflow


async def pages(scope, receive, send) -> None:
    from palimpsest_airflow.ui.pages import app

    await app(scope, receive, send)


def _view(name: str, route: str, href: str, **more: object) -> dict[str, object]:
    return {"name": name, "url_route": route, "href": f"{PREFIX}/{href}", **more}


class PalimpsestPlugin(AirflowPlugin):
    name = "palimpsest"
    fastapi_apps = [{"app": pages, "url_prefix": PREFIX, "name": "palimpsest"}]
    external_views = [
        _view("Palimpsest", "palimpsest", "", destination="nav", category="browse"),
        _view("Data Docs", "data-docs", "data-docs/", destination="nav", category="docs"),
        _view("dbt docs", "dbt-docs", "dbt-docs/", destination="nav", category="docs"),
        _view("Funnel", "funnel", "funnel/{DAG_ID}/", destination="dag"),
        _view("Generation", "generation", "generation/{DAG_ID}/", destination="dag"),
        _view("Guard", "guard", "guard/{DAG_ID}/", destination="dag"),
        _view("Report", "report", "report/{DAG_ID}/", destination="dag"),
        {"name": "MLflow", "href": mlflow(), "destination": "nav", "category": "browse"},
    ]
    global_operator_extra_links = LINKS
