"""The README's pictures, taken of the running stack: ``make up && make screenshots`` (needs chromium)."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from palimpsest.lake import REPOSITORY
from palimpsest_airflow.local.settings import USER, Settings

PICTURES = REPOSITORY / "docs" / "img"
BROWSER = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


def main(folder: Path = PICTURES) -> int:
    """Log in as a user does, visit each page, and write its picture."""
    settings = Settings.from_env()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        print("no chromium found; install it (Debian: apt-get install chromium)", file=sys.stderr)
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=BROWSER)
        page = browser.new_page(viewport={"width": 1400, "height": 880})
        log_in(page, settings)
        for name, take in {
            "airflow-study": study_run,
            "report": report,
            "data-docs": data_docs,
            "mlflow-runs": mlflow_runs,
        }.items():
            take(page, settings)
            page.wait_for_timeout(2500)  # charts draw after the page is quiet
            page.screenshot(path=folder / f"{name}.png")
            print(folder / f"{name}.png")
        browser.close()
    return 0


def log_in(page: Page, settings: Settings) -> None:
    page.goto(settings.airflow_url)
    page.fill("input[name=username]", USER)
    page.fill("input[name=password]", settings.password)
    page.click("button[type=submit]")
    page.wait_for_url(re.compile(rf"{settings.airflow_url}/(?!auth)"))


def study_run(page: Page, settings: Settings) -> None:
    page.goto(f"{settings.airflow_url}/dags/study_demo")
    page.get_by_role("link", name=re.compile(r"^20\d\d-\d\d-\d\d")).first.click()
    page.get_by_text("Task Instances").first.wait_for()


def report(page: Page, settings: Settings) -> None:
    page.goto(f"{settings.airflow_url}/palimpsest/report/study_demo/")


def data_docs(page: Page, settings: Settings) -> None:
    page.goto(f"{settings.airflow_url}/palimpsest/data-docs/")
    page.get_by_role("link", name=re.compile("mixes")).first.click()


def mlflow_runs(page: Page, settings: Settings) -> None:
    page.goto(settings.mlflow_url)
    page.get_by_text("Model training", exact=True).first.click()
    page.goto(f"{settings.mlflow_url}/#/experiments/1/runs?compareRunsMode=CHART")
    page.locator("[role=gridcell] button").first.click()  # the trainings below the study's run
    page.get_by_role("button", name="Close").first.click()  # MLflow's assistant
    page.get_by_placeholder("Search metric charts").fill("iid_loss|train_loss|long_loss")
    page.wait_for_timeout(5000)  # MLflow polls, so its network is never idle


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
