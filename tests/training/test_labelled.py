"""A labelled study's report: page, Markdown and MLflow say what the card says."""

from __future__ import annotations

import json
import re

import pytest

from palimpsest.config import load_labelled
from palimpsest.labelled import card, stages
from palimpsest.lake import REPOSITORY
from training import track
from training.labelled import report


@pytest.fixture
def told(lake):
    study = load_labelled(REPOSITORY / "dags" / "labelled" / "digits.yaml").model_copy(update={"seeds": [0, 1]})
    planned = stages.plan(study, lake)
    measured = [stages.measure(study, lake, planned, seed) for seed in study.seeds]
    return study, card.card(study, lake, planned, measured)


def test_page_markdown_and_mlflow_have_the_card(told, lake, store):
    study, published = told
    table = json.loads(published.file("table.json").read_text())
    parent = track.open_parent(study)
    found = report(study, lake, published, parent_run_id=parent)
    assert found.extra["figures"] == ["arms", "curve", "coverage"]
    page, text = (found.file(f"report.{kind}").read_text() for kind in ("html", "md"))
    arms = {row["arm"]: row for row in table["arms"]}
    own = f"{100 * arms['verified']['balanced_accuracy']:.1f} ± "
    for content in (page, text):
        assert own in content and table["headline"] in content
        assert all(verdict["gate"] in content for verdict in table["verdicts"])
        assert not re.search(r"\bnan\b|None|Undefined", content)
    assert page.count("<figure") == 3 and "<script" not in page
    from mlflow import MlflowClient

    data = MlflowClient(track.tracking_uri()).get_run(parent).data
    assert data.metrics["balanced_accuracy/verified"] == pytest.approx(arms["verified"]["balanced_accuracy"])
    assert data.metrics["curve/balanced_accuracy"] == pytest.approx(table["curve"][-1]["balanced_accuracy"])
    assert data.tags["palimpsest.labelled.L5.separation"] == "passed"
    assert data.tags["headline"] == table["headline"]
    assert "python -m training labelled digits" in data.tags["mlflow.note.content"]
