from __future__ import annotations

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import t as student

from palimpsest.lake import Facts
from tests.training.analysis import planted
from training.analysis.gaps import find_gaps
from training.analysis.members import describe_mixes
from training.analysis.report import load_table, report
from training.analysis.sampling import Documents, effective, half_width, holds, influence, read
from training.analysis.words import headline, render_table

BASE, BY_LENGTH, SCATTER = -0.02, -0.01, 0.05


def draw(rng, shape, deviation):
    """Documents of lognormal length whose difference in loss grows with it, and that of all such documents."""
    length = rng.normal(0, deviation, shape)
    tokens = np.exp(5 + length)
    nats = tokens * (BASE + BY_LENGTH * length + rng.normal(0, SCATTER, shape))
    return nats, tokens, BASE + BY_LENGTH * deviation**2  # a token's document is longer by the variance


def shares(nats, tokens, truth, margin):
    return float((np.abs(nats.sum(-1) / tokens.sum(-1) - truth) <= margin).mean())


@pytest.mark.parametrize("documents", [10, 30, 100, 400])
@pytest.mark.parametrize("deviation", [0.0, 0.5, 1.2])
def test_the_interval_holds_the_truth_of_all_documents_in_95_of_100_samples(documents, deviation):
    nats, tokens, truth = draw(np.random.default_rng(documents), (2_500, documents), deviation)
    covered = shares(nats, tokens, truth, half_width(influence(nats, tokens), tokens))
    assert 0.925 < covered < 0.97


def test_documents_are_the_draws_not_their_tokens():
    """Tokens taken for independent, with the same scatter each, would make the interval far too narrow."""
    nats, tokens, truth = draw(np.random.default_rng(1), (2_000, 60), 0.7)
    by_token = 1.96 * SCATTER / np.sqrt(tokens.sum(-1))
    assert shares(nats, tokens, truth, by_token) < 0.4
    assert shares(nats, tokens, truth, half_width(influence(nats, tokens), tokens)) > 0.93


def test_documents_of_one_length_give_the_textbook_interval_of_a_mean():
    rng = np.random.default_rng(2)
    values, tokens = rng.normal(0.3, 0.1, 25), np.full(25, 40.0)
    expected = student.ppf(0.975, 24) * values.std(ddof=1) / 5
    assert effective(tokens) == pytest.approx(25)
    assert half_width(influence(values * 40, tokens), tokens) == pytest.approx(expected)


def test_influences_add_up_as_differences_do():
    """A slope over three gaps: the interval of the combined documents, not of three independent samples."""
    rng = np.random.default_rng(3)
    covered, weights = 0, np.array([-0.5, 0.0, 0.5])
    for _ in range(400):
        tokens = np.exp(rng.normal(4, 0.8, 120))
        slope = rng.normal(0.01, 0.02, 120)
        nats = {"simple": {0: tokens * 3.0}}
        nats |= {f"m{k}": {0: tokens * (3.0 - 0.03 - k * slope)} for k in range(3)}
        found = Documents(tokens, {"iid": np.ones(120, bool)}, nats)
        combined = weights @ np.array([found.influence("simple", f"m{k}", "iid", [0]) for k in range(3)])
        covered += abs((tokens * slope).sum() / tokens.sum() - 0.01) <= found.margin(combined, "iid")
    assert 0.92 < covered / 400 < 0.98


def test_gaps_their_mean_and_slope_have_the_interval_of_the_planted_documents():
    rng, count, study = np.random.default_rng(4), 300, planted.make_study()
    tokens, covered = np.exp(rng.normal(4, 0.6, count)), {"mean": 0, "slope": 0, "points": 0}
    for _ in range(60):
        base, gain = rng.normal(3, 1, count), rng.normal(planted.SLOPE, 0.1, count)
        nats, runs = {}, {}
        for mix in study.mixes:
            g = study.layouts[study.mixes[mix].layout].generations or 1
            own = base - (planted.GAP + gain * np.log2(g)) * mix.startswith("stitched")
            nats[mix] = {seed: tokens * own for seed in (0, 1)}
            losses = {"iid": float((tokens * own).sum() / tokens.sum())}
            run = {"losses": losses, "parameters": {"total": 10_000}}
            runs[mix] = {0: run, 1: run}
        documents = Documents(tokens, {"iid": np.ones(count, bool)}, nats)
        members = describe_mixes(study, runs)
        gaps = find_gaps(members, ["iid"], documents)
        gap = next(gap for gap in gaps if gap["layout"] == "stitched")
        mean = planted.GAP + planted.SLOPE * 1.5
        covered["mean"] += abs(gap["mean"] - mean) <= gap["mean_document_margin"]
        covered["slope"] += abs(gap["slope"] - planted.SLOPE) <= gap["slope_document_margin"]
        last = gap["points"][-1]
        covered["points"] += abs(last["gap"] - planted.GAP - planted.SLOPE * 3) <= last["document_margin"]
        assert gap["over_documents"] == (abs(gap["slope"]) > gap["slope_document_margin"])
        assert gap["points"][0]["document_margin"] == pytest.approx(0, abs=1e-9)  # at G = 1 all gain alike
    assert all(52 <= times <= 60 for times in covered.values()), covered


def by_mix(table):
    return {row["mix"]: row for row in table["mixes"]}


def test_the_report_has_both_intervals_of_every_mix_and_set(lake):
    study = planted.make_study()
    inputs = planted.publish(study, lake)
    published = report(study, lake, **inputs)
    table, page = load_table(published), published.file("report.html").read_text()
    runs = {run.dataset.rsplit("/", 1)[1]: pq.read_table(run.file("documents.parquet")) for run in inputs["runs"]}
    tokens, named = runs["real-s0"]["tokens"].to_numpy(), runs["real-s0"]["set"].is_valid().to_numpy()
    row = by_mix(table)["stitched_8"]
    nats = np.mean([runs[f"stitched_8-s{s}"]["nats"].to_numpy() - runs[f"real-s{s}"]["nats"].to_numpy()
                    for s in range(3)], axis=0)  # fmt: skip
    assert row["difference_reports"] == pytest.approx(nats[named].sum() / tokens[named].sum())
    assert row["document_margin_reports"] == pytest.approx(
        half_width(influence(nats[named], tokens[named]), tokens[named])
    )
    expected = 1.97 * planted.SCATTER * np.sqrt(2 / 3 / effective(tokens[~named]))
    assert row["document_margin"] == row["document_margin_iid"] == pytest.approx(expected, rel=0.3)
    assert row["long_context_document_margin"] > 0 and by_mix(table)["real"]["document_margin"] is None
    assert (
        row["over_documents"] is True
        and "the difference in loss also holds over held-out documents" in table["headline"]
    )
    assert table["documents"]["iid"]["documents"] == 180 > table["documents"]["iid"]["effective"] > 90
    assert f"{row['difference_long']:+.4f} ± {row['margin_long']:.4f} / {row['document_margin_long']:.4f}" in page
    assert all(pair["document_margin"] > 0 for pair in table["ablations"])
    columns = pq.read_table(published.file("table.parquet"))
    assert columns.filter(pa.compute.field("mix") == "stitched_8")["over_documents"].to_pylist() == [True]


def test_a_claim_that_few_documents_carry_is_not_praised(lake):
    """Seeds agree, but the whole gain is on one document."""
    study = planted.make_study()
    inputs = planted.publish(study, lake, noise=0.001)
    runs = []
    for run in inputs["runs"]:
        table, facts = pq.read_table(run.file("documents.parquet")), json.loads(run.file("evaluation.json").read_text())
        own = np.flatnonzero(~table["set"].is_valid().to_numpy())
        tokens = table["tokens"].to_numpy()
        nats = 5.0 * tokens
        nats[own[-1]] += (facts["losses"]["iid"] - 5.0) * tokens[own].sum()
        table = table.drop_columns(["nats"]).append_column("nats", pa.array(nats))

        def write(directory, table=table, facts=facts):
            (directory / "evaluation.json").write_text(json.dumps(facts))
            pq.write_table(table, directory / "documents.parquet")
            return Facts()

        runs.append(lake.publish(run.dataset, write, config={"one": True, "facts": facts}))
    published = report(study, lake, **inputs | {"runs": runs})
    table = load_table(published)
    row = by_mix(table)["stitched_8"]
    assert row["verdict"] == "resolved" and row["over_documents"] is False
    assert "; the difference in loss is not shown over held-out documents" in table["headline"]
    assert "is not shown over held-out documents" in published.file("report.html").read_text()
    told = " ".join(render_table(table, 400).split())
    assert re.search(r"resolved \([^)]*stitched_8[^)]*\): the difference in loss is not shown over held-out", told)


def test_runs_without_the_documents_show_a_dash(lake):
    study = planted.make_study()
    inputs = planted.publish(study, lake, documents=False)
    published = report(study, lake, **inputs)
    table, page = load_table(published), published.file("report.html").read_text()
    row = by_mix(table)["stitched_8"]
    assert row["document_margin"] is None and row["over_documents"] is None and table["documents"] == {}
    assert f"{row['difference']:+.4f} ± {row['margin']:.4f} / –" in page
    assert "over held-out documents" not in headline(table)


def test_runs_on_other_documents_than_the_references_are_left_out(lake):
    study = planted.make_study()
    inputs = planted.publish(study, lake)
    runs = [(run, json.loads(run.file("evaluation.json").read_text())) for run in inputs["runs"]]
    odd = next(run for run, facts in runs if facts["run"] == "simple_2-s1")
    table = pq.read_table(odd.file("documents.parquet")).slice(1)
    other = lake.publish(
        odd.dataset, lambda d: pq.write_table(table, d / "documents.parquet") or Facts(), config={"other": True}
    )
    found = read([(other if run is odd else run, facts) for run, facts in runs], "real")
    assert set(found.nats["simple_2"]) == {0, 2} and set(found.nats["simple_4"]) == {0, 1, 2}
    assert found.influence("simple_2", "real", "iid", [0, 1]) is None
    assert found.influence("simple_2", "real", "iid", [0, 2]) is not None
    assert holds(0.1, None) is None and holds(0.1, 0.2) is False and holds(-0.3, 0.2) is True
