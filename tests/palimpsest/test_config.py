from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from palimpsest import cli
from palimpsest.config import (
    ConfigError,
    check_files,
    corpora_dir,
    json_schema,
    load_corpus,
    load_study,
    resolve,
    studies_dir,
    unresolved,
)
from palimpsest.lake import Facts

DEMO = studies_dir() / "demo.yaml"
SIGNED = {"gate": "G5", "why": "measures what a second generation costs", "by": "Ada", "until": "2027-01-31"}


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
        (("mixes", "simple", "beside"), {"sttched": 1}, "mixes.simple.beside: 'sttched' is unknown"),
        (("mixes", "simple", "beside"), {"real": 1}, "mixes.simple.beside: 'real' is no further synthetic layout"),
        (
            ("mixes", "simple", "beside"),
            {"stitched": 0},
            "mixes.simple.beside.stitched: Input should be",
        ),
        (("layouts", "simple", "strategy"), "rephrases", "layouts.simple.strategy: 'rephrases' is unknown"),
        (("layouts", "stitched", "kind"), "sewn", "layouts.stitched.kind: Input should be 'real', 'simple'"),
        (("reference",), "simple", "mix 'simple' is not real-only"),
        (("mixes", "simple", "f"), 1.5, "mixes.simple.f: Input should be less than or equal to 1 (given: 1.5)"),
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
        (("training", "seeds"), [0, 0], "training: seeds: each once"),
        (("judging",), {"long_context": "loong"}, "judging.long_context: 'loong' is unknown; did you mean 'long'?"),
        (("training", "optimizer", "lr"), float("inf"), "training.optimizer.lr: Input should be a finite number"),
        (("guard",), {"thresholds": {"entropy_z_max": float("inf")}}, "entropy_z_max: Input should be a finite number"),
        (("guard",), {"waivers": [SIGNED | {"by": "   "}]}, "guard.waivers.0.by: String should have at least 2"),
        (("guard",), {"waivers": [SIGNED | {"why": " " * 12}]}, "guard.waivers.0.why: String should have at least 10"),
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
    return sample_corpus(tmp_path, schedule=schedule)


def sample_corpus(tmp_path: Path, **changes: object) -> Path:
    content = yaml.safe_load((corpora_dir() / "sample.yaml").read_text())
    file = tmp_path / "sample.yaml"
    file.write_text(yaml.safe_dump({**content, **changes}))
    return file


@pytest.mark.parametrize(
    ("definitions", "key", "said"),
    [
        ("datatrove", "max_curly_brackets", "'palimpsest' alone.*give max_curly_bracket_lines instead"),
        ("datatrove", "max_policy_words", "'palimpsest' alone.*definitions are 'datatrove'; leave it out"),
        ("palimpsest", "max_curly_bracket_lines", "'datatrove' alone.*give max_curly_brackets instead"),
        ("palimpsest", "max_duplicate_characters", "'datatrove' alone.*definitions are 'palimpsest'; leave it out"),
    ],
)
def test_a_threshold_that_no_rule_of_the_definitions_has_is_refused(tmp_path, definitions, key, said):
    other = {"datatrove": "palimpsest", "palimpsest": "datatrove"}[definitions]
    assert load_corpus(sample_corpus(tmp_path, documents={"definitions": other, key: 0}))
    with pytest.raises(ConfigError, match=f"documents: {key} is a threshold of definitions {said}"):
        load_corpus(sample_corpus(tmp_path, documents={"definitions": definitions, key: 0}))


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


def test_a_gate_is_switched_off_without_quotes(tmp_path):
    file = tmp_path / "demo.yaml"
    file.write_text(DEMO.read_text() + "guard:\n  severity: {G2: off}\n")
    assert load_study(file).guard.severity == {"G2": "off"}


@pytest.mark.parametrize("content", ["a: [", "- a\n- b\n", "", "\xff", "day: 2027-02-31"])
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


COMMIT = "0123456789abcdef0123456789abcdef01234567"
HUB = {"model": "org/name", "revision": COMMIT}


def asking(tmp_path: Path, server: dict | None = None, study: dict | None = None, **strategy: object) -> Path:
    """The demo study with its rephrases asked of a model in place of recordings."""
    content = yaml.safe_load(DEMO.read_text())
    content["servers"] = {"main": server or HUB}
    engine = {"kind": "vllm", "server": "main"}
    content["strategies"]["rephrase"] = {"kind": "rephrase", "generations": 4, "engine": engine, **strategy}
    content |= study or {}
    file = tmp_path / "demo.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.mark.parametrize(
    "server",
    [
        HUB,
        {"model": "gpt2", "revision": COMMIT},
        {"model": "./models/mine", "gpus": 0},
        {"model": "/models/mine", "arguments": {"--gpu_memory_utilization": 0.9, "enforce-eager": True}},
        {"model": "run:demo/real-s0"},
        {"model": "run:demo/simple-lr0.003-wd0.8-e8-f0.75-s0"},
        {**HUB, "endpoints": ["http://host:8000/v1/", "https://other.example"]},
    ],
    ids=str,
)
def test_servers_of_every_kind_are_valid(tmp_path, server):
    loaded = load_study(asking(tmp_path, server)).servers["main"]
    assert loaded.is_hub_model == ("revision" in server) and loaded.is_run == server["model"].startswith("run:")
    assert loaded.endpoints in ([], ["http://host:8000", "https://other.example"])
    assert all(not key.startswith("-") and "_" not in key for key in loaded.arguments)


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ({"model": "org/name"}, "servers.main: model 'org/name' needs the key 'revision': its commit"),
        ({"model": "org/name", "revision": "main"}, "because a branch or tag may move"),
        ({"model": "models/of/mine", "revision": COMMIT}, "is no hub id like 'org/name'; a folder begins with / or ./"),
        ({"model": "run:demo"}, "model 'run:demo' names no run; write it like run:demo/real-s0"),
        ({"model": "run:demo/real-s0", "revision": COMMIT}, "'revision' belongs to a hub model"),
        ({**HUB, "endpoints": ["host:8000"]}, "'host:8000' is no base URL of a server"),
        ({**HUB, "endpoints": ["http://user:word@host:8000"]}, "'host': secrets do not belong in a study file"),
        ({**HUB, "endpoints": ["http://host:8000"], "gpus": 2}, "'gpus' and 'arguments' are not the study's to set"),
        ({**HUB, "endpoints": ["http://host:8000"], "gpus": 1}, "'gpus' and 'arguments' are not the study's to set"),
        ({**HUB, "arguments": {"port": 8000}}, "'port' is set by the platform"),
        ({**HUB, "arguments": {"--max_model_len": 8}}, "(the context is the key 'context')"),
        ({**HUB, "arguments": {"hf-token": "x"}}, "'hf-token': secrets do not belong in a study file"),
        ({**HUB, "arguments": {"data-parallel-size": 8}}, "set 'gpus': one server is started per GPU"),
        ({**HUB, "context": 8}, "servers.main.context: Input should be greater than or equal to 64"),
        ({**HUB, "contxt": 8}, "servers.main.contxt: unknown key; did you mean 'context'?"),
    ],
)
def test_a_wrong_server_is_told(tmp_path, server, said):
    with pytest.raises(ConfigError) as error:
        load_study(asking(tmp_path, server))
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        ({"engine": {"kind": "vllm"}}, "engine 'vllm' needs the key 'server'"),
        ({"engine": {"kind": "vllm", "server": "mian"}}, "'mian' is unknown; did you mean 'main'?"),
        ({"engine": {"kind": "vllm", "server": "main", "file": "x"}}, "engine 'vllm' takes no 'file'"),
        ({"sampling": {"max_tokens": 8192}}, "servers.main.context of 8192 tokens must hold the prompt as well"),
        ({"sampling": {"temperature": 0}}, "temperature 0 makes 4 samples that are all the same"),
        ({"sampling": {"temperature": 3}}, "sampling.temperature: Input should be less than or equal to 2"),
        ({"sampling": {"stop": [""]}}, "sampling.stop.0: String should have at least 1 character"),
        ({"kind": "rationale", "chunk_tokens": 99}, "'chunk_tokens' is for kind 'rephrase'"),
        ({"candidates": 2}, "'candidates' are for kind 'rationale', not 'rephrase'"),
        ({"kind": "rationale", "candidates": 2, "sampling": {"temperature": 0}}, "'candidates' to 1"),
        ({"prefix_share": 0.3}, "'prefix_share' is for kind 'continuation', not 'rephrase'"),
        ({"kind": "augment"}, "kind 'augment' and engine 'augment' go together"),
        ({"review": {"refusal": "strip"}}, "review.refusal: Input should be 'keep', 'drop' or 'again'"),
        ({"review": {"attempts": 99}}, "review.attempts: Input should be less than or equal to 16"),
    ],
)
def test_a_wrong_question_is_told(tmp_path, strategy, said):
    content = {"layouts": {"real": {"kind": "real"}}, "mixes": {"real": {"layout": "real", "epochs": 1}}}
    with pytest.raises(ConfigError) as error:
        load_study(asking(tmp_path, study=content, **strategy))
    assert said in str(error.value)


def test_greedy_is_allowed_where_no_two_samples_would_be_the_same(tmp_path):
    content = {"layouts": {"real": {"kind": "real"}}, "mixes": {"real": {"layout": "real", "epochs": 1}}}
    assert load_study(asking(tmp_path, study=content, sampling={"temperature": 0}, generations=1))
    assert load_study(asking(tmp_path, study=content, sampling={"temperature": 0}, kind="rationale"))


@pytest.mark.parametrize(
    "setting", [{"prompt": "rephrase/faq"}, {"sampling": {"temperature": 0.5}}, {"chunk_tokens": 512}], ids=str
)
def test_a_recording_takes_no_settings_of_a_model(tmp_path, setting):
    content = yaml.safe_load(DEMO.read_text())
    content["strategies"]["rephrase"] |= setting
    (tmp_path / "demo.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=f"engine 'recorded' takes no '{next(iter(setting))}'"):
        load_study(tmp_path / "demo.yaml")


def test_samples_of_itself_come_from_a_model(tmp_path):
    with pytest.raises(ConfigError, match="kind 'self' samples from a model: its engine is 'vllm'"):
        load_study(edited(tmp_path, "strategies", "rephrase", "kind", value="self"))


def test_settings_that_are_off_stay_out_of_the_key(tmp_path):
    plain = load_study(asking(tmp_path)).strategies["rephrase"].sampling
    assert plain.canonical() == {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_tokens": 1024}
    written = load_study(asking(tmp_path, sampling={"min_p": 0.0, "repetition_penalty": 1.0, "stop": []}))
    assert written.strategies["rephrase"].sampling.canonical() == plain.canonical()
    other = load_study(asking(tmp_path, sampling={"min_p": 0.1, "stop": ["END"]})).strategies["rephrase"].sampling
    assert other.canonical() == plain.canonical() | {"min_p": 0.1, "stop": ["END"]}


def test_files_of_a_generation_that_are_not_there_are_told_with_their_keys(tmp_path):
    server = {"model": "/nowhere/model", "tokenizer": "/nowhere/tokenizer.json"}
    review = {"benchmarks": ["/nowhere/*.jsonl"]}
    with pytest.raises(ConfigError) as error:
        check_files(load_study(asking(tmp_path, server, prompt="/nowhere/mine.yaml", review=review)))
    for line in (
        "servers.main.model: no file /nowhere/model/config.json",
        "servers.main.tokenizer: no file /nowhere/tokenizer.json",
        "strategies.rephrase.prompt: no file /nowhere/mine.yaml",
        "strategies.rephrase.review.benchmarks[0]: no file /nowhere/*.jsonl",
    ):
        assert line in str(error.value)
    check_files(load_study(asking(tmp_path, prompt="rephrase/faq")))


def test_validate_reads_the_prompts(tmp_path, capsys):
    assert cli.main(["validate", str(asking(tmp_path, prompt="rephrase/table"))]) == 0
    assert cli.main(["validate", str(asking(tmp_path, prompt="rephrase/tabel"))]) == 1
    assert "strategies.rephrase.prompt: prompt 'rephrase/tabel' is not shipped" in capsys.readouterr().err
    (tmp_path / "mine.yaml").write_text("name: mine\nversion: 1\napi: chat\nuser: Write.\n")
    assert cli.main(["validate", str(asking(tmp_path, prompt=str(tmp_path / "mine.yaml")))]) == 1
    assert "kind 'rephrase' needs the slot 'document'" in capsys.readouterr().err


def test_validate_says_of_a_run_that_it_is_not_there_yet(tmp_path, capsys, lake, monkeypatch):
    monkeypatch.setenv("PALIMPSEST_LAKE", lake.root)
    file = str(asking(tmp_path, {"model": "run:demo/real-s0"}))
    said = f"  servers.main.model: run:demo/real-s0 is not in {lake.root} yet; it must be before this runs"
    assert cli.main(["validate", file]) == 0
    assert said in capsys.readouterr().out.splitlines()
    lake.publish("studies/demo/runs/real-s0", lambda directory: Facts())
    assert cli.main(["validate", file]) == 0
    assert "is not in" not in capsys.readouterr().out


def test_a_key_that_is_there_twice_is_named(make_study):
    path = make_study().path
    path.write_text(path.read_text() + "shards: 4\n")
    with pytest.raises(ConfigError, match=r"key 'shards' is there a second time"):
        load_study(path)


SEARCH = {"lr": [1e-3, 3e-3], "weight_decay": [0.8, 1.6], "epochs": [2, 4, 8, 16], "f": [0.5, 0.75]}


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("search",), {}, "give the values of at least one axis"),
        (("search",), SEARCH | {"lr": [3e-3, 1e-3]}, "search.lr: write the values in ascending order"),
        (("search",), SEARCH | {"lr": [1e-3, 2e-3]}, "mixes.[a-z]+: its search starts at lr 0.003, which is none of"),
        (("mixes", "simple", "search"), {"lr": [1e-3]}, "mixes.simple.search: gives values of axes"),
        (("mixes", "simple", "like"), "stiched", "did you mean 'stitched'?"),
        (("mixes", "simple", "like"), "real", "'real' has no f and epochs to take over"),
        (("mixes", "simple", "match"), {"mix": "real", "by": "time"}, "mixes.simple.match.by"),
        (("mixes", "simple", "training"), {"seeds": [3]}, "mixes.simple.training.seeds: lacks 0"),
        (("mixes", "simple", "training"), {"optimizer": {"lr": -1}}, "mixes.simple.training.optimizer.lr"),
        (("mixes", "simple", "training"), {"atention": "documents"}, "mixes.simple.training.atention"),
        (("judging",), {"ensembles": ["simpel"]}, "did you mean 'simple'?"),
        (("validation", "sets"), {"long": {"files": ["a.jsonl"]}}, "sets.long: the study's own set is called so"),
    ],
)
def test_what_is_wrong_with_a_search_or_a_mix_is_named(tmp_path, path, value, said):
    with pytest.raises(ConfigError, match=said.replace("?", r"\?")):
        load_study(edited(tmp_path, *path, value=value))


def test_a_mix_may_be_searched_over_values_of_its_own(tmp_path):
    content = yaml.safe_load(edited(tmp_path, "search", value=SEARCH).read_text())
    content["mixes"]["real"]["search"] = {"weight_decay": [0.8, 1.6, 3.2], "epochs": [4, 16, 64]}
    file = tmp_path / "demo.yaml"

    def load(**own):
        content["mixes"]["real"]["search"] |= own
        file.write_text(yaml.safe_dump(content))
        return load_study(file)

    epochs = content["mixes"]["real"]["epochs"]
    study = load(epochs=sorted({4, 16, 64, epochs}))
    for recipe in ("real", "real_0p5"):  # the reference on less text is searched as the reference is
        assert study.search_of(recipe).epochs == sorted({4, 16, 64, epochs})
        assert study.search_of(recipe).lr == SEARCH["lr"]
    assert study.search_of("simple") == study.search
    with pytest.raises(ConfigError, match=r"mixes.real.search.lr: write the values in ascending order"):
        load(lr=[3e-3, 1e-3])
    with pytest.raises(
        ConfigError, match=r"mixes.real: its search starts at lr 0.003, which is none of mixes.real.search.lr"
    ):
        load(lr=[1e-3])


def test_one_that_follows_may_not_be_followed(tmp_path):
    file = edited(tmp_path, "mixes", "simple", "like", value="stitched")
    content = yaml.safe_load(file.read_text())
    content["mixes"]["stretched"]["like"] = "simple"
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=r"mixes.stretched.like: 'simple' follows another mix itself"):
        load_study(file)


def test_a_mix_trains_with_its_own_settings(tmp_path):
    study = load_study(edited(tmp_path, "mixes", "simple", "training", value={"model": {"layers": 2}, "dropout": 0.1}))
    own, usual = study.training_of("simple"), study.training_of("real")
    assert (own.model.layers, own.dropout, own.model.width) == (2, 0.1, usual.model.width)
    assert usual == study.training_of("real_0p5") == study.training


def test_a_search_leaves_out_f_for_real_text_and_mixes_that_follow(tmp_path):
    file = edited(tmp_path, "search", value=SEARCH)
    content = yaml.safe_load(file.read_text())
    content["mixes"]["stitched"]["like"] = "simple"
    content["mixes"]["stretched"]["search"] = False
    file.write_text(yaml.safe_dump(content))
    study = load_study(file)
    assert {name for name in study.mixes if study.is_searched(name)} == {"real", "augmented", "simple"}
    assert study.search.axes(study.mixes["real"]) == ("lr", "weight_decay", "epochs")
    assert study.search.axes(study.mixes["simple"]) == ("lr", "weight_decay", "epochs", "f")


def table_corpus(tmp_path: Path, **source: object) -> Path:
    content = yaml.safe_load((corpora_dir() / "sample.yaml").read_text())
    content["source"] = {"kind": "table", "files": ["rows.parquet"], **source}
    file = tmp_path / "sample.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            {"kind": "csv"},
            "source.kind: Input should be 'warc', 'table', 'cpython', 'commoncrawl', 'huggingface' or 'crawl'",
        ),
        ({"kind": "warc", "columns": {"text": "body"}}, "source kind 'warc' takes no 'columns'"),
        ({"kind": "warc", "where": {"language": "en"}}, "source kind 'warc' takes no 'where'"),
        ({"columns": {"txt": "body"}}, "source.columns.txt: unknown key; did you mean 'text'?"),
        ({"columns": {"url": "https://a.example/"}}, "names no column, so all rows would have one address"),
        ({"columns": {"url": "https://a.example/{id"}}, "'https://a.example/{id' is no template"),
        ({"columns": {"url": "{id:04d}"}}, "only {column} is allowed between braces"),
        (
            {"kind": "huggingface", "huggingface": {"repo": "a/b", "revision": "main", "files": ["x.parquet"]}},
            "source.huggingface.revision: 'main' is no commit in full (40 hexadecimal digits)",
        ),
    ],
)
def test_a_wrong_table_source_names_its_key(tmp_path, source, said):
    with pytest.raises(ConfigError) as error:
        load_corpus(table_corpus(tmp_path, **source))
    assert said in str(error.value)


def test_recordings_in_a_table_need_a_value_for_every_generation(tmp_path):
    columns = {"sample": "version", "order": ["a", "b"]}
    engine = {"kind": "recorded", "file": "x.parquet", "columns": columns}
    with pytest.raises(ConfigError, match=r"generations is 4, but engine\.columns\.order names only 2 samples"):
        load_study(edited(tmp_path, "strategies", "rephrase", "engine", value=engine))
    with pytest.raises(ConfigError, match="engine 'augment' takes no 'columns'"):
        load_study(edited(tmp_path, "strategies", "augment", "engine", value={"kind": "augment", "columns": columns}))


def test_files_in_the_data_folder_are_found_wherever_it_lies(tmp_path, monkeypatch):
    corpus = load_corpus(table_corpus(tmp_path, files=["$PALIMPSEST_DATA/text/*.parquet"]))
    monkeypatch.setenv("PALIMPSEST_DATA", str(tmp_path / "data"))
    with pytest.raises(ConfigError) as error:
        check_files(corpus)
    assert (
        f"source.files[0]: no file {tmp_path}/data/text/*.parquet; put the data there, or set PALIMPSEST_DATA"
        in str(error.value)
    )
    (tmp_path / "data" / "text").mkdir(parents=True)
    found = tmp_path / "data" / "text" / "a.parquet"
    found.touch()
    check_files(corpus)
    assert resolve("$PALIMPSEST_DATA/text/a.parquet") == found
    assert unresolved(found) == "$PALIMPSEST_DATA/text/a.parquet"
    monkeypatch.delenv("PALIMPSEST_DATA")
    assert unresolved(found) == str(found)


@pytest.mark.parametrize("name", ["dclm", "dclm_held_out", "dclm_more", "translations", "web", "megadocs_paper"])
def test_what_is_shipped_without_its_data_says_what_is_missing_and_where_to_put_it(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PALIMPSEST_DATA", str(tmp_path))
    assert cli.main(["validate", name, "no_such_file"]) == 1
    printed = capsys.readouterr()
    said = printed.out
    assert "no_such_file.yaml: no such file" in printed.err, "one file's fault hides nothing of another"
    assert f"{name}.yaml: valid " in said
    assert re.search(
        rf"  before this runs: \S+: no file {tmp_path}/\S+; put the data there, or set PALIMPSEST_DATA to the folder",
        said,
    )
