"""Task waive: silent where nothing is to be waived, and an answer of a person that is kept where something is."""

from __future__ import annotations

import datetime as dt
import json
from types import SimpleNamespace

import pytest
import yaml

from expectations.gate import gate_study
from expectations.guard import judge, waivers
from expectations.verdicts import GateFailed
from palimpsest.catalog import Catalog
from palimpsest.config import load_study
from tests.conftest import GARDEN
from tests.expectations.conftest import world  # noqa: F401
from tests.expectations.defects import change, put

pytestmark = pytest.mark.usefixtures("airflow_home")
REPORT = (
    "G7 passed: a model that also learns synthetic rephrases is 4% worse\n  1.040, 1.042 by seed\nG11 passed: it does"
)
WHEN = dt.datetime.now(dt.UTC)
DEEP = change("mix_shares", lambda rows: put(rows, [2], depth=2, self_consuming=True))


class Memory(dict):
    def set(self, key, value):
        self[key] = value


@pytest.fixture
def stopped(world, tmp_path, monkeypatch):  # noqa: F811
    """A study of depth two that its gate has stopped: (world, refs so far, breaches)."""
    content = json.loads(world.study.model_dump_json(exclude={"path"}, exclude_defaults=True))
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "toy.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "corpora").mkdir()
    (tmp_path / "corpora" / "garden.yaml").write_text(GARDEN)
    monkeypatch.setenv("PALIMPSEST_STUDIES", str(tmp_path / "studies"))
    monkeypatch.setenv("PALIMPSEST_CORPORA", str(tmp_path / "corpora"))
    catalog = Catalog.from_env()
    catalog.ready()
    catalog.close()
    found = world.publish(DEEP)
    data = {name: found[name] for name in ("split", "generations", "mixes")}
    with pytest.raises(GateFailed) as failure:
        gate_study(load_study("toy"), world.lake, **data)
    return world, {name: published.ref for name, published in data.items()}, failure.value.waivable


def operator(so_far):
    from airflow.sdk import Param

    from palimpsest_airflow.tasks.waive import Waive

    return Waive(task_id="waive", study="toy", so_far=so_far, params={"why": Param("", type="string")})


def context(breaches):
    pushed = {}
    ti = SimpleNamespace(
        xcom_pull=lambda task_ids, key: {"breaches": breaches, "probes": REPORT}[key],
        xcom_push=lambda key, value: pushed.update({key: value}),
        id="1",
    )
    return {"ti": ti, "task_instance": ti, "task_state_store": Memory()}


def answer(option, why="we measure what depth two costs"):
    return {
        "chosen_options": [option],
        "params_input": {"why": why},
        "responded_at": WHEN,
        "responded_by_user": {"id": "1", "name": "Ada"},
    }


def answered(so_far, breaches, event):
    from airflow.sdk.execution_time.context import set_current_context

    found = context(breaches)
    with set_current_context(found):
        return operator(so_far).execute_complete(found, event)


def test_a_study_that_its_gate_let_through_is_asked_nothing():
    refs = {"gate": {"uri": "x", "digest": "y"}}
    assert operator(refs).execute(context(None)) == refs


def test_the_question_has_the_breaches_what_to_do_instead_and_the_report_of_the_probes(stopped, monkeypatch):
    from airflow.providers.standard.operators.hitl import ApprovalOperator

    _, so_far, breaches = stopped
    monkeypatch.setattr(ApprovalOperator, "execute", lambda self, context: self.body)
    asked = operator(so_far).execute(context(breaches))
    assert breaches[0]["sentence"] in asked
    assert asked.endswith("rephrases is 4% worse; 1.040, 1.042 by seed\n- G11 passed: it does")
    assert "*Instead:* ask a generator that fewer models lie before" in asked
    assert "a person answers for it in a waiver" in asked


def test_what_stopped_a_study_is_in_mlflow_until_it_goes_on(stopped):
    from airflow.sdk.execution_time.context import set_current_context
    from mlflow import MlflowClient

    from palimpsest_airflow.tasks.study import gate
    from training import track

    _, so_far, breaches = stopped
    found = context(None)
    with set_current_context(found):
        assert gate.function("toy", so_far) == so_far
    client, study = MlflowClient(track.tracking_uri()), load_study("toy")
    (run,) = client.search_runs([client.get_experiment_by_name("toy").experiment_id])
    assert run.info.status == "FAILED"
    assert run.data.tags["palimpsest.guard"] == "failed"
    assert run.data.tags["palimpsest.guard.G5"] == f"failed: {breaches[0]['sentence']}"
    assert run.data.metrics["guard/G5_depth/stitched"] == 2
    assert track.open_parent(study) == run.info.run_id
    assert client.get_run(run.info.run_id).info.status == "RUNNING"


def test_rejecting_ends_the_run_and_says_what_was_found(stopped):
    from airflow.sdk.exceptions import AirflowFailException

    _, so_far, breaches = stopped
    with pytest.raises(AirflowFailException, match="no waiver, says Ada at .* up to 2 models lie between the text"):
        answered(so_far, breaches, answer("Reject"))


def test_approving_is_kept_with_name_reason_and_verdicts_and_the_study_goes_on(stopped):
    world, so_far, breaches = stopped  # noqa: F811
    refs = answered(so_far, breaches, answer("Approve"))
    gate = world.lake.open(refs["gate"]["uri"], refs["gate"]["digest"])
    assert gate.extra["success"]
    waiver = world.lake.latest("studies/toy/waivers")
    told = json.loads(waiver.file("waiver.json").read_text())
    assert (told["by"], told["why"]) == ("Ada", "we measure what depth two costs")
    assert told["probes"] == REPORT, "what was before who signed"
    assert told["at"] == WHEN.isoformat(timespec="seconds")
    assert [c["gate"] for c in told["covers"]] == [b["gate"] for b in breaches] == ["G5"]


def test_approving_without_a_reason_is_no_answer(stopped):
    from airflow.sdk.exceptions import AirflowFailException

    world, so_far, breaches = stopped  # noqa: F811
    with pytest.raises(AirflowFailException, match="a waiver needs its reason in a sentence"):
        answered(so_far, breaches, answer("Approve", why=""))
    assert world.lake.versions("studies/toy/waivers") == []


def test_the_page_of_the_guard_shows_verdicts_and_waivers(stopped):
    from palimpsest_airflow.ui.guard import guard_page

    world, so_far, breaches = stopped  # noqa: F811
    before = guard_page(world.lake, "toy")
    assert "The study is stopped here" in before
    assert "up to 2 models lie between the text of mix stitched and people" in before
    answered(so_far, breaches, answer("Approve"))
    after = guard_page(world.lake, "toy")
    assert "The study may train" in after
    assert "waived by Ada until" in after
    assert "<td>we measure what depth two costs</td>" in after


def test_the_page_says_the_gates_last_word_on_unchanged_data(stopped, monkeypatch):
    from palimpsest_airflow.ui.guard import guard_page

    world, so_far, breaches = stopped  # noqa: F811
    answered(so_far, breaches, answer("Approve"))
    data = {name: world.lake.open(ref["uri"]) for name, ref in so_far.items()}
    with monkeypatch.context() as later:
        later.setattr(judge, "today", lambda: WHEN.date() + dt.timedelta(days=waivers.DAYS + 1))
        with pytest.raises(GateFailed):
            gate_study(load_study("toy"), world.lake, **data)
    assert "The study is stopped here" in guard_page(world.lake, "toy")
    gate_study(load_study("toy"), world.lake, **data)
    assert "The study may train" in guard_page(world.lake, "toy")
