"""The plugin inside a real API server: everything loads, nothing answers without the login, no page leads out."""

from __future__ import annotations

import pytest

PAGES = [
    "/palimpsest/",
    "/palimpsest/report/study_demo/",
    "/palimpsest/report/study_demo/table.json",
    "/palimpsest/data-docs/",
    "/palimpsest/data-docs/index.html",
    "/palimpsest/dbt-docs/",
    "/palimpsest/generation/study_demo/",
    "/palimpsest/guard/study_demo/",
    "/palimpsest/funnel/corpus_sample/",
]
REDIRECTS_AND_CHECKS = ["/palimpsest/session", "/palimpsest/mlflow"]


def test_airflow_loads_the_plugin_with_every_view_and_link(server):
    assert server.api.get("plugins/importErrors")["import_errors"] == []
    (plugin,) = (p for p in server.api.get("plugins")["plugins"] if p["name"] == "palimpsest")
    views = {view["name"]: view["destination"] for view in plugin["external_views"]}
    assert views == {
        "Palimpsest": "nav",
        "Data Docs": "nav",
        "dbt docs": "nav",
        "MLflow": "nav",
        "Report": "dag",
        "Funnel": "dag",
        "Generation": "dag",
        "Guard": "dag",
    }
    assert len(plugin["global_operator_extra_links"]) == 5
    assert plugin["fastapi_apps"][0]["url_prefix"] == "/palimpsest"


def test_only_the_plugin_file_is_visible_to_the_plugin_scan(server):
    sources = [p["source"] for p in server.api.get("plugins")["plugins"]]
    assert [s for s in sources if s.startswith("$PLUGINS_FOLDER")] == ["$PLUGINS_FOLDER/palimpsest_airflow/plugin.py"]


def test_the_list_of_pages_below_is_complete(airflow_home):
    from palimpsest_airflow.ui.pages import app

    routes = {route.path for route in app.routes}
    served = {"/", "/report/{dag_id}/{file:path}", "/data-docs/{file:path}", "/dbt-docs/{file:path}"}
    served |= {
        "/funnel/{dag_id}/",
        "/guard/{dag_id}/",
        "/generation/{dag_id}/",
        "/generation/{dag_id}/metrics/{server}/{replica}/",
    }
    assert routes == served | {"/session", "/mlflow"}


@pytest.mark.parametrize("path", PAGES + REDIRECTS_AND_CHECKS)
def test_no_page_answers_without_the_login(server, path):
    assert server.anonymous.get(path).status_code == 401
    browser = server.anonymous.get(path, headers={"Accept": "text/html"})
    assert browser.status_code == 302
    assert "/auth/login" in browser.headers["location"]
    forged = server.anonymous.get(path, headers={"Authorization": "Bearer forged", "Accept": "text/html"})
    assert forged.status_code in (401, 403)
    assert "<h1>Report of demo" not in forged.text


@pytest.mark.parametrize("path", PAGES)
def test_with_the_login_every_page_is_there_and_no_script_may_touch_airflow(server, path):
    answer = server.page(path)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'self'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    sandbox = next(part for part in policy.split(";") if part.strip().startswith("sandbox"))
    assert not {"allow-scripts", "allow-same-origin"} <= set(sandbox.split()), "a script would own the session"


@pytest.mark.parametrize(
    "path",
    [
        "/palimpsest/data-docs/../airflow/secrets.json",
        "/palimpsest/data-docs/..%2fairflow%2fsecrets.json",
        "/palimpsest/data-docs/%2e%2e/airflow/passwords.json",
        "/palimpsest/data-docs//etc/passwd",
        "/palimpsest/data-docs/way_out.html",
        "/palimpsest/dbt-docs/..%2fairflow%2fsecrets.json",
        "/palimpsest/report/study_demo/..%2f..%2f..%2f..%2f..%2fstate%2fairflow%2fsecrets.json",
        "/palimpsest/report/study_..%2f..%2fstate/report.html",
    ],
)
def test_no_path_leads_out_of_the_published_folder(server, path):
    answer = server.page(path)
    assert answer.status_code == 404 or "No report" in answer.text or answer.url.path.startswith("/airflow")
    for secret in (server.settings.password, server.settings.secrets["jwt"], "not for readers", "root:"):
        assert secret not in answer.text


def test_a_study_without_report_says_what_will_write_it(server):
    answer = server.page("/palimpsest/report/study_other/")
    assert answer.status_code == 200
    assert "No report yet" in answer.text
    assert "No report here" in server.page("/palimpsest/report/corpus_sample/").text
