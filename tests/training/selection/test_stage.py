"""The selection stage and what layouts take from it: rows, costs, and every way its input can be wrong."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from palimpsest import align
from palimpsest.choice import chosen, latest_selection
from palimpsest.config import Mix, Study
from palimpsest.lake import Facts, Lake, LakeError
from tests.training.conftest import study_content
from tests.training.selection.conftest import DOCUMENTS, publish
from training.analysis import pages, selected
from training.analysis.markdown import rows_of
from training.selection import methods
from training.selection.scored import WEIGHTS
from training.selection.stage import select, told

SIMPLE = {"kind": "simple", "strategy": "rephrase"}


def study_of(**layouts) -> Study:
    engine = {"kind": "recorded", "file": "none"}
    content = study_content(seeds=[0])
    content["strategies"] = {"rephrase": {"kind": "rephrase", "generations": 2, "engine": engine}}
    content["layouts"] = {"real": {"kind": "real"}, "simple": SIMPLE} | layouts
    return Study.model_validate(content)


def select_by(method: str, **rule) -> dict:
    return SIMPLE | {"select": {"by": method, **rule}}


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    return Lake(tmp_path_factory.mktemp("selected"))


@pytest.fixture(scope="module")
def given(lake, planted):
    return publish(lake, planted, unknown=60)


@pytest.fixture(scope="module")
def study():
    bare = {"real": "none"}
    return study_of(
        best=select_by("rank", share=0.4) | bare,
        lot=select_by("random", share=0.4) | bare,
        other=select_by("random", share=0.4, seed=1) | bare,
        drawn=select_by("likelihood", sample=0.5),
        whole={"kind": "real", "select": {"by": "likelihood", "share": 0.5}},
    )


@pytest.fixture(scope="module")
def scored(lake, study, given):
    return select(study, lake, **given)


def test_every_text_has_a_row_per_method_that_says_what_it_is_made_of(scored):
    table = pq.read_table(scored.file("weights.parquet"))
    assert table.schema == WEIGHTS
    assert len(table) == 4 * 2 * DOCUMENTS
    assert scored.extra["texts"] == {"real": DOCUMENTS - 60, "unknown": 60, "synthetic": DOCUMENTS}
    rows = [row for row in table.to_pylist() if row["method"] == "rank"]
    averaged = [json.loads(row["features"]) for row in rows]
    means = [(own["rank_likelihood"] + own["rank_classifier"]) / 2 for own in averaged]
    assert [row["score"] for row in rows] == pytest.approx(means)
    assert len({(row["id"], row["strategy"]) for row in rows}) == len(rows)


def test_what_each_score_cost_is_told_and_an_average_costs_its_parts(scored):
    cost = scored.extra["methods"]
    assert cost["rank"]["flops"] == cost["likelihood"]["flops"] + cost["classifier"]["flops"] > 1e5
    assert cost["rank"]["seconds"] >= cost["likelihood"]["seconds"] + cost["classifier"]["seconds"]
    assert set(cost["rank"]["best"][0]) == {"id", "strategy", "score", "text"}
    assert cost["rank"]["best"][0]["score"] > cost["rank"]["worst"][0]["score"]
    own = np.array([row["score"] for row in pq.read_table(scored.file("weights.parquet")).to_pylist()
                    if (row["method"], row["origin"]) == ("rank", "synthetic")])  # fmt: skip
    assert cost["rank"]["scores"] == pytest.approx(np.quantile(own, [0.1, 0.5, 0.9]))
    assert 0 < cost["rank"]["weights"][0] < 1 < cost["rank"]["weights"][1] < 2
    lines = {line.split()[0]: line.split() for line in told(scored).splitlines()[1:]}
    assert lines["rank"][4:7] == [f"{value:.4g}" for value in cost["rank"]["scores"]]


def test_scores_are_made_once(lake, study, given, scored):
    assert select(study, lake, **given).uri == scored.uri


@pytest.fixture
def ran(monkeypatch):
    """The cheap scores as they are made; that which is put into ``killed`` ends the process."""
    names, killed = [], set()

    def watched(name, score):
        def own(pool):
            if name in killed:
                raise KeyboardInterrupt
            names.append(name)
            return score(pool)

        return own

    for name, score in methods.CHEAP.items():
        monkeypatch.setitem(methods.CHEAP, name, watched(name, score))
    return names, killed


def test_a_stage_that_is_killed_has_lost_no_score_that_was_finished(tmp_path, planted, study, scored, ran):
    names, killed = ran
    lake = Lake(tmp_path / "lake")
    given = publish(lake, planted, unknown=60)
    killed.add("classifier")
    with pytest.raises(KeyboardInterrupt):
        select(study, lake, **given)
    assert [one.dataset for one in lake.children("studies/small/scores")] == ["studies/small/scores/likelihood"]
    assert latest_selection(study, lake) is None
    killed.clear()
    found = select(study, lake, **given)
    assert names == ["likelihood", "classifier"], "what was finished is not made again"
    assert found.digest == scored.digest, "broken off or not, the weights are the same"


def test_another_score_or_another_average_makes_what_is_missing_alone(tmp_path, lake, given, scored, ran):
    names, lake = ran[0], Lake(shutil.copytree(lake.base, tmp_path / "lake"))
    content = study_of(best=select_by("rank", share=0.4)).model_dump(exclude={"path"})
    own = {"rank": ["commonness", "classifier"], "methods": ["likelihood"]}
    found = select(Study.model_validate(content | {"selection": own}), lake, **given)
    assert names == ["commonness"]
    averaged = lake.latest("studies/small/scores/rank")
    parents = [parent["dataset"].rsplit("/", 1)[1] for parent in averaged.manifest["parents"]]
    assert parents == ["split", "generations", "commonness", "classifier"]
    assert found.extra["methods"]["likelihood"] == scored.extra["methods"]["likelihood"], "its cost is what it was"
    rows = {name: pq.read_table(found.file("weights.parquet"), filters=[("method", "=", name)]).to_pylist()
            for name in ("commonness", "classifier", "rank")}  # fmt: skip
    sides = [
        (own["rank_commonness"], own["rank_classifier"]) for own in (json.loads(r["features"]) for r in rows["rank"])
    ]
    assert [row["score"] for row in rows["rank"]] == pytest.approx([(a + b) / 2 for a, b in sides])
    for side, name in enumerate(("commonness", "classifier")):
        real = [n for n, row in enumerate(rows[name]) if row["origin"] == "real"]
        order = np.argsort([rows[name][n]["score"] for n in real])
        assert np.array_equal(order, np.argsort([sides[n][side] for n in real])), "of the published scores"


def kept(study, scored, layout, kind="generations"):
    rows = chosen(layout, study.layouts[layout], scored)[kind].to_pylist()
    return {row["generation_id"] or row["document_id"]: row["keeps"] for row in rows}


def share(study, scored, layout, kind="generations"):
    rows = chosen(layout, study.layouts[layout], scored)[kind].to_pylist()
    return sum(row["tokens"] for row in rows if row["keeps"]) / sum(row["tokens"] for row in rows)


def test_layouts_keep_their_share_within_each_origin(study, scored, planted):
    kinds = {f"{document}/0": kind for document, kind, _ in planted[1]}
    own = {layout: kept(study, scored, layout) for layout in ("best", "lot", "other")}
    good = {name: np.mean([kinds[key] == "good" for key in fate if fate[key]]) for name, fate in own.items()}
    assert good["best"] > max(good["lot"], good["other"]) + 0.1
    assert own["lot"] != own["other"]
    for name in own:
        assert 0.38 < share(study, scored, name) <= 0.4
        assert kept(study, scored, name, "unknown_documents") == {}, "it holds no documents"
    assert 0.4 < share(study, scored, "drawn") < 0.6
    assert len(kept(study, scored, "drawn", "unknown_documents")) == 60
    assert 0.45 < share(study, scored, "whole", "unknown_documents") <= 0.5
    assert kept(study, scored, "whole") == {}


@pytest.fixture(scope="module")
def weighed(lake, given, study, scored):
    layouts = {name: study.layouts[name] for name in ("real", "simple", "best", "whole")}
    return align.weigh(study.model_copy(update={"layouts": layouts}), lake, **given, selection=scored)


def test_what_a_layout_decides_is_published_with_what_it_changed_and_people_keep_theirs(weighed, study, scored):
    rows = pq.read_table(weighed.file("weights.parquet")).to_pylist()
    fate = {row["generation_id"]: row["keeps"] for row in rows if row["layout"] == "best"}
    assert fate == kept(study, scored, "best")
    assert {row["document_id"] for row in rows if row["layout"] == "whole"} == {f"d{n:03}" for n in range(60)}
    own = weighed.extra["layouts"]["best"]
    assert (own["rule"], own["by"]) == ("by rank, 0.4 of the tokens", "rank")
    assert own["generations"]["kept"] == own["generations"]["effective"] == sum(fate.values())
    assert {row["strategy"] for row in pq.read_table(weighed.file("effects.parquet")).to_pylist()} == {"rephrase"}
    assert {p["dataset"] for p in weighed.manifest["parents"]} == {f"studies/small/{name}" for name in
                                                                 ("split", "generations", "selection")}  # fmt: skip


def test_a_report_says_what_was_taken_and_what_it_cost_beside_a_run(lake, weighed, scored):
    study = study_of(best=select_by("rank", share=0.4) | {"real": "none"})
    bare = lake.publish("studies/small/mixes", lambda folder: Facts())
    assert selected.read(study, bare, [])["layouts"] == []
    mixes = lake.publish("studies/small/mixes", lambda folder: Facts(), parents=[weighed])
    study = study.model_copy(update={"mixes": {"best": Mix(layout="best", f=0.5, epochs=2)}})
    runs = [{"recipe": "best", "seconds": 50.0, "flops": 1e9}, {"recipe": "real", "seconds": 1.0, "flops": 1.0}]
    table = {"selection": selected.read(study, mixes, runs)}
    (row,) = table["selection"]["layouts"]
    cost = scored.extra["methods"]["rank"]
    assert row["mixes"] == ["best"]
    assert row["strategies"] == {"rephrase": {"texts": DOCUMENTS, "kept": row["kept"]}}
    assert row["share_of_seconds"] == pytest.approx(cost["seconds"] / 50)
    assert row["share_of_flops"] == pytest.approx(cost["flops"] / 1e9)
    rows = pq.read_table(weighed.file("weights.parquet")).to_pylist()
    for side, keeps in (("score_kept", True), ("score_left", False)):
        own = [r["score"] for r in rows if r["layout"] == "best" and r["strategy"] and r["keeps"] == keeps]
        assert row[side] == pytest.approx(np.mean(own)), side
    assert [own["method"] for own in table["selection"]["methods"]] == list(scored.extra["methods"])
    found = selected.metrics(table)
    assert found["selection/score_kept/best"] > found["selection/score_left/best"]
    assert 0.38 < found["selection/kept_token_share/best"] <= 0.4
    assert selected.as_table(table)[0]["kept"] == row["kept"]
    lines = align.told(lake, mixes).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"layout best (by rank, 0.4 of the tokens) keeps {row['kept']} of {DOCUMENTS} gener")
    page = rows_of("## What was selected", table["selection"]["layouts"], selected.LAYOUT)
    assert f"| best | by rank, 0.4 of the tokens | {row['kept']} of {DOCUMENTS} |" in page
    said = pages.environment().get_template("parts.html.j2").module.selection(table)
    assert "by rank, 0.4 of the tokens" in said and "likelihood, classifier" in said


@pytest.mark.parametrize(
    ("layouts", "match"),
    [
        ({"kept": select_by("commonness", share=0.5)}, "has no scores by commonness; run: python -m training select"),
        (
            {"kept": select_by("rank", threshold=2.0)},
            r"layouts.kept.select: no score by rank .* reaches 2, the best",
        ),
    ],
)
def test_what_a_layout_cannot_have_is_said(lake, given, scored, layouts, match):
    with pytest.raises(LakeError, match=match):
        align.weigh(study_of(**layouts), lake, **given, selection=scored)


def test_scores_of_other_texts_or_none_are_refused(lake, study, planted, given, scored):
    with pytest.raises(LakeError, match="nothing is scored; run: python -m training select small"):
        align.weigh(study, lake, **given)
    other = publish(lake, planted, unknown=10)
    with pytest.raises(LakeError, match="scores other texts than this study has now"):
        align.weigh(study, lake, **other, selection=scored)
    assert latest_selection(study, lake).uri == scored.uri
    assert latest_selection(study_of(), lake) is None


def test_a_study_that_keeps_documents_for_the_reference_does_not_choose_among_them(tmp_path, planted):
    lake, study = Lake(tmp_path / "lake"), study_of(whole={"kind": "real", "select": {"by": "random", "share": 0.5}})
    given = publish(lake, planted, unknown=60, reserve=20)
    with pytest.raises(LakeError, match="layouts.whole.select would choose among documents of unknown origin"):
        align.weigh(study, lake, **given, selection=select(study, lake, **given))


def test_a_study_that_asks_for_nothing_and_one_with_too_little_text_say_so(tmp_path, planted):
    lake = Lake(tmp_path / "lake")
    given = publish(lake, [side[:12] for side in planted])
    with pytest.raises(ValueError, match="no layout has 'select'"):
        select(study_of(), lake, **given)
    with pytest.raises(LakeError, match="selection by classifier: 12 real texts are too few"):
        select(study_of(kept=select_by("classifier", share=0.5)), lake, **given)
