"""Weights of texts learned beside a small model: trained for real, on texts of known quality."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import distributed, multiprocessing

from palimpsest import tokenizer as tok
from palimpsest.config import MTS, Study
from palimpsest.lake import Lake, LakeError
from tests.training.conftest import study_content
from tests.training.selection.conftest import publish
from training import track
from training.processes import ALONE, Group
from training.selection import features, mts, target, together
from training.selection.learner import Learner
from training.selection.pool import Pool
from training.selection.stage import select

MODEL = {"layers": 1, "width": 32, "mlp": 64, "heads": 2}
OWN = {"model": MODEL, "early": 60, "steps": 40, "context": 48, "batch": 64, "texts": 64, "held": 32, "rate": 3e-3}
OWN["optimizer"] = {"lr": 0.01}


def study_of(**changes) -> Study:
    content = study_content(seeds=[0], precision="fp32")
    engine = {"kind": "recorded", "file": "none"}
    content["strategies"] = {"rephrase": {"kind": "rephrase", "generations": 2, "engine": engine}}
    kept = {"kind": "simple", "strategy": "rephrase", "select": {"by": "mts", "share": 0.4}}
    content["layouts"] = {"real": {"kind": "real"}, "simple": {"kind": "simple", "strategy": "rephrase"}, "kept": kept}
    return Study.model_validate(content | {"selection": {"mts": OWN | changes}})


@pytest.fixture(scope="module")
def tokenizer(planted):
    return tok.train([text for _, text in planted[0]], 512)


@pytest.fixture(scope="module")
def given(tmp_path_factory, planted, tokenizer):
    return publish(Lake(tmp_path_factory.mktemp("mts")), planted, tokenizer=tokenizer)


@pytest.fixture
def scored(given, store):
    return select(study_of(), given["split"].lake, **given)


def test_it_is_a_score_with_its_features_its_cost_and_its_diagnosis(scored, planted):
    kinds = {f"{document}/0": kind for document, kind, _ in planted[1]}
    rows = [row for row in pq.read_table(scored.file("weights.parquet")).to_pylist() if row["origin"] == "synthetic"]
    own = [row for row in rows if kinds[row["id"]] in ("good", "boilerplate")]
    assert roc_auc_score([kinds[row["id"]] == "good" for row in own], [row["score"] for row in own]) > 0.7
    scores = np.array([row["score"] for row in rows])
    assert 0.05 <= scores.min() < scores.max() <= 1
    assert np.mean([row["weight"] for row in rows]) == pytest.approx(1)
    told = json.loads(rows[0]["features"])
    assert {"target_nn1", "pool_center", "same_source", "distance_median", "loss_average", "gradient"} < told.keys()
    method = scored.extra["methods"]["mts"]
    weights = 4 * 32 * 32 + 3 * 32 * 64 + 32 * 512
    assert method["flops"] > 6 * weights * 48 * (100 * 64 + 40 * 64)
    assert 0 < method["figures"]["effective share of a batch"] <= 1
    assert 2 <= method["figures"]["step that was best"] <= 40
    from mlflow import MlflowClient

    client = MlflowClient(track.tracking_uri())
    [run] = client.search_runs([client.get_experiment_by_name("small").experiment_id])
    assert (run.info.run_name, run.data.params["texts"]) == ("selection by mts", "64")
    looks = client.get_metric_history(run.info.run_id, "mts/effective")
    assert [look.step for look in looks] == list(range(2, 41, 2))


def test_no_text_is_near_the_target_for_standing_over_it(planted, tmp_path, tokenizer):
    """Copies of the documents they stand over are as far from all others as these are."""
    real = planted[0]
    copies = [(key, "copy", text) for key, text in real]
    pool = Pool(**publish(Lake(tmp_path / "lake"), (real, copies), tokenizer=tokenizer))
    found = features.position(pool, target.read(pool, tokenizer))
    own = pool.origin == "synthetic"
    for name in ("target_nn1", "target_center", "pool_nn2"):
        assert found[name][own] == pytest.approx(found[name][~own], abs=1e-6), name
    assert (found["target_nn1"] < 0.999).mean() > 0.95, "but for pages that are nearly alike"
    assert (found["target_nn1"] >= found["target_nn2"]).all()


def test_shuffled_words_and_boilerplate_differ_in_what_features_tell(given, planted, tokenizer):
    pool = Pool(**given)
    kinds = {f"{document}/0": kind for document, kind, _ in planted[1]}
    of = np.array([kinds.get(key, "real") for key in pool.rows["id"].to_pylist()])
    told = features.position(pool, target.read(pool, tokenizer)) | features.surface(pool)
    middle = {name: {kind: np.median(own[of == kind]) for kind in set(of)} for name, own in told.items()}
    assert middle["compression"]["boilerplate"] < middle["compression"]["good"]
    assert middle["commonness"]["boilerplate"] > middle["commonness"]["good"]
    assert middle["pool_nn1"]["boilerplate"] > middle["pool_nn1"]["good"]
    known, names = features.table(pool, told)
    assert known[:, : len(told)].mean(0) == pytest.approx(np.zeros(len(told)), abs=1e-4)
    assert names[len(told) :] == ["origin", "origin", "source", "source"]


def learned(given, tokenizer, measured: int, monkeypatch) -> mts.Learned:
    """24 steps, each with a look: the 24th is the third of every eighth."""
    monkeypatch.setattr(mts, "MEASURED", measured)
    pool, study = Pool(**given), study_of(steps=24, early=6)
    return mts.learn(pool, target.read(pool, tokenizer), study.selection.mts, study.training)


def test_noise_is_measured_where_there_is_a_gradient_and_changes_nothing(given, tokenizer, monkeypatch):
    often = learned(given, tokenizer, 8, monkeypatch)
    told = {row["step"]: row["mts/gsnr"] for row in often.looks if "mts/gsnr" in row}
    assert list(told) == [8, 16], "after the last step the model's rate is 0"
    assert np.isfinite(list(told.values())).all()
    never = learned(given, tokenizer, 100, monkeypatch)
    assert not any("mts/gsnr" in row for row in never.looks)
    for one, other in zip(often.looks, never.looks, strict=True):
        assert one["mts/stopping_loss"] == other["mts/stopping_loss"], one["step"]
    assert often.weights.tolist() == never.weights.tolist()
    assert often.flops > never.flops


def test_told_the_loss_alone_it_is_meta_weight_net(given, tokenizer):
    pool, study = Pool(**given), study_of(steps=8, early=20, inputs="loss")
    found = mts.learn(pool, target.read(pool, tokenizer), study.selection.mts, study.training)
    assert (found.columns, found.names) == ({}, ["loss"])
    assert [tuple(layer.weight.shape) for layer in found.own.network.layers if hasattr(layer, "weight")] == [
        (100, 1), (1, 100),
    ]  # fmt: skip
    own = found.own
    losses = torch.from_numpy(own.learner.read(own.given.encoded)).float()
    with torch.no_grad():
        assert own.weights().numpy() == pytest.approx(own.network(losses[:, None]).numpy())
    batch = own._batch(torch.arange(40))
    whole = own.learner.losses(batch)(own.learner.theta).detach()
    assert own.inputs(torch.arange(40), batch)[:, 0].numpy() == pytest.approx(whole.numpy()), "of the very windows"
    before, own.learner.count = own.weights(), 0  # after the last step the rate is 0
    own.learner.learn(batch)
    assert not torch.equal(own.weights(), before), "a text's weight goes with the model"


class Looks:
    """A run in MLflow, as far as looks need one."""

    def __init__(self) -> None:
        self.found: dict[int, dict[str, float]] = {}

    def log_metrics(self, metrics, step) -> None:
        self.found[step] = dict(metrics)


UNEVEN = {"early": 12, "steps": 20, "texts": 65, "batch": 49, "held": 31, "patience": 20}
"""Batches that two processes cannot divide evenly."""


def one_gradient(given: dict, group: Group) -> np.ndarray:
    """The network's first gradient, after the early steps."""
    pool, asked = Pool(**given), study_of(**UNEVEN).selection.mts
    read = target.read(pool, tok.load(given["split"].file("tokenizer.json")))
    learner = Learner(asked, 32, read.vocabulary, read.boundary, asked.seed, torch.device("cpu"), group)
    _, known, _ = mts._known(pool, read, learner, asked)
    own = mts.Weighing(read, known, learner, asked)
    return own.gradient(torch.Generator().manual_seed(0)).flat.numpy()


def part(rank: int, folder: str, root: str, uris: dict[str, str]) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.set_num_threads(1)
    found = one_gradient({name: Lake(root).open(uri) for name, uri in uris.items()}, Group(rank, 2, rank))
    np.save(f"{folder}/{rank}.npy", found)


def test_the_gradient_of_two_processes_is_that_of_one(given, tmp_path):
    """Each has its part of both batches; weights are normalized over both, and both end up with the same."""
    uris = {name: published.uri for name, published in given.items()}
    multiprocessing.spawn(part, (str(tmp_path), given["split"].lake.root, uris), nprocs=2)
    first, second = (np.load(tmp_path / f"{rank}.npy") for rank in (0, 1))
    whole = one_gradient(given, ALONE)
    assert np.linalg.norm(first - whole) < 0.01 * np.linalg.norm(whole), "a central difference in fp32"
    assert (first == second).all()


def test_processes_of_a_study_score_as_one_does(given, tokenizer, monkeypatch):
    """Rounding grows under AdamW, whose first steps follow the sign of every entry; so scores are alike, not equal."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    pool, study = Pool(**given), study_of(**UNEVEN)
    both = study.model_copy(update={"training": study.training.changed({"processes": 2})})
    looks = [Looks(), Looks()]
    read = target.read(pool, tokenizer)
    one = mts.score(pool, read, study.selection.mts, study.training, looks[0].log_metrics)
    two = together.score(pool, both, together.processes(both), looks[1])
    assert np.corrcoef(two.score, one.score)[0, 1] > 0.8
    assert two.features.keys() == one.features.keys()
    assert two.features["gradient"] == pytest.approx(one.features["gradient"], rel=1e-3)
    assert two.flops == one.flops
    assert two.figures["processes"] == 2
    assert two.paid["cpu_seconds"] > 1, "which this process has not spent"
    first, second = looks[0].found[1], looks[1].found[1]
    assert looks[0].found.keys() == looks[1].found.keys() == set(range(1, 21))
    assert second["mts/effective"] == pytest.approx(first["mts/effective"], rel=1e-4), "of the parts of both"
    for step, told in looks[0].found.items():
        assert looks[1].found[step]["mts/stopping_loss"] == pytest.approx(told["mts/stopping_loss"], rel=0.01)


def test_more_processes_than_texts_are_refused_and_machines_have_their_share(monkeypatch):
    study = study_of(held=8)
    nine = study.model_copy(update={"training": study.training.changed({"batch": 9, "processes": 9})})
    with pytest.raises(ValueError, match="held 8 of selection.mts is not a text for each of 9 processes"):
        together.processes(nine)
    monkeypatch.setenv("PALIMPSEST_NODES", "3")
    monkeypatch.setenv("PALIMPSEST_RENDEZVOUS", "host:1234")
    assert together.processes(nine) == 3


@pytest.mark.usefixtures("store")
def test_a_study_scores_with_its_processes_and_what_one_says_is_raised(given, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    study = study_of(early=6, steps=4)
    both = study.model_copy(update={"training": study.training.changed({"processes": 2})})
    published = select(both, given["split"].lake, **given)
    assert published.extra["methods"]["mts"]["figures"]["processes"] == 2
    alone = select(study, given["split"].lake, **given)
    assert "processes" not in alone.extra["methods"]["mts"]["figures"], "scores of their own"
    few = study_of(batch=32, early=6, steps=20, patience=1)
    both = few.model_copy(update={"training": few.training.changed({"processes": 2})})
    with pytest.raises(LakeError, match="selection by mts: 2 times in a row the learner's batch of 32 .*; give it"):
        select(both, given["split"].lake, **given)


def test_what_cannot_work_is_said(given, planted):
    with pytest.raises(ValueError, match="held 7 must be at least an eighth of texts 64"):
        MTS.model_validate(OWN | {"held": 7})
    with pytest.raises(ValueError, match="selection.mts: selecting by 'mts' trains a model and a network"):
        Study.model_validate(study_of().model_dump(exclude={"path"}) | {"selection": {}})


@pytest.mark.usefixtures("store")
def test_alarms_in_a_row_stop_the_stage_and_name_the_remedy(given):
    few = study_of(batch=32, early=6, steps=20, patience=1)  # weights that differ at all leave less than 32 of 32
    with pytest.raises(LakeError, match="selection by mts: 2 times in a row the learner's batch of 32 .*; give it"):
        select(few, given["split"].lake, **given)
