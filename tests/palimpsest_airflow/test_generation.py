"""The page of a study's generation: made of a real plan and ledger, while a server answers, and after it failed."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palimpsest.catalog import Catalog
from palimpsest.config import Study
from palimpsest.generate.plan import plan
from palimpsest.generate.run import generate_shard
from palimpsest.lake import Facts, Lake
from palimpsest.split import split
from palimpsest_airflow.ui.html import duration
from tests.palimpsest.conftest import document, write_study
from tests.palimpsest.generate.faulty import Faulty

PAGE = "/palimpsest/generation/study_small/"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
HOSTILE = "<script>steal()</script> [[400]]"
"""The server refuses a prompt with this in it, and repeats the prompt in its message."""
REAL = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="palimpsest-1474de9cbd2ae389"} 3.0
vllm:num_requests_waiting{engine="0",model_name="palimpsest-1474de9cbd2ae389"} 1.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="palimpsest-1474de9cbd2ae389",reason="capacity"} 1.0
vllm:kv_cache_usage_perc{engine="0",model_name="palimpsest-1474de9cbd2ae389"} 0.25
vllm:prefix_cache_queries_total{engine="0",model_name="palimpsest-1474de9cbd2ae389"} 1320.0
vllm:prefix_cache_queries_created{engine="0",model_name="palimpsest-1474de9cbd2ae389"} 1.7952743251667383e+09
vllm:prefix_cache_hits_total{engine="0",model_name="palimpsest-1474de9cbd2ae389"} 896.0
vllm:prompt_tokens_total{engine="0",model_name="palimpsest-1474de9cbd2ae389"} 1320.0
vllm:prompt_tokens_by_source_total{engine="0",model_name="palimpsest-1474de9cbd2ae389",source="local_compute"} 424.0
vllm:generation_tokens_total{engine="0",model_name="palimpsest-1474de9cbd2ae389"} 320.0
vllm:iteration_tokens_total_bucket{engine="0",le="1.0",model_name="palimpsest-1474de9cbd2ae389"} 4.0
"""
"""Lines of vLLM 0.32's own."""


def test_the_figures_are_those_of_vllm():
    from palimpsest_airflow.ui.vitals import Vitals, vitals

    assert vitals(REAL) == Vitals(3, 1, 0.25, 896 / 1320, 1320, 320)
    two = vitals(REAL + REAL.replace('engine="0"', 'engine="1"').replace("} 0.25", "} 0.75"))
    assert (two.running, two.cache_use, two.prefix_hits) == (6, 0.75, 896 / 1320)
    assert vitals("<html>not metrics</html>") == Vitals()


@pytest.fixture(scope="module")
def studied(server, tmp_path_factory) -> Iterator[tuple[Study, Faulty]]:
    """A study planned and half generated on a server that refuses one document; its name is that of its Dag."""
    state, lake = server.settings.state, Lake(server.settings.lake)
    folder = tmp_path_factory.mktemp("tokenizer")
    with Faulty(model="org/tiny") as vllm, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PALIMPSEST_STATE", str(state))
        documents = lake.publish("corpora/sample/documents", _documents)
        entry = {"model": "org/tiny", "revision": COMMIT, "tokenizer": str(folder), "endpoints": [vllm.url]}
        asked = {"generations": 2, "engine": {"kind": "vllm", "server": "writer"}, "sampling": {"max_tokens": 64}}
        strategies = {kind: {"kind": kind, **asked} for kind in ("rephrase", "continuation")}
        strategies["augment"] = {"kind": "augment", "generations": 2, "engine": {"kind": "augment"}}
        layouts = {"real": {"kind": "real"}, "simple": {"kind": "simple", "strategy": "rephrase"}}
        mixes = {"real": {"layout": "real", "epochs": 4}, "simple": {"layout": "simple", "f": 0.75, "epochs": 2}}
        own = {"servers": {"writer": entry}, "strategies": strategies, "layouts": layouts, "mixes": mixes}
        (folder / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
        study = write_study(server.studies, **own, budget_gpu_hours=1)
        parts = split(study, lake, documents=[documents])
        (folder / "tokenizer.json").write_bytes(parts.file("tokenizer.json").read_bytes())
        planned = plan(study, lake, split=parts)
        generate_shard(study, lake, split=parts, plan=planned, shard=0)
        generate_shard(study, lake, split=parts, plan=planned, shard=1)
        yield study, vllm
    (server.studies / "small.yaml").unlink()


def _documents(directory: Path) -> Facts:
    rows = [document(n) for n in range(24)]
    for row in rows[1::4]:
        row["text"] = f"{row['text']}\n{HOSTILE}"
    pq.write_table(pa.Table.from_pylist(rows), directory / "documents.parquet")
    return Facts()


def test_it_counts_what_is_planned_done_failed_and_left(server, studied):
    study, _ = studied
    page = server.page(PAGE)
    assert page.status_code == 200
    found = {cells[0]: [int(n.replace(",", "")) for n in cells[3:7]] for cells in rows(page.text, "Plan and ledger")}
    catalog = Catalog(f"sqlite:///{server.settings.state / 'catalog.db'}")
    failed = catalog.failed_requests(study.name)
    catalog.close()
    assert failed
    assert found.keys() == {"rephrase", "continuation", "augment"}
    for name, (planned, done, refused, left) in found.items():
        assert planned == done + refused + left == 40
        assert refused == sum(row["strategy"] == name for row in failed)
        assert left > 0


def test_engine_seconds_add_up(server, studied):
    catalog = Catalog(f"sqlite:///{server.settings.state / 'catalog.db'}")
    attempts = catalog.usage("small")
    catalog.close()
    table = rows(server.page(PAGE).text, "Engine seconds")
    assert [row[0] for row in table] == ["all", "shard 0", "shard 1"]
    assert sum(int(row[3]) for row in table[1:]) == int(table[0][3]) == len(attempts)
    assert int(table[0][11].replace(",", "")) == sum(row["requests"] for row in attempts)
    names = ("wall", "paid", "useful", "repaid", "failed", "idle")
    wall, paid, useful, repaid, failed, idle = (sum(row[f"{name}_seconds"] for row in attempts) for name in names)
    assert wall == pytest.approx(paid + idle, abs=0.05) and paid == pytest.approx(useful + repaid + failed, abs=0.05)
    assert table[0][4:11] == [duration(seconds) for seconds in (wall, paid, useful, 0, repaid, failed, idle)]


def attempt(n: int, state: str = "done", shard: int = 0, **seconds: float) -> dict:
    """A line of the catalog's, the ``n``th of its study."""
    spent = dict.fromkeys((f"{name}_seconds" for name in ("wall", "paid", "useful", "repaid", "failed", "idle")), 0.0)
    spent |= {f"{name}_seconds": value for name, value in seconds.items()}
    started = dt.datetime(2030, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=n)
    return {
        "shard": shard,
        "engine": "vllm",
        "state": state,
        "started_at": started,
        "requests": 1,
        "output_tokens": 8,
    } | spent


def test_what_is_not_stored_is_in_flight_until_its_attempt_ends():
    from palimpsest_airflow.ui.seconds import seconds_of

    running = attempt(1, "running", wall=7, paid=7, useful=2, repaid=5)
    (shard, total) = table_rows(seconds_of([running]))
    assert shard[4:11] == total[4:11] == ["7.0 s", "7.0 s", "2.0 s", "5.0 s", "0.0 s", "0.0 s", "0.0 s"]
    (shard, _) = table_rows(seconds_of([running | {"state": "dead"}]))
    assert shard[4:11] == ["7.0 s", "7.0 s", "2.0 s", "0.0 s", "5.0 s", "0.0 s", "0.0 s"]


def test_attempts_are_added_by_shard_and_folded_with_their_times():
    from palimpsest_airflow.ui.seconds import ATTEMPTS, seconds_of

    many = [attempt(n, wall=1, paid=1, useful=1) for n in range(ATTEMPTS + 5)]
    page = seconds_of([*many, attempt(99, "failed", shard=1, wall=1, idle=1)])
    found = table_rows(page)
    assert [row[:4] for row in found] == [
        ["all", "", "", "36"],
        ["shard 0", "vllm", "done", "35"],
        ["shard 1", "vllm", "failed", "1"],
    ]
    first, second = page.split("<details>")[1:]
    assert first.count("<tr") == ATTEMPTS + 1 and "2030-01-01 00:00:34" in first and "2030-01-01 00:00:04" not in first
    assert "5 older attempts are not shown" in first and "not shown" not in second


def test_the_page_is_loaded_again_while_an_attempt_runs_unless_it_is_held(server, studied):
    assert "refresh" not in server.page(PAGE).headers
    catalog = Catalog(f"sqlite:///{server.settings.state / 'catalog.db'}")
    line = {key: value for key, value in attempt(1, "running").items()} | {"study": "small", "model": "", "worker": ""}
    try:
        catalog.record_usage("test", **line, input_tokens=0)
        assert server.page(PAGE).headers["refresh"] == "10"
        held = server.page(f"{PAGE}?held=1")
        assert "refresh" not in held.headers and "Reload every few seconds" in held.text
    finally:
        catalog.record_usage("test", **line | {"state": "dead", "requests": 0}, input_tokens=0)
        catalog.close()
    assert "refresh" not in server.page(PAGE).headers


def test_a_replay_is_not_promised_to_help_what_is_not_recorded():
    from palimpsest_airflow.ui.generation import generation_page
    from palimpsest_airflow.ui.standing import Standing

    def page(cause: str) -> str:
        now = dt.datetime.now(dt.UTC)
        return generation_page(Standing("small", 1, now, [], [], None, {("rephrase", cause): 1}, []), "dags/small")

    assert "That does not help those <i>not recorded</i>" in page("not_recorded")
    assert "not recorded" not in page("bad_request")


def test_the_end_of_a_log_that_is_not_shown_is_not_announced():
    from palimpsest_airflow.ui.standing import _why

    error = "it ended with status 1; the end of its log, /state/0.log:\n  boom"
    assert _why(error) == "it ended with status 1; its log: /state/0.log"
    assert _why(None) == ""


def test_what_an_engine_said_is_shown_as_text(server, studied):
    page = server.page(PAGE).text
    assert "steal()" in page
    assert "<script" not in page
    assert "&lt;script&gt;steal()" in page
    assert "Replay failed requests" in page


def test_a_server_is_shown_as_it_is_and_its_metrics_as_text(server, studied):
    _, vllm = studied
    (row,) = rows(server.page(PAGE).text, "Servers")
    assert row[0].startswith("writer/0 org/tiny@0123456789ab") and vllm.url in row[0]
    assert row[1] == "endpoint"
    metrics = server.page(f"{PAGE}metrics/writer/0/")
    assert metrics.status_code == 200
    assert "vllm:num_requests_running" in metrics.text
    assert server.page(f"{PAGE}metrics/writer/7/").status_code == 404
    assert server.page("/palimpsest/generation/study_demo/metrics/writer/0/").status_code == 404
    vllm.metrics = False
    try:
        (row,) = rows(server.page(PAGE).text, "Servers")
        assert row[1] == "endpoint" and "answers; no /metrics" in row[0]
    finally:
        vllm.metrics = True
    vllm.stop()
    try:
        (row,) = rows(server.page(PAGE).text, "Servers")
        assert row[1] == "away"
        gone = server.page(f"{PAGE}metrics/writer/0/")
        assert gone.status_code == 502 and f"{vllm.url}/metrics" in gone.text
    finally:
        vllm.start()


def test_both_pages_ask_for_the_login_and_run_no_script(server, studied):
    for path in (PAGE, f"{PAGE}metrics/writer/0/"):
        assert server.anonymous.get(path).status_code == 401
        policy = server.page(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy and "allow-scripts" not in policy


def test_a_study_without_a_plan_and_a_dag_without_a_study_are_told_apart(server, studied):
    assert "Nothing planned yet" in server.page("/palimpsest/generation/study_demo/").text
    assert "Nothing is generated here" in server.page("/palimpsest/generation/corpus_sample/").text
    for dag in ("study_", "study_other", "study_..%2fsmall"):
        assert server.page(f"/palimpsest/generation/{dag}/").status_code == 404


def rows(page: str, heading: str) -> list[list[str]]:
    """Cells of the table below a heading, as a reader sees them."""
    return table_rows(page.split(f"<h2>{heading}</h2>")[1].split("<h2>")[0])


def table_rows(html: str) -> list[list[str]]:
    table = html.split("<tbody>")[1].split("</tbody>")[0]
    found = re.findall(r"<tr.*?>(.*?)</tr>", table)
    cells = [re.findall(r"<td.*?>(.*?)</td>", row) for row in found]
    return [[" ".join(re.sub(r"<.*?>", " ", cell).split()) for cell in row] for row in cells]
