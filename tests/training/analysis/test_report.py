from __future__ import annotations

import json
import re
from functools import partial
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palimpsest.config import load_study
from palimpsest.lake import Facts, Lake, LakeError
from tests.training.analysis import planted
from training import track
from training.analysis import results
from training.analysis.history import as_table
from training.analysis.laws import Law
from training.analysis.markdown import LAW as LAWS
from training.analysis.markdown import reservations, rises, rows_of
from training.analysis.publish import metrics, tables, tags
from training.analysis.report import load_table, report
from training.analysis.words import describe, headline, render_table

LAW = Law(A=60.0, B=0.35, C=2.1)
FULL = planted.FULL
WORTH = {"real": 1.0, "augmented": 1.0, "simple": 1.4, "stitched": 1.6, "stretched": 1.25}
LONG = {"real": 0.3, "augmented": 0.3, "simple": 0.25, "stitched": 0.05, "stretched": 0.12}


@pytest.fixture
def study():
    return load_study("demo")


@pytest.fixture
def publish(study, lake):
    return partial(publish_planted, study, lake)


def publish_planted(study, lake, seeds=(0, 1), noise=0.004, skip=(), **override):
    """Publish mixes, runs and generations whose losses follow `LAW`; a run's loss may be overridden or left out."""
    rng = np.random.default_rng(4)
    effect = rng.normal(0, 0.03, 10)
    rows = planted.rows(study)
    mixes, runs = planted.publish_mixes(study, lake), []
    for recipe in dict.fromkeys(row["recipe"] for row in rows):
        streams = [row for row in rows if row["recipe"] == recipe]
        for seed in seeds:
            if f"{recipe}-s{seed}" in skip:
                continue
            share = streams[0]["share"]
            loss = LAW.loss(share * FULL * WORTH.get(recipe, 1)) + effect[seed] + rng.normal(0, noise)
            loss = override.get(recipe, loss)
            losses = {"iid": loss, "short": loss - 0.1, "long": loss + LONG.get(recipe, 0.3)}
            body = json.dumps(planted.evaluation(streams, recipe, seed, losses))
            runs.append(
                lake.publish(
                    f"studies/demo/runs/{recipe}-s{seed}",
                    lambda d, body=body: (d / "evaluation.json").write_text(body) and Facts(),
                    config={"body": body},
                )
            )
    return {"mixes": mixes, "runs": runs, "generations": planted.publish_generations(study, lake)}


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """The report on the demo's own study: drawing its figures takes a second, and most tests only read it."""
    study, lake = load_study("demo"), Lake(tmp_path_factory.mktemp("reported"))
    return report(study, lake, **publish_planted(study, lake))


def by_mix(table):
    return {row["mix"]: row for row in table["mixes"]}


def test_planted_worth_is_reported_and_a_useless_mix_is_not(reported):
    table = load_table(reported)
    rows = by_mix(table)
    for mix in ("simple", "stitched", "stretched"):
        assert rows[mix]["verdict"] == "resolved" and rows[mix]["extrapolated"]
        assert rows[mix]["efficiency_low"] <= WORTH[mix] <= rows[mix]["efficiency_high"]
    assert rows["augmented"]["verdict"] == "not resolved" and "includes 0" in rows["augmented"]["reason"]
    assert rows["real"]["verdict"] == "reference"
    assert re.match(r"Mix ‘stitched’ makes 35,000 real tokens worth 1\.\d\d times as many", table["headline"])
    assert "‘simple’: 1." in table["aside"] and "Not resolved: ‘augmented’" in table["aside"]


def test_table_says_what_went_in(study, reported):
    row = by_mix(load_table(reported))["simple"]
    assert (row["real_tokens"], row["synthetic_tokens"]) == (FULL, int(FULL * 4.2) - FULL)
    assert (row["generations"], row["fraction"], row["seeds"]) == (4, 0.75, 2)
    assert row["loss_long"] == pytest.approx(row["loss_iid"] + 0.25)
    assert pq.read_table(reported.file("table.parquet")).column("mix").to_pylist() == list(study.mixes)


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.external, self.opened = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.opened.append(tag)
        self.external += [v for k, v in attributes if k in ("src", "href", "xlink:href") and not v.startswith("#")]


def test_page_stands_alone(reported):
    text = reported.file("report.html").read_text()
    page = Page(text)
    assert page.external == []
    assert page.opened.count("svg") == 5 and "script" not in page.opened
    assert "url(http" not in text and "@import" not in text
    assert "prefers-color-scheme: dark" in text
    for name in ("loss-by-mix", "loss-by-tokens", "gain-by-position"):
        assert reported.file(f"{name}.png").stat().st_size > 10_000
    ids = re.findall(r'<clipPath id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert "with fewer than planned" in text and ">228<" in text
    assert reported.manifest["parents"][0]["digest"] in text


def test_a_study_that_varies_g_shows_loss_against_it(study, lake, publish):
    few = study.layouts["simple"].model_copy(update={"generations": 2})
    other = study.mixes["augmented"].model_copy(update={"layout": "few"})
    changed = {"layouts": {**study.layouts, "few": few}, "mixes": {**study.mixes, "augmented": other}}
    published = report(study.model_copy(update=changed), lake, **publish(augmented=3.0, simple=3.05))
    page, table = published.file("report.html").read_text(), load_table(published)
    assert published.file("loss-by-generations.svg").exists()
    assert "Loss against generations per document" in page
    told = "Loss of ‘simple’ on held-out documents rises from G = 2 (‘augmented’) to G = 4 (‘simple’): +0.0500 ± 0.0000"
    assert f"<strong>Warning.</strong> {told}" in page and f"**Warning.** {told}" in rises(table)
    assert f"Warning: {told}" in " ".join(render_table(table).split())
    assert tables(table)["rises.json"]["set"] == ["iid", "short"]
    assert tags(table, published)["palimpsest.warnings"].startswith(told)


def test_text_of_the_study_cannot_become_markup(study, lake, publish):
    hostile = study.model_copy(update={"description": "<script>alert(1)</script> & more"})
    text = report(hostile, lake, **publish()).file("report.html").read_text()
    assert "<script" not in text and "&lt;script&gt;alert(1)" in text


def test_links_appear_where_the_addresses_are_known(study, lake, store, publish, monkeypatch):
    monkeypatch.setenv("PALIMPSEST_AIRFLOW_URL", "http://localhost:8080")
    monkeypatch.setenv("PALIMPSEST_MLFLOW_URL", "http://localhost:5000")
    monkeypatch.setenv("AIRFLOW_CTX_DAG_ID", "study_demo")
    monkeypatch.setenv("AIRFLOW_CTX_DAG_RUN_ID", "manual__1+1")
    parent = track.open_parent(study)
    published = report(study, lake, **publish(), parent_run_id=parent)
    links = [u for u in Page(published.file("report.html").read_text()).external]
    assert links == ["http://localhost:8080/dags/study_demo/runs/manual__1%2B1", track.run_url(parent)]


def test_report_closes_the_mlflow_parent(study, lake, store, publish):
    from mlflow import MlflowClient

    parent = track.open_parent(study)
    published = report(study, lake, **publish(), parent_run_id=parent)
    client = MlflowClient(track.tracking_uri())
    run = client.get_run(parent)
    assert run.info.status == "FINISHED" and run.data.tags["headline"] == published.extra["headline"]
    assert run.data.metrics["efficiency/stitched"] > 1 and "efficiency/augmented" not in run.data.metrics
    names = {file.path for file in client.list_artifacts(parent, "report")}
    assert {"report/report.html", "report/table.parquet", "report/loss-by-tokens.svg"} <= names
    assert {d.dataset.name for d in run.inputs.dataset_inputs} >= {"studies/demo/mixes", "studies/demo/runs/real-s0"}


def test_same_inputs_give_the_same_bytes(study, lake, publish, reported):
    assert report(study, lake, **publish()).digest == reported.digest


@pytest.mark.parametrize(
    ("inputs", "mix", "reason"),
    [
        ({"seeds": (0,)}, "simple", "one seed"),
        ({"skip": ("simple-s0", "simple-s1")}, "simple", "no seed"),
        ({"real": 9.0}, "simple", "does not fall"),
    ],
    ids=["one seed", "mix never ran", "non-monotone reference"],
)
def test_open_cases_are_named_and_still_make_a_page(study, lake, publish, inputs, mix, reason):
    published = report(study, lake, **publish(**inputs))
    row = by_mix(load_table(published))[mix]
    assert row["verdict"] == "not resolved" and reason in row["reason"]
    assert "not resolved" in published.file("report.html").read_text()
    assert "nan" not in json.dumps(load_table(published)).lower()


def test_two_real_only_sizes_make_no_law_but_bounds(study, lake, publish):
    published = report(study, lake, **publish(skip=("real_0p25-s0", "real_0p25-s1")))
    table = load_table(published)
    row = by_mix(table)["simple"]
    assert row["verdict"] == "bracketed" and "found 2" in row["reason"] and row["efficiency"] is None
    assert row["efficiency_low"] == 1 and "more than 1.00 times as many" in table["headline"]
    assert "without a law" in render_table(table)
    assert 'class="pill bracketed"' in published.file("report.html").read_text()
    said = {"name": "by hand", "time": "2026-11-22 10:00", "commit": "c5f08e8" * 6, "metrics": metrics(table)}
    said |= {"law": None, "caveats": None}
    earlier = {line.split(" | ")[1]: line for line in results._history([said, said]).splitlines() if " | " in line}
    assert earlier["simple"].endswith(f"| {row['loss_iid']:.4f} | more than 1.00x | not recorded |")
    assert earlier["real"].endswith("| – | not recorded |") and earlier["augmented"].endswith("| – | not recorded |")


def test_a_law_that_misses_its_points_is_shown_with_that_wherever_it_is(study, lake, store, publish):
    """The real-only loss falls ever faster: no law of this form does."""
    from mlflow import MlflowClient

    parent = track.open_parent(study)
    published = report(study, lake, **publish(real=2.2), parent_run_id=parent)
    table, page = load_table(published), published.file("report.html").read_text()
    assert table["law"] is None and re.match(r"the law misses a point by 0\.\d+ nats", table["problem"])
    (law,) = (law for law in table["laws"] if law["in"] == "D")
    assert law["fit"]["problem"] == table["problem"] and page.count(table["problem"]) > len(study.mixes)
    logged = tables(table)["laws.json"]
    assert logged["to bear in mind"][logged["in"].index("D")] == table["problem"]
    assert table["problem"] in rows_of("## Laws", table["laws"], LAWS)
    run = MlflowClient(track.tracking_uri()).get_run(parent)
    assert run.data.tags["palimpsest.law"] == f"none: {table['problem']}"
    assert table["problem"] in run.data.tags["palimpsest.caveat.simple"]
    assert not [name for name in run.data.metrics if name.startswith("law/")]


def test_an_extrapolated_figure_says_so_wherever_it_is(study, lake, store, publish):
    parent = track.open_parent(study)
    published = report(study, lake, **publish(), parent_run_id=parent)
    table, page = load_table(published), published.file("report.html").read_text()
    row = by_mix(table)["stitched"]
    assert row["extrapolated"] and re.match(r"extrapolated to 1\.\d\d times the largest real-only run", row["reason"])
    assert f"to bear in mind: {row['reason']}" in table["headline"] and page.count(row["reason"]) == 3
    assert describe(row).endswith("), extrapolated") and describe(by_mix(table)["simple"]) in table["aside"]
    assert row["reason"] in " ".join(render_table(table, 400).split()) and row["reason"] in reservations(table)
    assert tables(table)["mixes.json"]["to bear in mind"][table["mixes"].index(row)].startswith(row["reason"])
    (told,) = track.reports(study)
    assert told["metrics"]["extrapolated/stitched"] == told["metrics"]["best/extrapolated"] == 1
    assert told["caveats"]["stitched"].startswith(row["reason"]) and "real" not in told["caveats"]
    assert told["law"].startswith("6") and "over 3 sizes of ‘real’; to bear in mind: as many points" in told["law"]
    history = as_table([told, told | {"law": None, "caveats": None}])
    place = history["mix"].index("stitched")
    assert history["caveat"][place] == told["caveats"]["stitched"] and history["law"][place] == told["law"]
    assert history["caveat"][place + len(study.mixes)] is None
    assert row["reason"] in results._history([told, told])


def test_a_study_where_nothing_ran_says_so(study, lake, publish):
    inputs = publish() | {"runs": []}
    assert load_table(report(study, lake, **inputs))["headline"].startswith("Not resolved: no mix has a finite loss")


def test_a_mix_below_the_floor_is_worth_at_least_something(study, lake, publish):
    table = load_table(report(study, lake, **publish(stretched=1.9)))
    assert by_mix(table)["stretched"]["verdict"] == "beyond floor"
    assert "worth at least" in table["headline"] and "at least" in render_table(table)


def test_runs_of_other_mixes_are_refused(study, lake, publish):
    inputs = publish()
    rows = [row for row in planted.rows(study) if row["recipe"] != "simple"]
    inputs["mixes"] = lake.publish(
        "studies/demo/mixes",
        lambda d: pq.write_table(pa.Table.from_pylist(rows), d / "mixes.parquet") or Facts(),
        config={"without": "simple"},
    )
    with pytest.raises(LakeError, match="recipe 'simple' is not in these mixes"):
        report(study, lake, **inputs)


@pytest.mark.parametrize("width", [80, 100, 132])
def test_terminal_table_fits_and_names_every_mix(study, reported, width):
    text = render_table(load_table(reported), width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert all(mix in text for mix in study.mixes) and "not resolved (augmented)" in text


def test_a_worse_mix_is_not_praised():
    row = {"mix": "bad", "verdict": "resolved", "efficiency": 0.7, "efficiency_low": 0.6, "efficiency_high": 0.8}
    row |= {"real_tokens": 1000, "difference": 0.1, "margin": 0.01, "over_documents": None, "loss_iid": 3.0}
    row |= {"reason": "", "extrapolated": False}
    assert "only 0.70 times as many" in headline({"study": "s", "problem": "", "mixes": [row], "gaps": []})


def test_what_the_guard_found_and_who_waived_it_is_in_the_report(study, lake, publish, reported):
    found = {"gate": "G5", "outcome": "warned", "sentence": "up to 2 models lie <between>", "details": {}}
    waived = found | {"details": {"waived_by": "Ada", "waived_until": "2027-01-01", "why": "we measure depth two"}}
    passed = found | {"gate": "G4", "outcome": "passed", "sentence": "drawn apart"}
    gate = lake.publish("studies/demo/gate", lambda directory: Facts(extra={"guard": [waived, passed]}))
    page = report(study, lake, gate=gate, **publish()).file("report.html").read_text()
    assert "Waived by Ada until 2027-01-01" in page
    assert "up to 2 models lie &lt;between&gt;" in page
    assert "1 passed" in page
    assert "Collapse guard" not in reported.file("report.html").read_text()
