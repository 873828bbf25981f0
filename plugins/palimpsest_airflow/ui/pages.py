"""Reports, Data Docs and dbt docs as pages of Airflow's API server; each asks for the login Airflow asks for.

What these pages show was fetched from the web, so no script of theirs may run in Airflow's origin: the content
security policy forbids scripts, and where a page is an application (dbt docs) it runs in an origin of its own.
"""

from __future__ import annotations

import os
from pathlib import Path

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
from airflow.api_fastapi.core_api.security import requires_access_dag, requires_access_view
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse
from fastapi.responses import Response as AnyResponse

from palimpsest.catalog import Catalog
from palimpsest.config import Study
from palimpsest.lake import Lake, NotPublished
from palimpsest.state import state_dir
from palimpsest_airflow import definitions
from palimpsest_airflow.links import airflow, mlflow
from palimpsest_airflow.ui.funnel import funnel_page
from palimpsest_airflow.ui.generation import RELOAD_S, generation_page, metrics_page
from palimpsest_airflow.ui.guard import guard_page
from palimpsest_airflow.ui.index import index_page, message_page
from palimpsest_airflow.ui.standing import known_servers, standing
from palimpsest_airflow.ui.vitals import metrics

NOTHING_FOREIGN = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
DOCUMENT = (
    f"{NOTHING_FOREIGN}; style-src 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; "
    "sandbox allow-same-origin allow-popups allow-top-navigation-by-user-activation"
)
"""A page to read: no script runs."""
APPLICATION = (
    f"{NOTHING_FOREIGN}; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data:; "
    "font-src data:; sandbox allow-scripts allow-popups"
)
"""A page that is a program: without allow-same-origin its scripts have no access to Airflow's cookies or API."""
HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "private, no-cache"}

router = APIRouter(dependencies=[Depends(requires_access_view(AccessView.WEBSITE))])


@router.get("/")
def index() -> HTMLResponse:
    """Every corpus and study with what it has published."""
    return _page(index_page(Lake.from_env(), mlflow()))


@router.get("/session", status_code=204)
def session() -> None:
    """Nothing, for whoever is logged in: how the MLflow gateway asks."""


@router.get("/mlflow")
def to_mlflow() -> RedirectResponse:
    """MLflow; where the gateway's login leads to."""
    return RedirectResponse(mlflow(), 302)


@router.get("/report/{dag_id}/{file:path}", dependencies=[Depends(requires_access_dag("GET"))])
def report(dag_id: str, file: str) -> AnyResponse:
    """The latest report of a study, loop or labelled study, and the plots and tables beside it."""
    kind, _, name = dag_id.partition("_")
    folder = {"study": "studies", "loop": "loops", "labelled": "labelled"}.get(kind)
    if folder is None:
        return _page(message_page("No report here", "Reports belong to studies; see the study Dags of this corpus."))
    try:
        published = Lake.from_env().latest(f"{folder}/{name}/report")
    except NotPublished:
        return _page(
            message_page("No report yet", f"{dag_id} has not finished a run. Its last task writes the report.")
        )
    return _serve(published.path, file or "report.html", DOCUMENT)


@router.get("/generation/{dag_id}/", dependencies=[Depends(requires_access_dag("GET"))])
def generation(dag_id: str, held: bool = False) -> HTMLResponse:
    """What a study's generation has done and cost, its servers, and what failed.

    While it runs the page is loaded again by a header: the sandbox stops a refresh that the page itself asks for.
    """
    if not dag_id.startswith("study_"):
        return _page(message_page("Nothing is generated here", "Generations belong to studies."))
    study, lake = _study(dag_id), Lake.from_env()
    try:
        planned = lake.latest(f"studies/{study.name}/plan")
    except NotPublished:
        return _page(message_page("Nothing planned yet", f"The task plan of {dag_id} writes the plan."))
    found = standing(study, lake, planned, Catalog.from_env())
    answer = _page(generation_page(found, airflow(f"dags/{dag_id}"), held=held))
    if found.runs and not held:
        answer.headers["Refresh"] = str(RELOAD_S)
    return answer


@router.get("/generation/{dag_id}/metrics/{server}/{replica}/", dependencies=[Depends(requires_access_dag("GET"))])
def server_metrics(dag_id: str, server: str, replica: int) -> HTMLResponse:
    """What one of the study's servers says at /metrics, as text; only servers of the study are asked."""
    for one in known_servers(_study(dag_id)):
        if one.name == f"{server}/{replica}" and one.url:
            try:
                return _page(metrics_page(one.name, one.url, metrics(one.url)))
            except ConnectionError as error:
                return _page(message_page("No metrics", str(error)), 502)
    raise HTTPException(404, f"{dag_id} has no server {server}/{replica} now")


@router.get("/guard/{dag_id}/", dependencies=[Depends(requires_access_dag("GET"))])
def guard(dag_id: str) -> HTMLResponse:
    """The collapse guard's verdicts on a study, and its waivers."""
    if not dag_id.startswith("study_"):
        return _page(message_page("Nothing is guarded here", "The guard judges studies; see the study Dags."))
    return _page(guard_page(Lake.from_env(), _study(dag_id).name))


@router.get("/funnel/{dag_id}/", dependencies=[Depends(requires_access_dag("GET"))])
def funnel(dag_id: str) -> HTMLResponse:
    """What became of the records of each day of a corpus."""
    kind, _, name = dag_id.partition("_")
    if kind != "corpus":
        return _page(message_page("No funnel here", "Funnels belong to corpora; see the corpus Dags."))
    if name not in {corpus.name for corpus in definitions.corpora()}:
        raise HTTPException(404, f"no corpus makes a Dag {dag_id}")
    return _page(funnel_page(Lake.from_env(), name))


@router.get("/data-docs/{file:path}")
def data_docs(file: str) -> AnyResponse:
    """Great Expectations' pages of all gates."""
    root = Path(os.environ.get("PALIMPSEST_DATA_DOCS") or state_dir() / "data_docs")
    if not file and not (root / "index.html").exists():
        return _page(message_page("No Data Docs yet", "The gate task of a corpus or study writes them."))
    return _serve(root, file or "index.html", DOCUMENT)


@router.get("/dbt-docs/{file:path}")
def dbt_docs(file: str) -> AnyResponse:
    """Dbt's own documentation of every table, as one self-contained page."""
    root = Path(os.environ.get("PALIMPSEST_DBT_DOCS") or state_dir() / "dbt_docs")
    if not (root / "static_index.html").exists():
        return _page(message_page("No dbt docs yet", "`make up` writes them when it starts; look again in a minute."))
    return _serve(root, file or "static_index.html", APPLICATION)


def _study(dag_id: str) -> Study:
    kind, _, name = dag_id.partition("_")
    found = {study.name: study for study in definitions.studies()} if kind == "study" else {}
    if name not in found:
        raise HTTPException(404, f"no study makes a Dag {dag_id}")
    return found[name]


def _serve(root: Path, file: str, policy: str) -> FileResponse:
    root = root.resolve()
    path = (root / file).resolve()
    if not path.is_relative_to(root) or not path.is_file():
        raise HTTPException(404, f"no such page: {file}")
    return FileResponse(path, headers={**HEADERS, "Content-Security-Policy": policy})


def _page(content: str, status: int = 200) -> HTMLResponse:
    return HTMLResponse(content, status, headers={**HEADERS, "Content-Security-Policy": DOCUMENT})


async def refuse(request: Request, error: HTTPException) -> AnyResponse:
    """A browser without login is sent to Airflow's login page; anything else gets the plain status."""
    wants_page = "text/html" in request.headers.get("accept", "")
    if error.status_code == 401 and wants_page:
        return RedirectResponse(get_auth_manager().get_url_login(next_url=str(request.url)), 302)
    if wants_page:
        return _page(message_page(f"Error {error.status_code}", str(error.detail)), error.status_code)
    return JSONResponse({"detail": error.detail}, error.status_code, headers=HEADERS)


app = FastAPI(title="Palimpsest", docs_url=None, redoc_url=None, openapi_url=None)
app.include_router(router)
app.add_exception_handler(HTTPException, refuse)
