"""A loop's rounds on a real vLLM: each arm's newest model writes, and only what is not in the ledger is asked."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
import yaml

from expectations.__main__ import main as expectations
from palimpsest import serve
from palimpsest.catalog import Catalog
from palimpsest.cli import main as palimpsest
from palimpsest.config import load_loop
from palimpsest.generate.ledger import Ledger
from palimpsest.lake import REPOSITORY
from tests.palimpsest.conftest import publish_corpus, write_study
from tests.vllm.conftest import QUICK
from training import track
from training.__main__ import main as training
from training.analysis import loop_results
from training.rounds import report, rounds

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1200)]
STAGES = (
    *((palimpsest, stage) for stage in ("split", "plan", "generate", "build")),
    (expectations, "study"),
    *((training, stage) for stage in ("tokenize", "train")),
)


@pytest.fixture
def loop(lake, tmp_path, monkeypatch, vllm_environment):
    folder = tmp_path / "dags" / "loops"
    folder.mkdir(parents=True)
    write_study(tmp_path)
    study = yaml.safe_load((tmp_path / "small.yaml").read_text())
    content = yaml.safe_load((REPOSITORY / "dags" / "loops" / "cpython.yaml").read_text())
    content |= {
        "name": "ring",
        "corpora": ["sample"],
        "rounds": 2,
        "passes": 2,
        "real_share": 1.0,
        "arms": {"replace": {"policy": "replace"}, "accumulate": {"policy": "accumulate"}},
        "server": {"gpus": 0, "context": 64, "arguments": QUICK, "ready_within_s": 600},
        "sampling": {"max_tokens": 48},
        "validation": study["validation"],
        "tokenizer": study["tokenizer"],
    }
    model = {"layers": 2, "width": 64, "mlp": 192, "heads": 2}  # vLLM's CPU attention knows no heads of width 8
    content["training"] = study["training"] | {"model": model, "seeds": [0], "reference_shares": [], "context": 64}
    (folder / "ring.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setenv("PALIMPSEST_STUDIES", str(tmp_path / "dags" / "studies"))
    publish_corpus(lake, 24)
    Catalog.from_env().migrate()
    yield load_loop("ring")
    serve.stop(None)


def test_models_learn_from_what_the_models_before_them_wrote(lake, loop, capsys, tmp_path):
    asked = []
    for name in loop.studies:
        before = len(Ledger(lake).read())
        for command, stage in STAGES:
            assert command([stage, name]) == 0, f"{stage} {name}: {capsys.readouterr().err}"
        asked.append(len(Ledger(lake).read()) - before)
    documents = lake.latest("studies/ring_round_1/split").extra["train_documents"]
    # round 1: both arms ask the same of the same model; round 2: each its own, and the first text of accumulate is kept
    assert asked == [0, documents, 2 * documents]

    found = rounds(loop, lake)
    assert [one.number for one in found] == [0, 1, 2]
    lineage = {
        arm: json.loads((found[2].runs[f"{arm}-s0"].path / "model" / "lineage.json").read_text())
        for arm in ("real", "replace", "accumulate")
    }
    assert [lineage[arm]["depth"] for arm in ("real", "replace", "accumulate")] == [0, 2, 2]
    published = report(loop, lake, parent_run_id=track.open_parent(loop))
    page = loop_results.write(loop, lake, published, tmp_path / "results").read_text(encoding="utf-8")
    assert published.extra["headline"] in page and "- round 1, G2: mix replace: 0% of what is trained on" in page
    rows = json.loads(published.file("table.json").read_text())["rows"]
    shares = {(row["round"], row["arm"]): row["real_share"] for row in rows}
    assert shares[1, "replace"] == 0 and 0 < shares[2, "accumulate"] < shares[1, "accumulate"] < 1
    assert all(0 < row["texts"] <= documents for row in rows if row["arm"] != "real")

    # another round 0: what was made after the old one is no part of this loop any more
    file = loop.path
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"passes": 3}))
    for command, stage in STAGES:
        assert command([stage, loop.studies[0]]) == 0, capsys.readouterr().err
    assert [one.number for one in rounds(load_loop("ring"), lake)] == [0]


def test_in_a_continual_loop_each_round_writes_over_real_text_of_its_own(lake, loop, capsys):
    arms = {"half": {"policy": "replace", "real": 0.5}}
    changes = {"rounds": 1, "arms": arms, "continual": {"by": "hash", "replay": 0.25}}
    loop.path.write_text(yaml.safe_dump(yaml.safe_load(loop.path.read_text()) | changes))
    loop = load_loop("ring")
    for name in loop.studies:
        for command, stage in STAGES:
            assert command([stage, name]) == 0, f"{stage} {name}: {capsys.readouterr().err}"
    splits = [lake.latest(f"studies/{name}/split") for name in loop.studies]
    first, second = (set(pq.read_table(s.file("train.parquet"))["document_id"].to_pylist()) for s in splits)
    assert second - first and 0 < len(second & first) <= len(second) / 3
    assert len(Ledger(lake).read()) == len(second), "one text per document of the second round"
    (before, after) = rounds(loop, lake)
    assert json.loads((after.runs["half-s0"].path / "model" / "lineage.json").read_text())["depth"] == 1
    table = json.loads(report(loop, lake).file("table.json").read_text())
    assert table["base"] == "its real text alone" and before.split.digest != after.split.digest
    assert next(row for row in table["rows"] if row["arm"] == "half")["real_share"] == pytest.approx(0.5, abs=0.15)
