"""Loop files: what each round is as a study, and what is said of a wrong one."""

from __future__ import annotations

import pytest
import yaml

from palimpsest.config import ConfigError, load_loop, load_study
from palimpsest.lake import REPOSITORY

ARMS = {
    "replace": {"policy": "replace"},
    "half": {"policy": "replace", "real": 0.5, "sampling": {"temperature": 0.7}},
    "real_only": {"policy": "replace", "real": 1},
    "accumulate": {"policy": "accumulate"},
    "subsample": {"policy": "subsample"},
    "floored": {"policy": "subsample", "real": 0.4},
}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a loop file with some keys changed; its name."""
    for name in ("corpora", "studies", "loops"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("PALIMPSEST_STUDIES", str(tmp_path / "studies"))
    content = yaml.safe_load((REPOSITORY / "dags" / "loops" / "cpython.yaml").read_text())

    def write(**changes):
        found = content | {"name": "ring", "arms": ARMS, "real_share": 0.8} | changes
        (tmp_path / "loops" / "ring.yaml").write_text(yaml.safe_dump(found))
        return "ring"

    return write


def test_round_0_learns_from_real_text_alone_and_writes_nothing(write):
    study = load_study(f"{write()}_round_0")
    assert (study.name, study.reference, study.strategies, list(study.mixes)) == ("ring_round_0", "real", {}, ["real"])


def test_each_arm_writes_with_its_own_newest_model(write):
    write()
    first, second = load_study("ring_round_1"), load_study("ring_round_2")
    assert {name: s.engine.server for name, s in first.strategies.items()} == dict.fromkeys(
        ["replace_1", "half_1", "accumulate_1", "subsample_1", "floored_1"], "real"
    )
    assert first.servers["real"].model == "run:ring_round_0/real-s0"
    models = {name: second.servers[s.engine.server].model for name, s in second.strategies.items()}
    assert models["replace_2"] == "run:ring_round_1/replace-s0"
    assert models["accumulate_2"] == "run:ring_round_1/accumulate-s0"
    assert models["accumulate_1"] == "run:ring_round_0/real-s0"
    assert "replace_1" not in models and not any(name.startswith("real_only") for name in models)
    assert second.strategies["half_2"].sampling.temperature == 0.7
    assert second.strategies["half_2"].sampling.max_tokens == second.strategies["replace_2"].sampling.max_tokens == 240


def test_what_an_arm_learns_from_follows_from_its_policy(write):
    write()
    study = load_study("ring_round_3")
    mixes, layouts = study.mixes, study.layouts

    def parts(arm):
        return {key: getattr(mixes[arm], key) for key in ("f", "real_share", "max_ratio")}

    assert parts("replace") == {"f": 1, "real_share": None, "max_ratio": 1}
    assert parts("half") == {"f": 0.5, "real_share": 0.4, "max_ratio": 1}
    assert parts("subsample") == pytest.approx({"f": 0.75, "real_share": 0.2, "max_ratio": 3})
    assert parts("floored") == pytest.approx({"f": 0.6, "real_share": 0.32, "max_ratio": 1.5})
    assert (mixes["real_only"].layout, mixes["real_only"].f) == ("real", 0)
    assert layouts["subsample"].strategies == ["subsample_3", "subsample_2", "subsample_1"]
    assert {layouts[arm].real for arm in ("replace", "half", "subsample", "floored")} == {"none"}
    assert (layouts["accumulate"].real, mixes["accumulate"].f) == ("last", 1)
    matched = {arm: (mix.match.mix, mix.match.by) for arm, mix in mixes.items() if mix.match}
    assert matched == dict.fromkeys(["replace", "half", "accumulate", "subsample", "floored"], ("real", "compute"))
    assert [load_study(f"ring_round_{k}").layouts["real"].seed for k in range(3)] == [0, 1, 2]


def test_a_continual_loop_has_other_real_text_in_every_round(write):
    write(continual={"by": "interval", "replay": 0.25}, rounds=2)
    first, last = (load_study(f"ring_round_{number}") for number in (0, 2))
    assert first.slice.model_dump() == {"by": "interval", "replay": 0.25, "number": 0, "of": 3, "share": 0.8}
    assert (last.slice.number, last.slice.of, last.real_share) == (2, 3, 1.0)
    assert {arm: mix.real_share for arm, mix in last.mixes.items() if mix.real_share} == pytest.approx(
        {"half": 0.5, "subsample": 1 / 3, "floored": 0.4}
    )
    assert last.layouts["accumulate"].strategies == ["accumulate_2", "accumulate_1"]
    assert load_study(f"{write()}_round_2").slice is None


def test_the_shipped_self_distillation_has_a_teacher_of_the_same_text():
    """Or it would be judged by text that its teacher has seen, and gain what the teacher brought in."""
    study, teacher = (
        load_study(REPOSITORY / "dags" / "studies" / "self_distillation.yaml"),
        "run:cpython_round_0/real-s0",
    )
    assert study.servers["teacher"].model == teacher
    loop = load_loop(REPOSITORY / "dags" / "loops" / "cpython.yaml")
    first = loop.study(0)
    assert f"run:{first.name}/{first.reference}-s{first.training.seeds[0]}" == teacher
    for key in ("corpora", "validation", "tokenizer", "real_share", "slice"):
        assert getattr(study, key) == getattr(first, key), key
    assert study.training.model == first.training.model and study.training.context == first.training.context
    assert study.strategies["self"].kind == "self" and study.strategies["self"].sampling.temperature == 1
    assert {layout.real for layout in study.layouts.values() if layout.kind != "real"} == {"none"}
    assert {mix.f for name, mix in study.mixes.items() if name != "real"} == {0.5}


def test_the_guard_stops_nothing_where_collapse_is_what_is_studied(write):
    write(experiment=True, guard={"severity": {"G6": "off"}})
    found = load_study("ring_round_1").guard
    assert found.experiment and found.severity == {"G6": "off"}
    write(experiment=False)
    assert not load_study("ring_round_1").guard.experiment


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rounds": 0}, "rounds: Input should be greater than or equal to 1"),
        ({"arms": {"real": {"policy": "replace"}}}, "arms.real: this is the name of the real-only runs"),
        ({"arms": {"a": {"policy": "accumulate", "real": 0.5}}}, "arms.a: policy 'accumulate' keeps all real text"),
        ({"arms": {"a": {"policy": "subsample", "real": 1}}}, "arms.a: real 1 leaves no room for anything else"),
        ({"arms": {"a": {"policy": "replace", "sampling": {"heat": 1}}}}, "round 2: strategies.a_2.sampling.heat"),
        ({"server": {"model": "x"}}, "server.model: each round's models are the rounds'"),
        ({"server": {"context": 200}}, "servers.*context of 200 tokens must hold the prompt as well"),
        ({"continual": {"replay": 1}}, "continual.replay: Input should be less than 1"),
        ({"continual": {"by": "size"}}, "continual.by: Input should be 'hash' or 'interval'"),
        ({"corpora": ["nothing"]}, "corpora: 'nothing' is unknown"),
    ],
)
def test_a_wrong_loop_is_named_with_its_key(write, changes, told):
    with pytest.raises(ConfigError, match=told):
        load_loop(write(**{"rounds": 2} | changes))


def test_a_round_that_the_loop_does_not_have_is_refused(write):
    with pytest.raises(ConfigError, match="the loop has no round 7, only rounds 0 to 3"):
        load_study(f"{write()}_round_7")


def test_a_study_file_of_that_name_comes_first(write, tmp_path):
    write()
    file = tmp_path / "studies" / "ring_round_1.yaml"
    file.write_text("name: ring_round_1\n")
    with pytest.raises(ConfigError, match="ring_round_1.yaml: description: Field required"):
        load_study("ring_round_1")
