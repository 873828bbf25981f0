"""The shipped study of aligned text, stage by stage in one process: what is chosen, what it changes, who says so.

With the arms of the shipped study of selected text, half of the texts by a score and by lot, so that one build, one
gate and one set of trainings serve both.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter

import pyarrow.parquet as pq
import pytest
import yaml
from mlflow import MlflowClient

from expectations.gate import gate_study
from expectations.guard.history import publish_history
from palimpsest.config import load_corpus, load_study, studies_dir
from palimpsest.documents import build_documents
from palimpsest.generate.plan import plan
from palimpsest.generate.publish import publish_generations
from palimpsest.generate.run import generate_shard
from palimpsest.ingest.stage import extract_days
from palimpsest.lake import Lake
from palimpsest.mixes import build_mixes
from palimpsest.split import split
from training import signs, track
from training.analysis.report import load_table, report
from training.pack import tokenize
from training.pretrain import plan_runs, train
from training.selection.stage import select
from training.verdicts import log_history, log_verdicts

ARMS = {"random": "by_lot", "ranked": "by_rank"}
DAYS = [dt.date(2026, 10, day) for day in range(1, 29)]


@pytest.fixture(scope="module")
def found(tmp_path_factory, parsed_dbt):
    """Everything that the study publishes, its models trained for a few steps."""
    folder = tmp_path_factory.mktemp("aligned")
    content = yaml.safe_load((studies_dir() / "aligned.yaml").read_text())
    other = yaml.safe_load((studies_dir() / "selected.yaml").read_text())
    content["selection"] = other["selection"]
    for arm, name in ARMS.items():
        content["layouts"][name], content["mixes"][name] = other["layouts"][arm], other["mixes"][arm] | {"layout": name}
    for mix in content["mixes"].values():
        mix["epochs"] /= 8
    content["training"] |= {"model": {"layers": 1, "width": 32, "mlp": 64, "heads": 2}, "seeds": [0]}
    (folder / "aligned.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    (folder / "dbt").symlink_to(parsed_dbt)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PALIMPSEST_STATE", str(folder))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        lake, corpus, study = Lake(folder / "lake"), load_corpus("sample"), load_study(folder / "aligned.yaml")
        extract_days(corpus, DAYS, lake)
        documents = build_documents(corpus, lake)
        stages = {"split": split(study, lake, documents=[documents])}
        stages["plan"] = plan(study, lake, split=stages["split"])
        for shard in range(study.shards):
            generate_shard(study, lake, **stages, shard=shard)
        stages["generations"] = publish_generations(study, lake, **stages)
        stages["selection"] = select(study, lake, split=stages["split"], generations=stages["generations"])
        stages["mixes"] = build_mixes(study, lake, **stages)
        of = {name: stages[name] for name in ("split", "generations", "mixes")}
        stages["gate"] = gate_study(study, lake, **of)
        publish_history(study, lake)
        parent = track.open_parent(study)
        log_verdicts(parent, study, stages["gate"])
        tokens = tokenize(study, lake, split=stages["split"], mixes=stages["mixes"])
        runs = []
        for run in plan_runs(study, stages["mixes"]):
            with track.child(study, parent, run) as tracker:
                runs.append(train(study, lake, tokens=tokens, mixes=stages["mixes"], run=run, tracker=tracker))
                read = signs.read(study, lake, split=stages["split"], tokens=tokens, run=runs[-1])
                tracker.log_metrics(signs.metrics(read.extra), run["steps"])
        history = publish_history(study, lake)
        log_history(parent, study, lake)
        of = {name: stages[name] for name in ("generations", "mixes", "gate")}
        judged = signs.of_runs(study, lake, runs)
        stages["report"] = report(study, lake, **of, runs=runs, judged=judged, parent_run_id=parent)
        yield {**stages, "lake": lake, "history": history, "runs": runs, "parent": parent, "study": study}


def parts(found, layout):
    rows = pq.read_table(found["mixes"].file("megadoc_parts.parquet")).to_pylist()
    return Counter((row["document_id"], row["g"]) for row in rows if row["layout"] == layout)


def test_the_aligned_stream_is_what_the_weights_keep_of_the_other_one(found):
    weighed = found["lake"].latest("studies/aligned/alignment")
    rows = pq.read_table(weighed.file("weights.parquet")).to_pylist()
    assert {row["layout"] for row in rows} == {"chosen", *ARMS.values()}
    rows = [row for row in rows if row["layout"] == "chosen"]
    assert Counter((row["document_id"], row["g"]) for row in rows) == parts(found, "simple")
    assert Counter((row["document_id"], row["g"]) for row in rows if row["keeps"]) == parts(found, "chosen")
    assert all(row["keeps"] == (row["draw"] * 2 < row["weight"]) for row in rows)
    first = [row["weight"] for row in rows if row["g"] == 0]
    assert sum(first) / len(first) == pytest.approx(1)
    told = weighed.extra["layouts"]["chosen"]["generations"]
    assert 0.35 < told["kept"] / told["texts"] < 0.65
    assert weighed.digest in {parent["digest"] for parent in found["mixes"].manifest["parents"]}


def test_all_mixes_train_for_the_same_tokens(found):
    trained = Counter()
    for row in pq.read_table(found["mixes"].file("mixes.parquet")).to_pylist():
        trained[row["recipe"]] += row["sequences"] if row["is_synthetic"] or row["recipe"] == "real" else 0
    assert len(set(trained.values())) == 1
    assert set(trained) == {"real", "simple", "random", "chosen", *ARMS.values()}


def test_the_gate_says_what_the_choice_changed_and_judges_what_it_keeps(found):
    told = found["gate"].extra["guard"]
    by_layout = {v["subject"]: v for v in told if v["measure"] == "effective_generations"}
    counted = by_layout["layout chosen"]
    assert "chosen by rank, 0.5 of the tokens" in by_layout["layout by_rank"]["sentence"]
    assert counted["outcome"] == "passed"
    assert counted["sentence"].startswith("layout chosen keeps ")
    assert "(effective sample size " in counted["sentence"]
    (moved,) = [v for v in told if v["measure"] == "auc_moved" and v["subject"].endswith("layout chosen keeps")]
    assert moved["outcome"] in ("passed", "warned")
    assert "a classifier tells them from real text with an AUC of 0." in moved["sentence"]
    assert {"auc", "mmd", "entropy", "rare_recall"} <= moved["details"].keys()
    assert any(v["gate"] == "G10" and v["subject"].endswith("that layout chosen keeps") for v in told)
    assert {v["subject"] for v in told if v["measure"] == "grounded_share"} >= {"chosen", "simple"}
    assert "keeps" in (found["gate"].file("guard.txt")).read_text()


def test_the_trends_have_texts_mixes_and_models(found):
    rows = pq.read_table(found["history"].file("guard_metrics.parquet")).to_pylist()
    names = {(row["metric"], row["strategy"]) for row in rows}
    assert {("align_auc_before", "rephrase/chosen"), ("align_auc_after", "rephrase/chosen")} <= names
    assert {("accepted", "rephrase"), ("generators", "chosen"), ("real_share", "chosen")} <= names
    assert {("ece", mix) for mix in ("real", "simple", "random", "chosen", "by_rank")} <= names
    client = MlflowClient(track.tracking_uri())
    metrics = client.get_run(found["parent"]).data.metrics
    assert {"guard_trend/ece/chosen", "guard_trend/align_mmd_after/rephrase/chosen", "ece/chosen"} <= metrics.keys()
    assert metrics["guard_trend/real_share/real"] == 1


def test_the_report_shows_the_early_signs_and_the_same_mix_with_and_without(found):
    table = load_table(found["report"])
    assert [row["mix"] for row in table["signs"]] == ["real", "simple", "random", "chosen", "by_lot", "by_rank"]
    for row in table["signs"]:
        assert 0 < row["ece"] < 1
        assert row["facts_real"] is not None or any("facts of real text" in why for why in row["why"])
    page = found["report"].file("report.html").read_text()
    assert "Early signs" in page
    assert "layout chosen keeps" in page
    changed = [row for row in table["ablations"] if {row["first"], row["second"]} == {"random", "chosen"}]
    assert changed, json.dumps(table["ablations"])[:500]
    assert changed[0]["what"] == "choice of generated texts"
    assert {changed[0]["from"], changed[0]["to"]} == {"all texts", "by importance, clip 2"}


def test_selected_streams_are_what_a_score_or_a_lot_prefers_at_as_many_tokens(found):
    scored = pq.read_table(found["selection"].file("weights.parquet")).to_pylist()
    assert {row["method"] for row in scored} == {"commonness", "likelihood", "classifier", "rank", "random"}
    every = parts(found, "simple")
    total = sum(row["tokens"] for row in scored if row["method"] == "rank" and row["origin"] == "synthetic")
    longest = max(row["tokens"] for row in scored if row["origin"] == "synthetic")
    for method, layout in (("random", "by_lot"), ("rank", "by_rank")):
        own = [row for row in scored if row["method"] == method and row["origin"] == "synthetic"]
        kept = parts(found, layout)
        assert Counter((row["document_id"], row["g"]) for row in own) == every
        inside = [row for row in own if kept[row["document_id"], row["g"]]]
        outside = [row for row in own if not kept[row["document_id"], row["g"]]]
        assert total / 2 - longest < sum(row["tokens"] for row in inside) <= total / 2
        assert min(row["score"] for row in inside) >= max(row["score"] for row in outside)
    assert parts(found, "by_lot") != parts(found, "by_rank")


def test_the_report_and_mlflow_show_what_was_selected_and_what_it_cost(found):
    table = load_table(found["report"])
    lot, rank = table["selection"]["layouts"]
    assert (lot["mixes"], rank["mixes"]) == (["by_lot"], ["by_rank"])
    assert rank["strategies"] == {"rephrase": {"texts": rank["texts"], "kept": rank["kept"]}}
    (run,) = [run for run in table["runs"] if run["recipe"] == "by_rank"]
    assert rank["share_of_flops"] == pytest.approx(rank["flops"] / run["flops"]) and rank["flops"] > 0
    assert rank["share_of_seconds"] == pytest.approx(rank["seconds"] / run["seconds"]) and rank["seconds"] > 0
    assert -1 <= table["selection"]["agreement"]["likelihood, classifier"] <= 1
    page = found["report"].file("report.html").read_text()
    assert "What was selected" in page and "by rank, 0.5 of the tokens" in page
    said = {(row["from"], row["to"]) for row in table["ablations"] if "by_rank" in (row["first"], row["second"])}
    assert any({"at random, 0.5 of the tokens", "by rank, 0.5 of the tokens"} == set(pair) for pair in said)
    metrics = MlflowClient(track.tracking_uri()).get_run(found["parent"]).data.metrics
    assert 0.3 < metrics["selection/kept_share/by_rank"] < 0.7
    assert metrics["selection/seconds/by_rank"] == pytest.approx(rank["seconds"])
