from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from palimpsest.config import ConfigError, corpora_dir, json_schema, load_corpus, load_study, studies_dir

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
        (("name",), "demonstration", "name is 'demonstration' but the file is called 'demo'"),
    ],
)
def test_a_wrong_value_is_named_with_its_key_and_what_is_allowed(tmp_path, path, value, said):
    file = edited(tmp_path, *path, value=value)
    with pytest.raises(ConfigError) as error:
        load_study(file)
    assert str(file) in str(error.value)
    assert said in str(error.value)


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
