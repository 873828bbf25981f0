from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from palimpsest.config import ConfigError, check_files, corpora_dir, json_schema, load_corpus, load_study, studies_dir

DEMO = studies_dir() / "demo.yaml"


def edited(tmp_path: Path, *path: str, value: object = None, delete: bool = False) -> Path:
    """The demo study with one key changed, as a file."""
    content = yaml.safe_load(DEMO.read_text())
    node = content
    for part in path[:-1]:
        node = node[part]
    if delete:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    file = tmp_path / "demo.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.mark.parametrize("file", sorted(studies_dir().glob("*.yaml")), ids=lambda f: f.stem)
def test_shipped_studies_are_valid(file):
    assert load_study(file).name == file.stem


@pytest.mark.parametrize("file", sorted(corpora_dir().glob("*.yaml")), ids=lambda f: f.stem)
def test_shipped_corpora_are_valid(file):
    assert load_corpus(file).name == file.stem


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("corpora",), ["sampel"], "corpora: 'sampel' is unknown; did you mean 'sample'?"),
        (("mixes", "simple", "layout"), "simpel", "mixes.simple.layout: 'simpel' is unknown; did you mean 'simple'?"),
        (("layouts", "simple", "strategy"), "rephrases", "layouts.simple.strategy: 'rephrases' is unknown"),
        (("layouts", "stitched", "kind"), "sewn", "layouts.stitched.kind: Input should be 'real', 'simple'"),
        (("reference",), "simple", "mix 'simple' is not real-only"),
        (("mixes", "simple", "f"), 1.0, "mixes.simple.f: Input should be less than 1 (given: 1.0)"),
        (("mixes", "real", "f"), 0.5, "mixes.real: f is 0 for the 'real' layout"),
        (("mixes", "real", "max_tokens"), 9, "mixes.real: max_tokens caps the synthetic stream, and this mix has none"),
        (("layouts", "stretched", "real"), "first", "'real' has no meaning for kind 'stretched'"),
        (("mixes", "simple", "epoch"), 8, "mixes.simple.epoch: unknown key; did you mean 'epochs'?"),
        (("training", "modle"), {}, "training.modle: unknown key; did you mean 'model'?"),
        (("layouts", "simple", "generations"), 5, "generations is 5, but strategy 'rephrase' makes only 4"),
        (("layouts", "stretched", "strategy"), "rephrase", "'stretched' is for 'rationale' strategies"),
        (("strategies", "rephrase", "engine"), {"kind": "recorded"}, "engine 'recorded' needs the key 'file'"),
        (("strategies", "rephrase", "engine"), {"kind": "augment"}, "kind 'augment' and engine 'augment' go together"),
        (("validation", "rule"), "sites", "rule 'sites' needs the key 'sites'"),
        (("training", "model", "heads"), 3, "must be an even multiple of heads 3"),
        (
            ("layouts", "simple", "seed"),
            -1,
            "layouts.simple.seed: Input should be greater than or equal to 0 (given: -1)",
        ),
        (("strategies", "augment", "seed"), 2**31, "strategies.augment.seed: Input should be less than 2147483648"),
        (("training", "seeds"), [0, 2**31], "training.seeds.1: Input should be less than 2147483648"),
        (("name",), "demonstration", "name is 'demonstration' but the file is called 'demo'"),
    ],
)
def test_a_wrong_value_is_named_with_its_key_and_what_is_allowed(tmp_path, path, value, said):
    file = edited(tmp_path, *path, value=value)
    with pytest.raises(ConfigError) as error:
        load_study(file)
    assert str(file) in str(error.value)
    assert said in str(error.value)


@pytest.mark.parametrize(
    "schedule", ["@hourly", "@yearly", "*/15 0-6,22 * * mon-fri", "0 6 l 1,jul 7", "0 0 * * MON#1"]
)
def test_a_cron_expression_is_a_schedule_of_corpora_and_studies(tmp_path, schedule):
    assert load_study(edited(tmp_path, "schedule", value=schedule)).schedule == schedule
    assert load_corpus(scheduled_corpus(tmp_path, schedule)).schedule == schedule


@pytest.mark.parametrize(
    ("schedule", "wrong"),
    [
        ("daily", "1 fields"),
        ("", "0 fields"),
        ("0 6 * * * *", "6 fields"),
        ("60 24 0 13 8", "minute '60', hour '24', day of month '0', month '13', day of week '8'"),
        ("*/0 1- ,1 jann *-2", "minute '*/0', hour '1-', day of month ',1', month 'jann', day of week '*-2'"),
    ],
)
def test_a_wrong_schedule_is_named_with_what_is_allowed(tmp_path, schedule, wrong):
    said = f"schedule: '{schedule}' is not a cron expression ({wrong}); allowed: "
    with pytest.raises(ConfigError) as error:
        load_study(edited(tmp_path, "schedule", value=schedule))
    assert f"demo.yaml: {said}on_corpora, manual, @hourly, " in str(error.value)
    with pytest.raises(ConfigError) as error:
        load_corpus(scheduled_corpus(tmp_path, schedule))
    assert f"sample.yaml: {said}@hourly, @daily, @weekly, @monthly, @yearly or five fields" in str(error.value)


@pytest.mark.parametrize("schedule", ["on_corpora", "manual"])
def test_what_only_a_study_waits_for_is_no_schedule_of_a_corpus(tmp_path, schedule):
    assert load_study(edited(tmp_path, "schedule", value=schedule)).schedule == schedule
    with pytest.raises(ConfigError, match=f"schedule: '{schedule}' is not a cron expression"):
        load_corpus(scheduled_corpus(tmp_path, schedule))


def scheduled_corpus(tmp_path: Path, schedule: str) -> Path:
    content = yaml.safe_load((corpora_dir() / "sample.yaml").read_text())
    file = tmp_path / "sample.yaml"
    file.write_text(yaml.safe_dump({**content, "schedule": schedule}))
    return file


def test_a_mix_may_not_take_the_name_of_a_reference_recipe(tmp_path):
    content = yaml.safe_load(DEMO.read_text())
    content["training"]["reference_shares"] = [0.25, 0.5]
    content["mixes"]["real_0p25"] = content["mixes"]["real"]
    file = tmp_path / "demo.yaml"
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match="mixes.real_0p25: .* reference 'real' .* share of 0.25 .* rename the mix"):
        load_study(file)
    content["mixes"]["real_0p75"] = content["mixes"].pop("real_0p25")
    file.write_text(yaml.safe_dump(content))
    assert load_study(file).reference_recipes == {"real_0p25": 0.25, "real_0p5": 0.5}


def test_every_mistake_of_a_file_is_told_at_once(tmp_path):
    file = edited(tmp_path, "mixes", "real", value={"layout": "real", "epoch": 16})
    with pytest.raises(ConfigError) as error:
        load_study(file)
    assert "mixes.real.epochs: Field required" in str(error.value)
    assert "mixes.real.epoch: unknown key" in str(error.value)


def test_an_unknown_name_lists_the_files_there_are():
    with pytest.raises(ConfigError, match=r"no such file; did you mean 'demo'\?"):
        load_study("demmo")


@pytest.mark.parametrize("content", ["a: [", "- a\n- b\n", "", "\xff"])
def test_a_file_that_is_no_mapping_is_refused_by_name(tmp_path, content):
    file = tmp_path / "demo.yaml"
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigError, match="demo.yaml: (not readable as YAML|expected keys and values)"):
        load_study(file)


@pytest.mark.parametrize(("kind", "folder"), [("study", studies_dir()), ("corpus", corpora_dir())])
def test_the_schema_takes_the_shipped_files_and_refuses_an_unknown_key(kind, folder):
    schema = json.loads(json.dumps(json_schema(kind)))
    assert "path" not in schema["properties"]
    for file in folder.glob("*.yaml"):
        content = json.loads(json.dumps(yaml.safe_load(file.read_text()), default=str))
        jsonschema.validate(content, schema)
        with pytest.raises(jsonschema.ValidationError, match="'mixez' was unexpected"):
            jsonschema.validate({**content, "mixez": {}}, schema)


@pytest.mark.parametrize("name", ["PALIMPSEST_CORPORA", "PALIMPSEST_STUDIES"])
def test_an_empty_setting_is_no_setting(monkeypatch, name):
    monkeypatch.setenv(name, "")
    assert corpora_dir().name == "corpora"
    assert studies_dir().name == "studies"


def test_a_file_that_a_study_names_but_is_not_there_is_told_with_its_key(tmp_path):
    study = load_study(edited(tmp_path, "validation", "urls_file", value="/nowhere/urls.txt"))
    with pytest.raises(ConfigError, match=r"demo.yaml: validation.urls_file: no file /nowhere/urls.txt"):
        check_files(study)
    check_files(load_study("demo"))
    check_files(load_corpus("sample"))
