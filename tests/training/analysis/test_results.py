from __future__ import annotations

import datetime as dt
import json
import math
import os
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palimpsest.lake import Facts, Lake, LakeError
from tests.training.analysis import planted
from training import judge, track
from training.analysis import amounts, markdown, results
from training.analysis.publish import metrics, tables, tags
from training.analysis.report import load_table, report
from training.analysis.took import duration, took
from training.analysis.words import SETS, describe, loss_text, render_table
from training.pretrain import plan_runs, train


@pytest.fixture
def study():
    return planted.make_study()


@pytest.fixture
def inputs(study, lake):
    return planted.publish(study, lake)


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """The report on the planted study: it takes seconds, and these tests only read it."""
    study, lake = planted.make_study(), Lake(tmp_path_factory.mktemp("reported"))
    return report(study, lake, **planted.publish(study, lake))


def by_mix(table):
    return {row["mix"]: row for row in table["mixes"]}


def certificate(point, loss):
    near = [{"axis": "lr", "point": {**point, "lr": 0.01}, "loss": None, "state": "diverged"}]
    return {"centre": point, "loss": loss, "neighbours": near, "missing": 0, "ended": "certificate", "certified": True,
            "edges": {"f": "high"}, "margin": 0.002, "runs": 9, "waves": 2}  # fmt: skip


def test_the_questions_of_a_study_are_answered_per_mix(reported):
    table = load_table(reported)
    row = by_mix(table)["stitched_8"]
    gap = next(g for g in table["gaps"] if g["layout"] == "stitched" and g["set"] == "iid")
    assert gap["widens"] == "yes" and gap["slope"] == pytest.approx(planted.SLOPE, abs=gap["slope_margin"])
    assert next(g for g in table["gaps"] if g["set"] == "reports" and len(g["points"]) > 1)["slope"] > gap["slope"]
    assert {law["in"] for law in table["laws"]} == {"D", "G"}
    of_g = next(law for law in table["laws"] if law["of"] == "simple" and law["set"] == "iid")
    assert of_g["fit"]["low"]["C"] < planted.simple_loss(math.inf) + 0.05 and of_g["fit"]["seeds"] == 3
    assert row["loss_reports"] > row["loss_iid"] and row["difference_reports"] < 0 < row["margin_reports"]
    assert row["familywise"] and row["long_context_gain"] > row["long_context_margin"]


def test_the_long_context_gain_is_on_the_set_the_study_names(study, reported, inputs, lake):
    """Planted gaps are twice as large on long documents, and four times on 'reports', as on all."""
    named = planted.make_study(
        judging={"long_context": "reports"},
        validation={"rule": "hash_share", "share": 0.2, "sets": {"reports": {"files": ["reports.jsonl"]}}},
    )
    published = report(named, lake, **inputs)
    for made, name in ((reported, "long"), (published, "reports")):
        table = load_table(made)
        row, simple, whole = by_mix(table)["stitched_8"], by_mix(table)["simple_8"], by_mix(table)["real"]
        losses = (whole[f"loss_{name}"], row[f"loss_{name}"], whole["loss_iid"], row["loss_iid"])
        assert row["long_context_gain"] == pytest.approx(losses[0] - losses[1] - losses[2] + losses[3])
        beyond = row["long_context_gain"] - simple["long_context_gain"]
        planned = (planted.FACTOR[name] - 1) * (planted.GAP + 3 * planted.SLOPE)
        assert beyond == pytest.approx(planned, abs=0.02) and row["long_context_document_margin"] > 0
        assert f"| long-context gain ({name} beyond iid) |" in markdown.differences(table)
        assert f"on {SETS.get(name, name)}</small>" in made.file("report.html").read_text()
        assert loss_text(row, name, digits=3) in render_table(table, 132)
        assert metrics(table)["reference/loss_long_context"] == whole[f"loss_{name}"]


def test_of_each_compared_pair_it_is_said_what_its_seeds_could_have_seen(study, lake, reported):
    table, page = load_table(reported), reported.file("report.html").read_text()
    rows = {(row["first"], row["second"], row["set"]): row for row in table["resolution"]}
    told = [(p["mix"], p["against"], g["set"], p["margin"]) for g in table["gaps"] for p in g["points"]]
    told += [(row["second"], row["first"], row["set"], row["margin"]) for row in (*table["ablations"], *table["rises"])]
    told += [(r["mix"], "real", s, r[f"margin_{s}"]) for r in table["mixes"][1:] for s in table["sets"]]
    assert {pair[:3] for pair in told} == rows.keys()
    for first, second, name, margin in told:
        row = rows[first, second, name]
        assert row["margin"] == pytest.approx(margin) and row["detectable"] > row["margin"]
        assert row["seen"] is (abs(row["difference"]) > row["margin"])
    said = f"differences below {rows['stitched_8', 'simple_8', 'iid']['margin']:.4f} nats could not have been seen"
    assert said in page and said in markdown.seen(table)
    assert tables(table)["resolution.json"]["seen"].count(True) == sum(row["seen"] for row in rows.values())


def test_what_was_not_resolved_might_be_as_large_as_its_seeds_let_it_be(study, lake):
    loud = load_table(report(study, lake, **planted.publish(study, lake, noise=0.1)))
    slope = next(g for g in loud["gaps"] if g["layout"] == "stitched" and g["set"] == "iid")
    assert f"(less than {slope['slope_margin']:.4f} nats per doubling could not have been seen)" in loud["aside"]
    single = load_table(report(study, lake, **planted.publish(study, lake, seeds=(0,))))
    assert not any(row["seen"] for row in single["resolution"])
    assert "one seed: no difference could have been told from seed noise" in markdown.seen(single)
    assert "the gap is not shown to change with G, as one seed cannot tell." in single["aside"]


def test_real_text_seen_counts_the_copies_in_the_synthetic_stream_once_per_pass(reported):
    """The authors' analysis divides all tokens by the stream's size: 1 / f times as many copies."""
    row = by_mix(load_table(reported))["simple_8"]
    assert row["real_exposures_copies"] == pytest.approx(0.7 * 4, rel=1e-3)
    assert row["real_exposures"] == pytest.approx(4 + 0.7 * 4, rel=1e-3)


def test_lengths_of_every_stream_are_told_beside_the_context(reported):
    """Twenty documents in versions of 50 tokens, windows of 64: stitched, a window shows two or three of one."""
    table, page = load_table(reported), reported.file("report.html").read_text()
    rows = {(row["mix"], row["stream"]): row for row in table["lengths"]}
    simple, stitched = rows["simple_8", "simple_8"], rows["stitched_8", "stitched_8"]
    assert (simple["documents"], simple["megadocs"], simple["versions_per_window"]) == (180, 180, 1)
    assert (stitched["documents"], stitched["megadocs"], stitched["megadocs_mean"]) == (180, 20, 450)
    assert (stitched["documents_over_context"], stitched["megadocs_over_context"]) == (0, 1)
    assert 2 < stitched["versions_per_window"] < 2.5 and rows["stitched_8", "real"]["documents"] == 20
    found = metrics(table)
    assert found["versions_per_window/stitched_8/stitched_8"] == stitched["versions_per_window"]
    assert "How long the texts are" in page and "450, 450, 450, 450" in page
    told = "| stitched_8 | stitched_8 | 64 | 180: 50, 50, 50, 50 | 20: 450, 450, 450, 450 | 0.0% | 100.0% | 2."
    assert told in amounts.lengths(table)
    assert {"mix", "stream", "context", "documents_p90"} <= set(tables(table)["lengths.json"])


def test_cost_is_that_of_the_layouts_own_generations_and_the_runs_own_compute(reported):
    rows = by_mix(load_table(reported))
    assert [rows[f"simple_{g}"]["generated_tokens"] for g in planted.COUNTS] == [90 * g for g in planted.COUNTS]
    row, gain = rows["simple_8"], rows["real"]["loss_iid"] - rows["simple_8"]["loss_iid"]
    assert row["flops_ratio"] == row["flops"] / rows["real"]["flops"]
    assert row["gain_per_pflop"] == pytest.approx(gain / (row["flops"] / 1e15))
    assert row["gain_per_mtoken"] == pytest.approx(gain / (720 / 1e6))
    assert rows["real"]["gain_per_pflop"] is None and rows["real"]["generated_tokens"] == 0


def test_what_each_multiple_cost_stands_beside_it(reported):
    """On a CPU, with recorded text: no GPU took part, and that is not the same as not knowing."""
    table, page = load_table(reported), reported.file("report.html").read_text()
    row = by_mix(table)["simple_8"]
    assert row["training_cpu_hours"] == pytest.approx(14.2 / 3600)
    assert (row["generation_gpu_hours"], row["training_gpu_hours"], row["gpu_hours"]) == (0, 0, 0)
    told = next(line for line in amounts.multiples(table).splitlines() if line.startswith("| simple_8 |"))
    assert told.startswith(f"| simple_8 | {describe(row)} | 0.0 | 0.0 | 0.0 | 0.0039 | {row['reason']}")
    assert "What each multiple cost" in page and "<td>0.0039</td>" in page
    logged = tables(table)["cost.json"]
    place = logged["mix"].index("simple_8")
    assert logged["efficiency"][place] == row["efficiency"] and logged["data efficiency"][place] == describe(row)
    assert logged["to bear in mind"][place].startswith(row["reason"]) and logged["gpu_hours"][place] == 0
    found = metrics(table)
    assert found["training_cpu_hours/simple_8"] == row["training_cpu_hours"] and found["best/gpu_hours"] == 0
    assert found["total/training_cpu_hours"] == pytest.approx(14.2 * len(table["runs"]) / 3600)


def test_a_mix_unlike_the_reference_in_more_than_its_data_is_marked(reported):
    assert by_mix(load_table(reported))["inside_8"]["differs"] == ["attention within documents"]
    assert "attention within documents, unlike the reference" in reported.file("report.html").read_text()


def test_runs_of_another_precision_than_the_references_are_marked(study, tmp_path, monkeypatch):
    made = planted.evaluation

    def evaluation(streams, mix, seed, losses):
        precision = "bfloat16" if mix == "simple_8" and seed == 1 else "float32"
        return made(streams, mix, seed, losses) | {"precision": precision}

    monkeypatch.setattr(planted, "evaluation", evaluation)
    lake = Lake(tmp_path / "lake")
    published = report(study, lake, **planted.publish(study, lake))
    rows = by_mix(load_table(published))
    assert rows["simple_8"]["differs"] == ["trained in bfloat16 on a CPU and float32 on a CPU"]
    assert rows["stitched_8"]["differs"] == []
    assert "float32 on a CPU, unlike the reference" in published.file("report.html").read_text()


def test_tasks_are_paired_question_by_question(study, lake, inputs):
    """Both mixes find the same questions hard: the accuracies' errors are large, the difference's is not."""
    rng, verdicts = np.random.default_rng(0), []
    hard = rng.random(400) < 0.5
    for mix, lift in (("real", 0.0), ("simple_8", 0.1)):
        right = [float(not h or rng.random() < lift) for h in hard]
        answers = [{"task": "quiz", "question": i, "acc": r, "acc_norm": r} for i, r in enumerate(right)]
        answers += [{"task": "riddle", "question": i, "acc": float(i % 4 > 0), "acc_norm": 1.0} for i in range(100)]

        def write(directory, mix=mix, answers=answers):
            rows = [{"run": f"{mix}-s0", "recipe": mix, "task": "quiz", "chance": 0.25}]
            rows += [{**rows[0], "task": "riddle", "chance": 0.5}]
            pq.write_table(pa.Table.from_pylist(rows), directory / "tasks.parquet")
            pq.write_table(pa.Table.from_pylist(answers), directory / "answers.parquet")
            return Facts()

        verdicts.append(lake.publish(f"studies/planted/tasks/{mix}-s0", write))
    published = report(study, lake, **inputs, judged=verdicts)
    rows = {(row["mix"], row["task"]): row for row in load_table(published)["tasks"]}
    real, simple = rows["real", "quiz"], rows["simple_8", "quiz"]
    assert (real["mix"], simple["mix"], simple["questions"]) == ("real", "simple_8", 400)
    assert simple["acc_difference"] == pytest.approx(simple["acc"] - real["acc"])
    assert simple["acc_difference_stderr"] < simple["acc_stderr"] and real["acc_difference"] is None
    assert real["acc_above_chance"] == pytest.approx((real["acc"] - 0.25) / 0.75)
    riddle, both = rows["simple_8", "riddle"], rows["simple_8", "all tasks"]
    assert riddle["acc"] == 0.75 and list(rows) == [
        (mix, task) for mix in ("real", "simple_8") for task in ("quiz", "riddle", "all tasks")
    ]
    for key in ("acc", "chance", "acc_above_chance", "acc_difference"):
        assert both[key] == pytest.approx((simple[key] + riddle[key]) / 2)
    assert both["questions"] == 500 and rows["real", "all tasks"]["acc_difference"] is None
    assert both["acc_stderr"] == pytest.approx(math.hypot(simple["acc_stderr"], riddle["acc_stderr"]) / 2)
    assert "Downstream tasks" in published.file("report.html").read_text()


def test_ensembles_have_their_law_in_k(study, lake, inputs):
    worse = dict(zip("abcde", (0.0, 0.01, -0.01, 0.02, -0.02), strict=True))
    rows = [
        {"mix": "simple_8", "members": k, "runs": list(runs), "parameters": 20 * k, "set": "iid", "tokens": 9,
         "loss": 3 + 0.2 / k + sum(worse[run] for run in runs) / k}
        for k in range(1, 6)
        for runs in combinations("abcde", k)
    ]  # fmt: skip
    found = publish_ensemble(lake, rows)
    published = report(study, lake, **inputs, judged=[found])
    table, page = load_table(published), published.file("report.html").read_text()
    law = next(law for law in table["laws"] if law["in"] == "K")["fit"]
    assert law["law"]["C"] == pytest.approx(3, abs=1e-3) and (law["resampled"], law["seeds"]) == ("members", 5)
    assert law["low"]["C"] < 3 - 0.005 and law["high"]["C"] > 3 + 0.005 and law["problem"] == ""
    two = table["ensembles"]["simple_8"][1]
    assert (two["members"], two["choices"], two["parameters"]) == (2, 10, 40)
    assert [two[key] for key in ("lowest", "loss", "highest")] == pytest.approx([3.085, 3.1, 3.115])
    assert "2: 3.1000 (3.0850 to 3.1150)" in page and '<td class="left">members</td>' in page
    assert "| simple_8 | 2 | iid | 10 | 3.1000 | 3.0850 to 3.1150 |" in markdown.ensembles(table)
    assert published.file("loss-by-members.svg").exists()


def test_an_ensemble_that_judged_one_chain_of_seeds_is_refused(study, lake, inputs):
    old = [{"mix": "simple_8", "members": k, "set": "iid", "loss": 3 + 0.2 / k, "alone": 3.2} for k in (1, 2, 3)]
    with pytest.raises(LakeError, match=r"ensembles/simple_8.*not every choice of them; run the study's task 'judge'"):
        report(study, lake, **inputs, judged=[publish_ensemble(lake, old)])


def publish_ensemble(lake, rows):
    return lake.publish(
        "studies/planted/ensembles/simple_8",
        lambda d: pq.write_table(pa.Table.from_pylist(rows), d / "losses.parquet") or Facts(extra={"mix": "simple_8"}),
    )


def test_what_a_search_found_is_in_the_report_and_judged_on_other_seeds(lake):
    study = planted.make_study(search={"lr": [1e-3, 3e-3, 1e-2], "seed": 0})
    masked = {"like": "simple_8", "training": {"attention": "documents"}}
    follower = study.mixes["simple_8"].model_copy(update=masked)
    study = study.model_copy(update={"mixes": {**study.mixes, "masked_8": follower}})
    point = {"lr": 3e-3, "weight_decay": 0.1, "epochs": 4.0, "f": 0.75}
    extra = {"certificates": {"simple_8": certificate(point, 3.2)}, "best": {"simple_8": point}, "metric": "iid"}
    tried = [
        {"recipe": "simple_8", "wave": 1, "best": lr == 3e-3, "loss_iid": loss, **point, "lr": lr}
        for lr, loss in ((1e-3, 3.3), (3e-3, 3.2), (1e-2, None))
    ]
    found = lake.publish(
        "studies/planted/search",
        lambda d: pq.write_table(pa.Table.from_pylist(tried), d / "points.parquet") or Facts(extra=extra),
    )
    published = report(study, lake, **planted.publish(study, lake), search=found)
    table, page = load_table(published), published.file("report.html").read_text()
    row, runs = by_mix(table)["simple_8"], {r["run"]: r["losses"]["iid"] for r in table["runs"]}
    fresh = np.mean([runs[f"simple_8-s{s}"] - runs[f"real-s{s}"] for s in (1, 2)])
    assert row["difference_fresh"] == pytest.approx(fresh) and row["difference_fresh"] != row["difference"]
    inputs = planted.publish(study, lake)
    others = [run for run in inputs["runs"] if not run.dataset.endswith("-s0")]
    alone = by_mix(load_table(report(study, lake, **{**inputs, "runs": others})))["simple_8"]
    assert row["efficiency_fresh"] == describe(alone) != describe(row), "as if the seed had never run"
    assert f"without the seed that the search chose by: {describe(alone)}" in page
    assert [p["loss"] for p in table["searched"]["points"]["simple_8"]] == [3.3, 3.2, None]
    assert "What the search tried" in page and ">learning rate<" in published.file("loss-by-search.svg").read_text()
    assert "How the settings were found" in page and "at the high end of f" in page and "diverged" in page
    ends = {mix: told["at_end"] for mix, told in by_mix(table).items() if told["at_end"]}
    assert ends == dict.fromkeys(("simple_8", "masked_8"), "the high end of f")
    assert row["reason"].endswith("ended at the high end of f, so the mix may be better than shown")
    told = "At the end of an axis of the search, and perhaps better beyond it: ‘simple_8’ (the high end of f)"
    assert told in markdown.gaps(table) and told in markdown.ablations(table)
    assert "may be better than shown" in " ".join(render_table(table).split())
    assert page.count(told) == 2 and "may be better than shown" in markdown.reservations(table)


def test_a_gap_at_a_single_g_claims_no_widening(study, reported):
    table = load_table(reported)
    single = next(gap for gap in table["gaps"] if gap["layout"] == "stitched, real first" and gap["set"] == "iid")
    told = f"does not tell whether a gap widens: ‘stitched, real first’ ({single['mean']:+.4f} nats at G = 8)."
    assert told in table["aside"] and told in markdown.gaps(table)
    assert "one place only" in reported.file("report.html").read_text()
    assert "palimpsest.widens.generations.stitched_real_first" not in tags(table, reported)
    assert "palimpsest.widens.generations.stitched" in tags(table, reported)


def test_runs_as_the_trainer_publishes_them_are_read(small, lake):
    """One seed and no law: nothing is resolved, everything else is there."""
    study, inputs = small.study, {"tokens": small.tokens, "mixes": small.mixes}
    runs = [train(study, lake, **inputs, run=run) for run in plan_runs(study, small.mixes) if run["seed"] == 0]
    table = load_table(report(study, lake, mixes=small.mixes, runs=runs))
    rows, simple = by_mix(table), next(run for run in table["runs"] if run["recipe"] == "simple")
    assert rows["simple"]["trained_tokens"] == simple["tokens"]["total"]
    counted = sum(found["real"] for found in simple["exposures"].values())
    assert rows["simple"]["real_exposures"] == pytest.approx(counted / rows["simple"]["real_tokens"])
    assert rows["real"]["real_exposures"] == pytest.approx(rows["real"]["real_passes"], rel=0.1)
    curve = pq.read_table(next(r for r in runs if r.dataset.endswith("simple-s0")).file("curve.parquet")).to_pylist()
    lowest = min((row["iid"], row["step"]) for row in curve if row["iid"] is not None)
    assert tuple(simple["lowest"]["iid"].values()) == lowest and lowest[0] <= simple["losses"]["iid"]
    assert rows["simple"]["verdict"] == "not resolved" and rows["simple"]["lr"] == study.training.optimizer.lr


def test_study_wide_metrics_have_the_same_names_in_every_study(study, lake, reported):
    other = planted.make_study(name="another", mixes={k: study.mixes[k].model_dump() for k in ("real", "simple_2")})
    tables = [load_table(reported), load_table(report(other, lake, **planted.publish(other, lake)))]
    shared = [{n for n in metrics(t) if n.split("/")[0] in ("best", "reference", "total", "law")} for t in tables]
    assert shared[0] == shared[1] and {"best/efficiency", "reference/loss", "total/flops"} <= shared[0]


def test_mlflow_holds_every_table_once_and_earlier_reports_beside_it(study, lake, store, inputs):
    from mlflow import MlflowClient

    first = track.open_parent(study, {"palimpsest.run_key": "first"})
    report(study, lake, **inputs, parent_run_id=first)
    report(study, lake, **inputs, parent_run_id=first)  # the task was cleared and ran again
    client = MlflowClient(track.tracking_uri())
    names = {file.path for file in client.list_artifacts(first)}
    assert {
        "mixes.json",
        "gaps.json",
        "laws.json",
        "ablations.json",
        "cost.json",
        "passes.json",
    } <= names and "history.json" not in names
    assert [row["mix"] for row in rows_of(client, first, "mixes.json")] == list(study.mixes)
    cost = {row["mix"]: row for row in rows_of(client, first, "cost.json")}
    assert cost["simple_8"]["generated_tokens"] == 720 and cost["real"]["gain"] is None
    row = cost["simple_8"]
    assert row["gain"] == pytest.approx(row["gain_per_pflop"] * row["flops"] / 1e15)
    streams = [row for row in rows_of(client, first, "passes.json") if row["mix"] == "simple_8"]
    assert [(row["stream"], row["share"]) for row in streams] == [("real", 0.25), ("simple_8", 0.75)]
    assert streams[1]["passes"] == pytest.approx(0.7 * 4)
    tags = client.get_run(first).data.tags
    assert tags["palimpsest.best_mix"] == "stitched_8" and tags["palimpsest.widens.generations.stitched"] == "yes"

    again = planted.make_study(description="Another corpus.")
    second = track.open_parent(study, {"palimpsest.run_key": "second"})
    report(again, lake, **inputs, parent_run_id=second)
    history = rows_of(client, second, "history.json")
    assert len(history) == 2 * len(study.mixes) and {row["mix"] for row in history} == set(study.mixes)
    assert "report/history.svg" in {file.path for file in client.list_artifacts(second, "report")}


def rows_of(client, run, name):
    table = json.loads(Path(client.download_artifacts(run, name)).read_text())
    return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]


def test_results_page_is_written_from_lake_and_mlflow(study, lake, store, inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "load_study", lambda name: study)
    monkeypatch.setattr(results.Lake, "from_env", classmethod(lambda cls: lake))
    published = report(study, lake, **inputs)
    with pytest.raises(LakeError, match="made by no finished run in MLflow"):
        results.main("planted", tmp_path)

    parent = track.open_parent(study)
    with track.child(study, parent, {"run": "real-s0", "recipe": "real", "seed": 0}):
        pass
    report(study, lake, **inputs, parent_run_id=parent)
    page = results.main("planted", tmp_path)
    text = page.read_text(encoding="utf-8")
    assert load_table(published)["headline"] in text and track.hardware() in text and parent in text
    assert f"- Runs and search points: {len(inputs['runs'])}, all compared\n" in text
    assert "- Report finished: 20" in text
    assert "Wall clock" not in text and "Judging" not in text
    for heading in ("Mix by mix", "Together or apart", "One thing changed", "Laws", "Figures", "Cost and hardware",
                    "What it cost", "Passes over each stream", "What the seeds could have seen",
                    "How long the texts are"):  # fmt: skip
        assert f"\n## {heading}\n" in text
    assert "| simple_8 | simple_8 | 86% | 259k | 0.75 | 2.80 |" in text
    dags = [*(f"corpus_{corpus}" for corpus in study.corpora), "study_planted"]
    switched = [text.index(f"{what} {dag}") for dag in dags for what in ("unpause -y", "trigger")]
    assert switched == sorted(switched)
    for line in text.splitlines():
        if line.startswith("!["):
            assert (tmp_path / line.split("](")[1].rstrip(")")).stat().st_size > 10_000
    tables = [line for line in text.splitlines() if line.startswith("| ")]
    assert all(json.dumps(line).count("nan") == 0 for line in tables) and len(tables) > 30


def test_how_long_a_study_took_is_told_of_its_runs_points_and_judgements_not_of_the_report(study, lake, inputs, store):
    """Two points of a search that no report compares, one that diverged, two judgements, one of them on record."""
    table = {"runs": [{"run": run.dataset.rsplit("/", 1)[1], "seconds": 60.0} for run in inputs["runs"]]}
    folder = f"studies/{study.name}"
    points = [lake.publish(f"{folder}/runs/p{n}", lambda d: Facts(extra={"seconds": 1800.0})) for n in (1, 2)]
    points.append(lake.publish(f"{folder}/diverged/p3", lambda d: Facts(extra={"diverged": "at step 3"})))
    search = lake.publish(f"{folder}/search", lambda d: Facts(), parents=[inputs["mixes"], inputs["runs"][0], *points])
    judged = [lake.publish(f"{folder}/{name}", lambda d: Facts()) for name in ("ensembles/simple_8", "tasks/real-s0")]
    made = lake.publish(f"{folder}/report", lambda d: Facts(), parents=[*inputs["runs"], *judged, search])
    every = [*inputs["runs"], *points, *judged]
    start = 1_790_000_000
    for number, version in enumerate(every):  # one an hour
        at = start + 3600 * number
        os.utime(Path(lake.base, version.uri, "manifest.json"), (at, at))

    parent = track.open_parent(study)
    track.add_facts(parent, {}, [(f"{judge.SECONDS}{judged[0].uri}", 125.0, 0)], {})
    compared = len(inputs["runs"])
    assert took(made, table, judge.seconds(study)) == {
        "Runs and search points": f"{compared + 2}, of which {compared} are compared, and 1 that diverged",
        "Training, all of these together": f"{duration(compared * 60 + 2 * 1800)} (their steps alone)",
        "Judging (ensembles, loss by context, tasks)": "2 min 5 s for 2, without 1 of which it is not recorded",
        "From the first of these to the last": f"{duration(3600 * (len(every) - 1) + 60)} "
        f"({dt.datetime.fromtimestamp(start - 60, dt.UTC):%Y-%m-%d %H:%M} to "
        f"{dt.datetime.fromtimestamp(start + 3600 * (len(every) - 1), dt.UTC):%Y-%m-%d %H:%M} UTC)",
    }
    judgings = "Judging (ensembles, loss by context, tasks)"
    assert took(made, table, {})[judgings] == "not recorded for 2"
    assert took(made, table, dict.fromkeys((version.uri for version in judged), 30.0))[judgings] == "1 min 0 s for 2"
