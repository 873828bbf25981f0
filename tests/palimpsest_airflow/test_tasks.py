"""What the tasks decide for themselves: which days a run takes, and when it is worth trying again."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.usefixtures("airflow_home")
START, END = dt.date(2026, 10, 1), dt.date(2026, 10, 28)


def context(run_type: str, params: dict | None = None, interval: tuple[str, str] | None = None) -> dict:
    found = {"params": params or {}, "dag_run": SimpleNamespace(run_type=run_type)}
    if interval:
        start, end = (dt.datetime.fromisoformat(stamp + "+00:00") for stamp in interval)
        found |= {"data_interval_start": start, "data_interval_end": end}
    return found


def days(*arguments, **more) -> tuple[str, str, int]:
    from palimpsest_airflow.tasks.corpus import run_days

    found = run_days(context(*arguments, **more), START, END)
    return str(found[0]), str(found[-1]), len(found)


def test_an_interval_takes_its_own_day():
    one = days("backfill", interval=("2026-10-03T00:00:00", "2026-10-04T00:00:00"))
    assert one == ("2026-10-03", "2026-10-03", 1)
    week = days("scheduled", interval=("2026-10-04T00:00:00", "2026-10-11T00:00:00"))
    assert week == ("2026-10-04", "2026-10-10", 7)
    hour = days("scheduled", interval=("2026-10-04T05:00:00", "2026-10-04T06:00:00"))
    assert hour == ("2026-10-04", "2026-10-04", 1)


def test_a_run_by_hand_takes_the_days_it_is_given_or_all():
    assert days("manual", {"from": "2026-10-05", "to": "2026-10-07"}) == ("2026-10-05", "2026-10-07", 3)
    assert days("manual", {"from": "2026-10-27", "to": None}) == ("2026-10-27", "2026-10-28", 2)
    assert days("manual", interval=("2026-11-20T00:00:00", "2026-11-21T00:00:00")) == ("2026-10-01", "2026-10-28", 28)


def test_dates_the_wrong_way_round_are_named():
    with pytest.raises(ValueError, match=r"'to' \(2026-10-02\) lies before 'from' \(2026-10-05\)"):
        days("manual", {"from": "2026-10-05", "to": "2026-10-02"})


def test_a_range_without_a_day_of_the_corpus_is_refused():
    with pytest.raises(ValueError, match="2026-11-05 to 2026-11-06 lies outside the corpus' days 2026-10-01 to"):
        days("manual", {"from": "2026-11-05", "to": "2026-11-06"})


@pytest.fixture
def crawled(lake, tmp_path, monkeypatch):
    """A corpus file, and what makes a crawl of one page on a day of October."""
    from palimpsest.catalog import Catalog
    from palimpsest.fetch.verify import check_warc
    from palimpsest.fetch.visits import Visit, rows_of
    from palimpsest.fetch.warcfile import message, record, sha1
    from palimpsest.lake import Facts

    crawl = '{sites: ["https://a.example/"], agent: "tests/1 (+mail@host)"}'
    source = f"source: {{kind: crawl, crawl: {crawl}}}"
    (tmp_path / "site.yaml").write_text(f"name: site\ndescription: x\n{source}\nstart: {START}\nend: {END}\n")
    monkeypatch.setenv("PALIMPSEST_CORPORA", str(tmp_path))
    Catalog.from_env().migrate()

    def make(number: int):
        url, body = f"https://a.example/{number}", b"<p>The harbour wall was finished in the spring.</p>"
        when = dt.datetime(2026, 10, number, 5, tzinfo=dt.UTC)
        block = message(200, "OK", [(b"Content-Type", b"text/html")], body)

        def write(directory) -> Facts:
            content = record("response", url, when, block, WARC_Payload_Digest=sha1(body))
            (directory / "pages.warc.gz").write_bytes(content)
            return Facts(rows_of([Visit(url, 0, "captured")]), check_warc(directory / "pages.warc.gz"))

        return lake.publish(f"corpora/site/crawls/{when:%Y%m%dT%H%M%S%fZ}", write)

    return make


def extracted(crawl, monkeypatch, **params) -> list[str]:
    """Days that the task has extracted of a run that has made this crawl."""
    from palimpsest_airflow.tasks import common, corpus

    asked = context("scheduled", params, ("2026-10-02T00:00:00", "2026-10-03T00:00:00"))
    asked["ti"] = SimpleNamespace(xcom_push=lambda *pushed: None)
    for module in (common, corpus):
        monkeypatch.setattr(module, "get_current_context", lambda: asked)
    refs = corpus.extract.function("site", crawl.ref)
    return [ref["uri"].split("/")[3] for ref in refs]


def test_a_run_of_a_crawled_corpus_catches_up_on_what_earlier_ones_left(crawled, monkeypatch):
    crawled(3)  # its run failed before it was extracted
    assert extracted(crawled(10), monkeypatch) == ["2026-10-03", "2026-10-10"]
    assert extracted(crawled(17), monkeypatch, **{"from": "2026-10-10", "to": None}) == ["2026-10-10", "2026-10-17"]
    with pytest.raises(ValueError, match="no crawl captured pages from 2026-10-04 to 2026-10-05; trigger again"):
        extracted(crawled(20), monkeypatch, **{"from": "2026-10-04", "to": "2026-10-05"})


def test_a_crawl_outside_the_days_of_its_corpus_is_an_error(crawled, monkeypatch):
    with pytest.raises(ValueError, match="2026-10-30 is outside the corpus' days 2026-10-01 to 2026-10-28"):
        extracted(crawled(30), monkeypatch)


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (ConnectionResetError("peer"), True),
        (TimeoutError("slow"), True),
        (ValueError("bad data"), False),
        (OSError(28, "No space left on device"), False),
        (KeyError("bug"), False),
        (ModuleNotFoundError("bug"), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_weather_is_tried_again_and_bad_data_is_not(error, again):
    from airflow.sdk import RetryAction

    from palimpsest_airflow.tasks.common import DEFAULTS

    decision = DEFAULTS["retry_policy"].evaluate(error, try_number=1, max_tries=3)
    assert decision.action == (RetryAction.RETRY if again else RetryAction.FAIL)


def test_lake_and_gate_errors_count_as_bad_data():
    from airflow.sdk import RetryAction

    from expectations.verdicts import GateFailed
    from palimpsest.config import ConfigError
    from palimpsest_airflow.tasks.common import DEFAULTS

    for error in (GateFailed("no"), ConfigError("no")):
        assert DEFAULTS["retry_policy"].evaluate(error, try_number=1, max_tries=3).action == RetryAction.FAIL


@pytest.fixture
def keyed(tmp_path, monkeypatch):
    """A study whose server names the connection 'our-vllm'."""
    from tests.palimpsest.conftest import write_study

    server = {"model": "org/tiny", "revision": "0" * 40, "endpoints": ["http://gpu-box:8000"], "connection": "our-vllm"}
    asked = {"kind": "rephrase", "generations": 1, "engine": {"kind": "vllm", "server": "writer"}}
    layouts = {"real": {"kind": "real"}}
    study = write_study(
        tmp_path,
        servers={"writer": server, "unused": {**server, "connection": "none"}},
        strategies={"rephrase": asked},
        layouts=layouts,
        mixes={"real": {"layout": "real", "epochs": 1}},
    )
    monkeypatch.delenv("PALIMPSEST_VLLM_API_KEY", raising=False)
    monkeypatch.setenv("PALIMPSEST_VLLM_API_KEY_OUR_VLLM", "of the run before")
    return study, study.servers["writer"]


def test_the_key_of_a_server_is_the_password_of_its_airflow_connection(keyed, monkeypatch):
    from palimpsest.serve import api_key
    from palimpsest_airflow.tasks.serving import with_keys

    study, server = keyed
    monkeypatch.setenv("AIRFLOW_CONN_OUR-VLLM", '{"conn_type": "generic", "password": "not for logs"}')
    with_keys(study)
    assert api_key(server) == "not for logs"


@pytest.mark.parametrize("connection", [None, '{"conn_type": "generic"}'], ids=["missing", "without password"])
def test_a_connection_that_is_missing_or_holds_no_key_is_named(keyed, monkeypatch, connection):
    from palimpsest.config import ConfigError
    from palimpsest_airflow.tasks.serving import with_keys

    if connection:
        monkeypatch.setenv("AIRFLOW_CONN_OUR-VLLM", connection)
    with pytest.raises(ConfigError, match=r"writer.connection: Airflow has no connection 'our-vllm' with a pass"):
        with_keys(keyed[0])


def test_a_round_whose_dag_failed_is_not_started_again_by_itself_but_weather_is():
    from airflow.providers.standard.operators.trigger_dagrun import AirflowException
    from airflow.sdk import RetryAction

    from palimpsest_airflow.tasks.loop import MENDED_THERE

    failed = MENDED_THERE.evaluate(AirflowException("study_x_round_1 failed with failed state"), 1, 3)
    assert failed.action == RetryAction.FAIL and "mended there" in failed.reason
    assert MENDED_THERE.evaluate(ConnectionError("away"), 1, 3).action != RetryAction.FAIL
