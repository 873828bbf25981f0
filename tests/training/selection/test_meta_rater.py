"""Meta-rater: proxies trained for real, and whether their losses find the score that tells text from noise."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from palimpsest import align
from palimpsest import tokenizer as tok
from palimpsest.config import Study
from palimpsest.guard.importance import fold
from palimpsest.lake import Lake, LakeError
from tests.training.conftest import study_content
from tests.training.selection.conftest import DOCUMENTS, publish
from training.selection import at_random, proxies
from training.selection.found import Scores
from training.selection.meta_rater import search
from training.selection.methods import CHEAP
from training.selection.pool import Pool
from training.selection.stage import select, told
from training.selection.target import TARGET

MODEL = {"layers": 1, "width": 32, "mlp": 64, "heads": 2}
ASKED = {"model": MODEL, "steps": 40, "context": 64, "batch": 8, "optimizer": {"lr": 0.01}}
MIXED = {"scores": ["commonness", "likelihood"], "proxies": 8, "share": 0.4}


def study_of(**changes) -> Study:
    content = study_content(seeds=[0], precision="fp32")
    engine = {"kind": "recorded", "file": "none"}
    content["strategies"] = {"rephrase": {"kind": "rephrase", "generations": 2, "engine": engine}}
    kept = {"kind": "simple", "strategy": "rephrase", "real": "none", "select": {"by": "meta_rater", "share": 0.4}}
    content["layouts"] = {"real": {"kind": "real"}, "simple": {"kind": "simple", "strategy": "rephrase"}, "kept": kept}
    return Study.model_validate(content | {"selection": {"meta_rater": ASKED | MIXED | changes}})


@pytest.fixture(scope="module")
def salted(words):
    """Half of the generations are other pages, half are words drawn by lot: nothing to learn from."""
    real, other = words[:2]
    types = sorted({word for page in real for word in page})
    random = np.random.default_rng(0)
    written = [
        (f"d{n:03}", *(("page", " ".join(other[n])) if n % 2 else ("salad", " ".join(random.choice(types, 120)))))
        for n in range(DOCUMENTS)
    ]
    return [(f"d{n:03}", " ".join(text)) for n, text in enumerate(real)], written


def knowing(pool: Pool) -> Scores:
    """A score that tells pages from words drawn by lot, and among each nothing."""
    pages = np.array([int(document[1:]) % 2 for document in pool.rows["document_id"].to_pylist()])
    return Scores(pages + at_random.score(pool).score, np.ones(len(pool)), flops=1.0)


@pytest.fixture(scope="module", autouse=True)
def planted_scores():
    """In place of two cheap scores one that knows what is worth learning, and one that is noise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CHEAP, "likelihood", knowing)
        patch.setitem(CHEAP, "commonness", at_random.score)
        yield


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    return Lake(tmp_path_factory.mktemp("rated"))


@pytest.fixture(scope="module")
def given(lake, salted):
    return publish(lake, salted, tokenizer=tok.train([text for _, text in salted[0]], 512))


@pytest.fixture(scope="module")
def scored(lake, given):
    return select(study_of(), lake, **given)


def test_the_search_finds_the_score_by_which_small_models_learn_most(scored, salted):
    cost = scored.extra["methods"]["meta_rater"]
    assert cost["figures"]["weight of likelihood"] > 0.7
    assert cost["figures"]["expected loss"] < cost["figures"]["loss of even weights"]
    assert cost["figures"]["rank correlation of expected and left-out loss"] > 0.6
    kinds = {f"{document}/0": kind for document, kind, _ in salted[1]}
    rows = [row for row in pq.read_table(scored.file("weights.parquet")).to_pylist() if row["id"] in kinds]
    own = [row for row in rows if row["method"] == "meta_rater"]
    weight = {k: np.mean([row["weight"] for row in own if kinds[row["id"]] == k]) for k in ("page", "salad")}
    assert weight["page"] > 1.4
    assert weight["salad"] < 0.6


def test_the_score_is_the_weighted_average_of_ranks(scored):
    figures = scored.extra["methods"]["meta_rater"]["figures"]
    rows = [row for row in pq.read_table(scored.file("weights.parquet")).to_pylist() if row["method"] == "meta_rater"]
    features = [json.loads(row["features"]) for row in rows]
    mixed = [sum(own[f"rank_{name}"] * figures[f"weight of {name}"] for name in MIXED["scores"]) for own in features]
    assert [row["score"] for row in rows] == pytest.approx(mixed)


def trained(lake, number: int):
    return lake.latest(f"studies/small/proxies/{number:03}")


def test_proxies_are_of_one_budget_and_each_says_what_it_cost(lake, scored):
    found = [trained(lake, number).extra for number in range(MIXED["proxies"])]
    weights = [proxies.outcome(trained(lake, number))[0] for number in range(MIXED["proxies"])]
    assert [tuple(own.values()) for own in weights[:3]] == [(1, 0), (0, 1), (0.5, 0.5)]
    assert all(sum(own.values()) == pytest.approx(1) for own in weights)
    assert {own["flops"] for own in found} == {found[0]["flops"]}
    tokens = ASKED["steps"] * ASKED["batch"] * ASKED["context"]
    assert all(own["passes"] * own["tokens"] == pytest.approx(tokens) for own in found)
    cost = scored.extra["methods"]["meta_rater"]
    for key in ("seconds", "cpu_seconds", "flops"):
        parts = sum(scored.extra["methods"][name][key] for name in MIXED["scores"])
        rated = sum(own[key] for own in lake.latest("studies/small/raters").extra["cost"].values())
        assert cost[key] >= parts + rated + sum(own[key] for own in found) > parts, key
    assert "weight of likelihood" in told(scored)


def test_nothing_over_the_target_is_rated_or_read_by_a_proxy(lake, given, scored):
    rated = pq.read_table(lake.latest("studies/small/raters").file("raters.parquet"))
    pool = Pool(**given)
    part = pool.without(TARGET)
    own = [fold(document) for document in part.rows["document_id"].to_pylist()]
    assert TARGET not in own
    assert rated["id"].to_pylist() == part.rows["id"].to_pylist()
    assert len(part) < len(pool)
    read = [text for batch in part.batches() for text in batch]
    assert [text.place for text in read] == list(range(len(part)))
    assert [text.fold for text in read] == own
    assert [text.origin for text in read] == part.origin.tolist()
    chosen = proxies.kept(part, rated["likelihood"].to_numpy(), 0.4)
    assert not chosen[part.origin == "real"].any()
    synthetic = part.tokens[part.origin == "synthetic"].sum()
    assert 0.38 * synthetic < part.tokens[chosen].sum() <= 0.4 * synthetic


def test_a_proxy_is_trained_once_and_more_of_them_leave_the_others_as_they_are(lake, given, scored):
    before = [trained(lake, number) for number in range(MIXED["proxies"])]
    told = [proxies.outcome(own) for own in before]
    shutil.rmtree(f"{lake.base}/{before[5].uri}")
    select(study_of(proxies=9), lake, **given)
    parents = [
        parent["dataset"].split("/") for parent in lake.latest("studies/small/scores/meta_rater").manifest["parents"]
    ]
    assert [own[-1] for own in parents if own[-2] == "proxies"] == [f"{number:03}" for number in range(9)]
    after = [trained(lake, number) for number in range(9)]
    assert [own.uri for own in after[:8]] == [own.uri for own in before]
    again = [new.extra["seconds"] != old.extra["seconds"] for new, old in zip(after, before, strict=False)]
    assert again == [number == 5 for number in range(8)], "the clock is what two trainings never share"
    assert [weights for weights, _ in map(proxies.outcome, after[:8])] == [weights for weights, _ in told]
    assert proxies.outcome(after[5])[1] == pytest.approx(told[5][1])


def test_another_loss_is_another_digest_and_so_another_selection(tmp_path, salted, monkeypatch):
    """A proxy that is made once more, and comes out otherwise, is not taken for what it was."""
    lake = Lake(tmp_path / "lake")
    given = publish(lake, salted, tokenizer=tok.train([text for _, text in salted[0]], 512))
    losses = iter(range(100))
    monkeypatch.setattr(proxies, "_trained", lambda *_: (float(next(losses)), {"passes": 1.0, "flops": 1.0}))
    first = select(study_of(), lake, **given)
    before = [trained(lake, number) for number in range(MIXED["proxies"])]
    assert len({own.digest for own in before}) == MIXED["proxies"]
    shutil.rmtree(f"{lake.base}/{before[5].uri}")
    second = select(study_of(), lake, **given)
    assert trained(lake, 5).uri == before[5].uri
    assert trained(lake, 5).digest != before[5].digest
    assert second.uri != first.uri


def test_layouts_take_its_choice(lake, given, scored, salted):
    weighed = align.weigh(study_of(), lake, **given, selection=select(study_of(), lake, **given))
    kinds = {f"{document}/0": kind for document, kind, _ in salted[1]}
    rows = [row for row in pq.read_table(weighed.file("weights.parquet")).to_pylist() if row["layout"] == "kept"]
    assert np.mean([kinds[row["generation_id"]] == "page" for row in rows if row["keeps"]]) > 0.9


def test_a_regression_finds_the_best_weights_through_noise():
    """A planted bowl over three scores, the third of no effect: the least loss lies at 0.6 of the first."""
    random = np.random.default_rng(0)
    weights = np.vstack([np.eye(3), random.dirichlet(np.ones(3), 29)])
    losses = 3 + (weights[:, 0] - 0.6) ** 2 + 0.02 * random.standard_normal(32)
    best, figures = search(weights, losses, 0)
    assert best[0] == pytest.approx(0.6, abs=0.12)
    assert best.sum() == pytest.approx(1)
    assert figures["expected loss"] == pytest.approx(3, abs=0.03)
    assert figures["rank correlation of expected and left-out loss"] > 0.8
    noise = search(weights, random.standard_normal(32), 0)[1]
    assert noise["rank correlation of expected and left-out loss"] < 0.5


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"proxies": 5}, "5 cannot tell 2 scores apart; 6 at least"),
        ({"scores": ["likelihood"]}, "name two at least"),
        ({"scores": ["likelihood", "likelihood"]}, "each once"),
    ],
)
def test_what_cannot_be_searched_is_refused(changes, match):
    with pytest.raises(ValueError, match=match):
        study_of(**changes)


def test_what_is_missing_is_said(tmp_path, salted):
    with pytest.raises(ValueError, match="selection.meta_rater: selecting by 'meta_rater' trains proxies"):
        Study.model_validate(study_of().model_dump(exclude={"path"}) | {"selection": {}})
    lake, few = Lake(tmp_path / "lake"), [side[:20] for side in salted]
    given = publish(lake, few, tokenizer=tok.train([text for _, text in salted[0]], 512))
    with pytest.raises(LakeError, match="selection by meta_rater: .* are too few, 10 each are needed"):
        select(study_of(), lake, **given)
