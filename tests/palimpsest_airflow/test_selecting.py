"""Tasks *rate*, *proxy* and *select* on a real lake: what one has made is found by the next, and by a command."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import yaml

from palimpsest import tokenizer as tok
from palimpsest.lake import Lake
from tests.training.conftest import study_content
from tests.training.selection.conftest import publish

pytestmark = pytest.mark.usefixtures("airflow_home")
MODEL = {"layers": 1, "width": 16, "mlp": 32, "heads": 2}
ASKED = {"model": MODEL, "steps": 2, "context": 32, "batch": 4, "proxies": 6, "scores": ["commonness", "likelihood"]}


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """The lake of a study that weighs scores, and what its first tasks hand on."""
    from palimpsest_airflow.tasks import selecting

    random, words = np.random.default_rng(0), [f"word{number}" for number in range(200)]
    texts = [(f"d{number:03}", " ".join(random.choice(words, 40))) for number in range(100)]
    engine = {"kind": "recorded", "file": "none"}
    content = study_content(seeds=[0], precision="fp32") | {
        "strategies": {"rephrase": {"kind": "rephrase", "generations": 1, "engine": engine}},
        "layouts": {"real": {"kind": "real"}, "simple": {"kind": "simple", "strategy": "rephrase"}},
        "selection": {"methods": ["meta_rater"], "meta_rater": ASKED},
    }
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setenv("PALIMPSEST_STUDIES", str(tmp_path))
    lake = Lake(tmp_path / "lake")
    monkeypatch.setattr(selecting, "work", lambda: nullcontext(lake))
    written = [(key, "rephrase", text) for key, text in texts]
    given = publish(lake, (texts, written), tokenizer=tok.train([text for _, text in texts], 512))
    return lake, given, {name: one.ref for name, one in given.items()}


def test_proxies_of_mapped_tasks_are_those_that_select_finds(begun):
    from palimpsest.config import load_study
    from palimpsest_airflow.tasks import selecting
    from training.selection.stage import select

    lake, given, refs = begun
    rated = selecting.rate.function("small", refs)
    assert rated == refs | {"raters": lake.latest("studies/small/raters").ref}
    made = [selecting.proxy.function("small", rated, number) for number in (4, 0)]
    assert [ref["uri"].split("/")[-2] for ref in made] == ["004", "000"]
    select(load_study("small"), lake, **given)
    parents = lake.latest("studies/small/scores/meta_rater").manifest["parents"]
    assert [parent["dataset"].split("/")[-1] for parent in parents[2:5]] == [*ASKED["scores"], "raters"]
    found = [parent["digest"] for parent in parents[4:]]
    assert found[0] == rated["raters"]["digest"]
    assert [found[1 + 4], found[1]] == [ref["digest"] for ref in made], "not trained again"
    assert len(found) == 1 + ASKED["proxies"]
