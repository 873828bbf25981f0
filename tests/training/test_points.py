"""Runs at any point: dealt as dbt deals them, keyed by what they do, and following other mixes exactly."""

from __future__ import annotations

import itertools
import json
import random

import pytest

from palimpsest import tokenizer as tok
from palimpsest.config import Model, Study
from palimpsest.lake import Lake, LakeError
from palimpsest.mixes import recipe_rows
from tests.palimpsest.conftest import publish_documents, write_study
from tests.palimpsest.test_mixes import build
from tests.training.conftest import study_content
from training import budget, points
from training.model import Decoder
from training.pack import tokenize
from training.points import Point
from training.pretrain import plan_runs, publication, train
from training.run import _exposures, open_feed

GRID = list(itertools.product((0.6, 1, 2, 7.3, 32), (0.29, 0.5, 0.75, 0.9, 1.0)))
VOCABULARY = 320
OTHER = {"context": 24, "batch": 3, "block": 10, "optimizer": {"weight_decay": 0.4}}


@pytest.fixture(scope="module")
def dealt(parsed_dbt, tmp_path_factory):
    """Mixes at many epochs and f, one of them in windows and batches of its own, one of three synthetic streams."""
    folder = tmp_path_factory.mktemp("dealt")
    (folder / "dbt").symlink_to(parsed_dbt)
    mixes = {"real": {"layout": "real", "epochs": 4}}
    for number, (epochs, f) in enumerate(GRID):
        mixes[f"simple_{number}"] = {"layout": "simple", "f": f, "epochs": epochs}
        mixes[f"capped_{number}"] = {"layout": "stitched", "f": f, "epochs": epochs, "max_tokens": 900,
                                     "training": OTHER}  # fmt: skip
        mixes[f"both_{number}"] = {"layout": "simple", "beside": {"stretched": 2.5, "augmented": 0.4}, "f": f,
                                   "epochs": epochs}  # fmt: skip
    study = write_study(folder, mixes=mixes, gates={"max_synthetic_share": 1.0})
    lake = Lake(folder / "lake")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PALIMPSEST_STATE", str(folder))
        split, published = build(study, lake, publish_documents(lake))
    return study, published, split


def test_every_point_is_dealt_as_dbt_deals_it(dealt):
    """The rows of one mix, at the epochs and f of every other, give what dbt gives for that one."""
    study, published, _ = dealt
    recipes = points.recipes(published)
    for kind in ("simple", "capped", "both"):
        for number, (epochs, f) in enumerate(GRID):
            run = points.at(study, recipes[f"{kind}_0"], Point(0.1, 0.2, epochs, f), 3)
            rows = points.in_order(study, recipes[f"{kind}_{number}"])
            assert len(rows) == (4 if kind == "both" else 2)
            assert {run["steps"]} == {row["steps"] for row in rows}
            assert [stream["sequences"] for stream in run["streams"]] == [row["stream_sequences"] for row in rows]
            assert [stream["passes"] for stream in run["streams"]] == [row["passes"] for row in rows]
            assert (run["epochs"], run["seed"]) == (rows[0]["epochs"], 3)
            assert run["f"] == pytest.approx(sum(row["fraction"] for row in rows if row["is_synthetic"]))
            training = study.training_of(f"{kind}_{number}")
            trained = sum(row["trained_tokens"] for row in rows)
            assert run["steps"] * training.batch * training.context == trained


def test_the_plan_of_a_study_with_settings_of_its_own_per_mix_agrees_with_its_tables(dealt):
    study, published, _ = dealt
    runs = {run["run"]: run for run in plan_runs(study, published)}
    assert len(runs) == (len(study.mixes) + 1) * 2
    assert json.loads(json.dumps(runs)) == runs
    found = points.applied(study, runs["capped_3-s0"]).training
    assert (found.context, found.batch, found.optimizer.weight_decay) == (24, 3, 0.4)
    assert found.optimizer.lr == study.training.optimizer.lr
    assert points.applied(study, runs["simple_3-s0"]).training == study.training


def test_a_run_sees_of_each_of_its_streams_what_was_dealt_to_it(dealt):
    study, published, split = dealt
    tokens = tokenize(study, published.lake, split=split, mixes=published)
    run = next(run for run in plan_runs(study, published) if run["run"] == f"both_{GRID.index((2, 0.75))}-s0")
    trained = train(study, published.lake, tokens=tokens, mixes=published, run=run)
    found = json.loads(trained.file("evaluation.json").read_text())["exposures"]
    assert {name: seen["total"] for name, seen in found.items()} == {
        stream["layout"]: stream["sequences"] * study.training.context for stream in run["streams"]
    }
    assert list(found) == ["real", *study.mixes[run["recipe"]].layouts]


def sized(**changes) -> Study:
    """Three mixes over streams of which only the sizes matter."""
    content = study_content(reference_shares=[0.5])
    content["mixes"]["other"] = {"layout": "simple", "f": 0.5, "epochs": 1}
    return Study.model_validate(content | changes)


def rows_of(study: Study, real: int = 5000, synthetic: int = 9000, copies: float = 0.25) -> dict[str, list[dict]]:
    """Rows of ``mixes.parquet`` by recipe, as far as runs are made of them."""
    found = {}
    for row in recipe_rows(study):
        common = {key: row[key] for key in ("recipe", "role", "share")} | {"vocabulary": VOCABULARY}
        size = round(real * row["share"])
        rows = [{**common, "layout": "real", "stream_tokens": size, "stream_synthetic_tokens": 0}]
        for layout in study.mix_of(row["recipe"]).streams:
            part = {"stream_tokens": synthetic, "stream_synthetic_tokens": round(synthetic * (1 - copies))}
            rows.append({**common, "layout": layout, **part})
        found[row["recipe"]] = [one | {"windows": -(-one["stream_tokens"] // row["context"])} for one in rows]
    return found


SEARCH = {"lr": [1e-3, 3e-3, 1e-2], "epochs": [1, 2, 4, 8], "f": [0.5, 0.75]}


def test_a_searched_run_is_named_by_its_point():
    study = sized(search=SEARCH)
    rows = rows_of(study)
    names = [
        points.at(study, rows["simple"], Point(0.003, 0.1, 8, 0.75), 0)["run"],
        points.at(study, rows["real_0p5"], Point(1e-05, 0.0, 0.5, 0.0), 2)["run"],
    ]
    assert names == ["simple-lr0.003-wd0.1-e8-f0.75-s0", "real_0p5-lr1e-05-wd0-e0.5-s2"]
    assert points.at(sized(), rows["simple"], Point(0.003, 0.1, 2, 0.75), 0)["run"] == "simple-s0"


def test_a_study_without_search_like_match_or_settings_of_a_mix_has_the_runs_it_always_had():
    study = sized()
    run = points.at(study, rows_of(study)["simple"], points.own(study, "simple"), 0)
    assert {"point", "training"} & run.keys() == set()
    assert points.of(study, run) == Point(3e-3, 0.1, 2, 0.75)
    assert points.applied(study, run) is study


def test_too_few_steps_and_too_much_synthetic_text_are_refused_with_the_key_to_change():
    study = sized(search=SEARCH, gates={"max_synthetic_share": 0.5})
    rows = rows_of(study)
    with pytest.raises(LakeError, match=r"recipe simple: not one step of 4 windows of 32 tokens in 0.001 epochs"):
        points.at(study, rows["simple"], Point(0.003, 0.1, 0.001, 0.75), 0)
    with pytest.raises(LakeError, match=r"56\.\d% .* synthetic, above gates.max_synthetic_share 0.5; take f 0.75 out"):
        points.at(study, rows["simple"], Point(0.003, 0.1, 8, 0.75), 0)
    points.at(study, rows["simple"], Point(0.003, 0.1, 8, 0.5), 0)


def test_a_point_that_the_study_cannot_come_to_is_told_apart():
    mixes = {
        "real": {"layout": "real", "epochs": 4},
        "simple": {"layout": "simple", "f": 0.75, "epochs": 2},
        "fixed": {"layout": "simple", "f": 0.5, "epochs": 3, "search": False},
        "same": {"layout": "simple", "f": 0.5, "epochs": 3, "like": "simple"},
        "equal": {"layout": "simple", "f": 0.5, "epochs": 3, "match": {"mix": "simple", "by": "compute"}},
    }
    study = sized(search=SEARCH, mixes=mixes)
    written = {name: points.own(study, name) for name in mixes}
    assert all(points.possible(study, name, point) for name, point in written.items())
    assert points.possible(study, "simple", written["simple"]._replace(lr=0.01, f=0.5))
    assert not points.possible(study, "simple", written["simple"]._replace(lr=0.02))
    assert not points.possible(study, "simple", written["simple"]._replace(weight_decay=0.2))
    assert not points.possible(study, "real", written["real"]._replace(f=0.5))
    assert not points.possible(study, "fixed", written["fixed"]._replace(lr=0.01))
    assert points.possible(study, "equal", written["equal"]._replace(epochs=2.345))
    assert not points.possible(study, "equal", written["equal"]._replace(lr=0.01))


def test_like_takes_the_other_mixs_best_point_and_the_reference_on_less_text_has_its_own():
    mixes = {
        "real": {"layout": "real", "epochs": 4},
        "simple": {"layout": "simple", "f": 0.75, "epochs": 2},
        "same": {"layout": "simple", "f": 0.5, "epochs": 1, "like": "simple", "training": {"attention": "documents"}},
    }
    study = sized(search=SEARCH, mixes=mixes)
    rows = rows_of(study)
    best = {
        "real": Point(1e-3, 0.1, 8, 0),
        "real_0p5": Point(3e-3, 0.1, 4, 0),
        "simple": Point(1e-2, 0.1, 8, 0.5),
    }
    assert points.resolve(study, rows, best) == best | {"same": best["simple"]}
    run = points.at(study, rows["same"], best["simple"], 1)
    assert run["run"] == "same-s1"
    training = points.applied(study, run).training
    assert (training.optimizer.lr, training.attention, training.optimizer.betas) == (1e-2, "documents", (0.9, 0.95))
    del best["real_0p5"]
    with pytest.raises(
        LakeError, match="settings of real_0p5 are found by a search .* python -m training search small"
    ):
        points.resolve(study, rows, best)


def nearest(study, rows, by, target) -> int:
    """The number of steps that comes nearest, by trying them all."""
    point, batches = (
        points.own(study, rows[0]["recipe"]),
        points._batches(study, rows, points.own(study, rows[0]["recipe"])),
    )
    costs = {}
    for steps in range(1, 3200):
        run = points.at(study, rows, point._replace(epochs=(steps + 0.5) * point.real_share / batches), 0)
        assert run["steps"] == steps
        costs[steps] = points.spent(study, run, by, VOCABULARY)
    return min(costs, key=lambda steps: (abs(costs[steps] - target), steps))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("by", ["compute", "tokens", "real_tokens"])
def test_match_has_the_steps_that_come_nearest_to_what_the_other_spends(by, seed):
    chance = random.Random(seed)
    sizes = {"real": chance.randint(300, 3000), "synthetic": chance.randint(200, 9000), "copies": chance.random()}
    mixes = {
        "real": {"layout": "real", "epochs": 4},
        "simple": {"layout": "simple", "f": chance.choice([0.5, 0.75]), "epochs": chance.choice([1, 2, 4, 8])},
        "equal": {
            "layout": "simple", "f": chance.choice([0.29, 0.5, 0.9]), "epochs": 9,
            "match": {"mix": "simple", "by": by}, "training": {"batch": chance.choice([1, 4, 5])},
        },
        "plain": {"layout": "real", "epochs": 7, "match": {"mix": "simple", "by": by}},
    }  # fmt: skip
    study = sized(mixes=mixes, gates={"max_synthetic_share": 1})
    rows = rows_of(study, **sizes)
    found = points.resolve(study, rows, {})
    wanted = points.spent(study, points.at(study, rows["simple"], found["simple"], 0), by, VOCABULARY)
    for name in ("equal", "plain"):
        run = points.at(study, rows[name], found[name], 0)
        assert run["steps"] == nearest(study, rows[name], by, wanted)
        assert (run["f"], points.applied(study, run).training.optimizer) == (
            mixes[name].get("f", 0),
            study.training.optimizer,
        )


def test_compute_is_flops_also_between_models_and_contexts_that_differ_and_tokens_are_tokens():
    small, wide = {"layers": 1, "width": 32, "mlp": 64, "heads": 2}, {"layers": 3, "width": 64, "mlp": 192, "heads": 4}
    other = {"layout": "simple", "f": 0.5, "epochs": 9, "training": {"model": wide, "context": 128, "batch": 1}}
    mixes = {
        "real": {"layout": "real", "epochs": 4},
        "simple": {"layout": "simple", "f": 0.75, "epochs": 64},
        **{by: other | {"match": {"mix": "simple", "by": by}} for by in ("compute", "tokens")},
    }
    study = sized(mixes=mixes, gates={"max_synthetic_share": 1})
    rows = rows_of(study)
    found = points.resolve(study, rows, {})
    steps = {name: points.at(study, rows[name], found[name], 0)["steps"] for name in mixes}

    def flops(model: dict, context: int) -> int:
        return Decoder(Model(**model), vocab=VOCABULARY, context=context).flops_per_token()

    wanted = steps["simple"] * 4 * 32 * flops(small, 32)
    step = 128 * flops(wide, 128)
    assert abs(steps["compute"] * step - wanted) <= step / 2
    assert steps["tokens"] == steps["simple"] > 5 * steps["compute"]
    assert {row["recipe"]: row["steps"] for row in budget.budget(study, rows, VOCABULARY)}.items() >= steps.items()


def test_the_flops_of_a_match_are_of_the_vocabulary_that_the_mixes_were_made_with(dealt, small):
    _, published, split = dealt
    held = tok.load(split.file("tokenizer.json")).get_vocab_size()
    assert {row["vocabulary"] for rows in points.recipes(published).values() for row in rows} == {held}
    written = small.study.model_dump(mode="json")
    written["mixes"]["real"]["match"] = {"mix": "simple", "by": "compute"}
    with pytest.raises(LakeError, match="mixes.simple: .* no longer has the split .* python -m palimpsest split small"):
        plan_runs(Study.model_validate(written), small.mixes)


def test_equal_compute_in_equal_batches_is_equal_to_the_token():
    mixes = {
        "real": {"layout": "real", "epochs": 4, "match": {"mix": "simple", "by": "compute"}},
        "simple": {"layout": "simple", "f": 0.75, "epochs": 37},
    }
    study = sized(mixes=mixes)
    rows = rows_of(study)
    found = points.resolve(study, rows, {})
    runs = [points.at(study, rows[name], found[name], 0) for name in ("real", "simple", "real_0p5")]
    assert len({run["steps"] for run in runs}) == 1
    assert runs[0]["streams"][0]["passes"] == pytest.approx(runs[2]["streams"][0]["passes"] / 2, rel=0.02)


def test_real_tokens_spent_are_those_the_windows_hold(small_run):
    """Counted in the token files, copies inside the synthetic stream included; not total tokens over its size."""
    study, run, tokens = small_run
    counted = sum(found["real"] for found in _exposures(run, open_feed(study, tokens, run)).values())
    assert points.spent(study, run, "real_tokens") == pytest.approx(counted, rel=0.02)
    overcounted = run["steps"] * 4 * 32 * (0.25 + (1 - run["streams"][1]["synthetic_share"]))
    assert overcounted > 1.05 * counted


@pytest.fixture
def small_run(small):
    """A run of several whole passes over its synthetic stream."""
    study = small.study
    (rows,) = (found for name, found in points.recipes(small.mixes).items() if name == "simple")
    return study, points.at(study, rows, Point(3e-3, 0.1, 16, 0.75), 0), small.tokens


def test_a_run_is_keyed_by_what_it_does_not_by_where_that_is_written(lake, small):
    """Search, like, settings of the mix or of the study: the same numbers are the same run."""

    def key(study, name):
        run = next(run for run in plan_runs(study, small.mixes, best) if run["recipe"] == name)
        return publication(study, small.tokens, small.mixes, run)

    best = {"real": Point(3e-3, 0.1, 4, 0)}
    plain, written = small.study, small.study.model_dump(mode="json")

    def changed(**changes):
        return Study.model_validate(written | changes)

    own = {"simple": written["mixes"]["simple"] | {"search": False}, "real": written["mixes"]["real"]}
    searching = changed(mixes=own, search={"lr": [3e-3, 1e-2]})
    assert key(searching, "simple") == key(plain, "simple"), "a search elsewhere leaves a mix as it is"
    assert key(searching, "real")["dataset"] == "studies/small/runs/real-lr0.003-wd0.1-e4-s0"
    assert key(searching, "real")["config"]["training"] == key(plain, "real")["config"]["training"]

    def of_mix(**settings):
        return changed(mixes=own | {"simple": own["simple"] | {"training": settings}})

    assert key(of_mix(micro_tokens=64, threads=3), "simple") == key(plain, "simple"), "only rounding differs"
    unsaid = of_mix(optimizer={"schedule": "cosine", "cooldown": 0, "undecayed": ["embedding", "norms"]})
    assert key(unsaid, "simple") == key(plain, "simple"), "a later setting at its default is in no key"
    for optimizer in ({"schedule": "linear"}, {"undecayed": ["norms"]}):
        assert key(of_mix(optimizer=optimizer), "simple") != key(plain, "simple")
    assert key(of_mix(attention="documents"), "simple") != key(plain, "simple")
    assert key(of_mix(attention="documents"), "real") == key(plain, "real")
    everywhere = changed(training=written["training"] | {"attention": "documents"})
    assert key(of_mix(attention="documents"), "simple") == key(everywhere, "simple")


def test_a_run_at_a_point_off_the_axes_or_of_another_seed_is_not_in_the_plan(small):
    study = Study.model_validate(small.study.model_dump(mode="json") | {"search": {"lr": [3e-3, 1e-2], "seed": 7}})
    rows = points.recipes(small.mixes)["simple"]

    def place(lr, seed):
        run = points.at(study, rows, points.own(study, "simple")._replace(lr=lr), seed)
        return publication(study, small.tokens, small.mixes, run)

    assert place(1e-2, 7)["dataset"].endswith("simple-lr0.01-wd0.1-e2-f0.75-s7")
    assert place(1e-2, 1)["config"]["training"]["optimizer"]["lr"] == 1e-2
    for lr, seed in ((2e-3, 7), (1e-2, 5)):
        with pytest.raises(LakeError, match="is not in the plan"):
            place(lr, seed)
