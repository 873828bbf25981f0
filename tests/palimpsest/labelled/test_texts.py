"""A labelled study of texts from plan to repaired data: generators, separation, what cannot be repaired."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from palimpsest.cli import main
from palimpsest.config import ConfigError, Labelled
from palimpsest.labelled import card, coverage, stages
from palimpsest.labelled.deal import deal
from palimpsest.labelled.learner import balanced
from palimpsest.labelled.separate import Protected
from palimpsest.lake import LakeError
from palimpsest.provenance import write_lost_lineage
from tests.palimpsest.labelled.conftest import COUNTS, content, run, texts, write_table

STUDY = """
name: control
description: Classic augmentation of the sample's pages.
corpora: [sample]
schedule: manual
validation: {rule: hash_share, share: 0.2}
strategies:
  augment: {kind: augment, generations: 2, engine: {kind: augment}}
  ahead: {kind: continuation, generations: 2, engine: {kind: recorded, file: sample/generations.jsonl}}
layouts: {real: {kind: real}}
mixes: {real: {layout: real, epochs: 1}}
reference: real
training: {model: {layers: 1, width: 32, mlp: 64, heads: 2}, context: 64, batch: 2}
"""


def test_the_plan_fills_what_has_seeds_and_collects_the_rest(toy, lake):
    cells = {cell.cell: cell for cell in stages.opened(stages.plan(toy, lake))[1]}
    assert {name: cell.decision for name, cell in cells.items()} == {
        "alpha/x": "enough", "alpha/y": "enough", "beta/x": "enough",
        "beta/y": "generate", "gamma/x": "collect", "gamma/y": "enough",
    }  # fmt: skip
    short, thin = cells["beta/y"], cells["gamma/x"]
    assert (short.real, short.deficit, short.cap, short.planned) == (18, 22, 90, 22)
    assert (thin.real, thin.planned) == (8, 0)
    assert thin.why == "8 real items; 10 are needed to generate from: collect, don't generate"
    shown = coverage.render(list(cells.values()))
    assert "beta/y" in shown and "generate: 22 to be generated from 18 real ones" in shown


def test_a_cap_below_the_deficit_is_kept_and_said(toy, lake):
    study = toy.model_copy(update={"coverage": toy.coverage.model_copy(update={"max_ratio": 0.5})})
    found = run(study, lake)
    (cell,) = (cell for cell in found.table["cells"] if cell["cell"] == "beta/y")
    assert cell["planned"] == 9
    assert "collect 13 more" in cell["why"]
    assert cell["used"] <= 9
    (verdict,) = (v for v in found.table["verdicts"] if v["gate"] == "L4")
    assert verdict["outcome"] == "passed"
    assert verdict["sentence"].startswith(
        "cell beta/y has 0.5 generated items per real one, no cell has more; at most 0.5"
    )


def test_a_run_ends_in_data_whose_cells_count_alike_and_without_held_out_items(toy, lake):
    study = toy.model_copy(update={"experiment": True})
    found = run(study, lake)
    published = card.repaired(study, lake, found.planned, found.measured[0], found.told)
    data = pq.read_table(published.file("data.parquet")).to_pandas()
    weights = data.groupby(["label", "group"]).weight.sum()
    assert weights.min() == pytest.approx(weights.max())
    assert set(data[data.origin == "synthetic"].label) == {"beta"}
    assert set(data[data.origin == "synthetic"].group) == {"y"}
    held_out = pq.read_table(published.file("held_out.parquet")).to_pandas()
    assert not set(held_out.key) & set(data.key)
    assert not set(held_out.key) & {key for keys in data.seed_keys.dropna() for key in keys}
    (thin,) = (v for v in found.table["verdicts"] if v["gate"] == "L6")
    assert (thin["subject"], thin["outcome"]) == ("gamma/x", "warned")


def test_drafts_near_a_test_item_are_turned_away(toy, lake):
    items, cells = stages.opened(stages.plan(toy, lake))
    dealt = deal(toy, items, cells, 0)
    tested = items.values[dealt.test[0]]
    words = texts("delta", 1, 5)[0].split()
    quoting = " ".join([*words[:20], *tested.split()[:13], *words[20:40]])
    short = " ".join([*words[:20], *tested.split()[:12], *words[20:40]])
    edited = " ".join(["other", *tested.split()[1:]])
    found = dealt.protected.offences([quoting, short, edited, " ".join(words)])
    assert found == ["shared_words", None, "near_duplicate", None]


def test_real_items_that_repeat_a_test_item_train_nothing(tmp_path, lake):
    file = write_table(tmp_path / "toy.parquet", COUNTS)
    table = pq.read_table(file).to_pylist()
    for row in table[:60]:
        row["text"] = table[0]["text"]
    import pyarrow as pa

    pq.write_table(pa.Table.from_pylist(table), file)
    study = Labelled.model_validate(content(file))
    items, cells = stages.opened(stages.plan(study, lake))
    dealt = deal(study, items, cells, 0)
    copies = {place for place, text in enumerate(items.values) if text == table[0]["text"]}
    assert copies & set(dealt.test) and not copies & {*dealt.train, *dealt.held_back}
    assert dealt.dropped["near_duplicate"] == len(copies - {*dealt.test, *dealt.validation})


def test_digits_of_a_pixel_apart_are_the_same_to_the_eye_of_the_separation(toy):
    image = np.random.default_rng(0).random((2, 64))
    nearly = image[:1] + 0.001
    assert Protected(image[:1], toy.learner).offences(np.concatenate([nearly, image[1:]])) == ["near_duplicate", None]


@pytest.mark.parametrize("kind", ["trigram", "strategy"])
def test_other_generators_write_from_the_seeds_of_the_cell_alone(tmp_path, lake, monkeypatch, kind):
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "control.yaml").write_text(STUDY)
    monkeypatch.setenv("PALIMPSEST_STUDIES", str(tmp_path / "studies"))
    named = {"study": "control", "strategy": "augment"} if kind == "strategy" else {}
    file = write_table(tmp_path / "toy.parquet", COUNTS)
    study = Labelled.model_validate(content(file, generator={"kind": kind, **named}))
    found = run(study, lake)
    rows = pq.read_table(found.measured[0].file("generated.parquet")).to_pylist()
    items, cells = stages.opened(found.planned)
    seeds = {items.keys[p] for p in deal(study, items, cells, 0).train if cells[items.cells[p]].cell == "beta/y"}
    assert rows and all({*row["seed_keys"]} <= seeds for row in rows)
    assert {(row["label"], row["group"]) for row in rows} == {("beta", "y")}
    assert {row["generator"] for row in rows} == {"trigram" if kind == "trigram" else "augment:1"}
    assert {(row["generator_mix"], row["prompt_sha256"]) for row in rows} == {(None, None)}
    assert found.arms["verified"]["added"] > 0


def test_a_strategy_that_does_not_keep_its_seeds_label_is_refused(tmp_path, lake, monkeypatch):
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "control.yaml").write_text(STUDY)
    monkeypatch.setenv("PALIMPSEST_STUDIES", str(tmp_path / "studies"))
    file = write_table(tmp_path / "toy.parquet", COUNTS)
    for strategy, why in (("ahead", "of kind 'continuation'"), ("none", "study control has no 'none'")):
        generator = {"kind": "strategy", "study": "control", "strategy": strategy}
        study = Labelled.model_validate(content(file, generator=generator))
        with pytest.raises(ConfigError, match=why):
            stages.measure(study, lake, stages.plan(study, lake), 0)


def test_people_may_audit_what_was_accepted_and_a_failed_gate_keeps_the_data_back(toy, lake, tmp_path):
    first = run(toy, lake)
    rows = pq.read_table(first.measured[0].file("generated.parquet")).to_pylist()
    accepted = [row["key"] for row in rows if row["verdict"] == "accepted"][:20]
    file = tmp_path / "audit.jsonl"
    file.write_text("\n".join(json.dumps({"key": key, "good": place > 3}) for place, key in enumerate(accepted)))
    looked = toy.verification.model_copy(update={"audit_file": str(file), "audit": 20})
    found = run(toy.model_copy(update={"verification": looked}), lake)
    (verdict,) = (v for v in found.table["verdicts"] if v["measure"] == "precision")
    assert (verdict["outcome"], verdict["value"]) == ("failed", pytest.approx(16 / 20))
    assert "80% of 20 audited texts" in verdict["sentence"] and "people looked at them" in verdict["sentence"]
    assert found.measured[0].uri == first.measured[0].uri, "what was read is what is judged"
    with pytest.raises(LakeError, match=r"not passed, the data are not published: .*80% of 20 audited texts"):
        card.repaired(found.study, lake, found.planned, found.measured[0], found.told)
    more = [json.dumps({"key": row["key"], "good": True}) for row in rows if row["verdict"] == "accepted"][20:40]
    file.write_text("\n".join([file.read_text(), *more]))
    (again,) = (v for v in run(found.study, lake).table["verdicts"] if v["measure"] == "precision")
    assert len(more) == 2 and again["value"] == pytest.approx(18 / 22)
    assert again["sentence"].startswith("82% of 22 audited texts")
    for row, why in (
        ({"key": "toy:7:1", "good": True}, "'toy:7:1' is of no draft"),
        ({"key": accepted[0], "good": True}, "twice"),
    ):
        bad = tmp_path / "bad.jsonl"
        bad.write_text("\n".join([file.read_text(), json.dumps(row)]))
        wrong = found.study.verification.model_copy(update={"audit_file": str(bad)})
        with pytest.raises(LakeError, match=why):
            run(found.study.model_copy(update={"verification": wrong}), lake)


def test_what_too_few_seeds_compared_with_oversampling_is_not_published(toy, lake):
    found = run(toy, lake)
    with pytest.raises(LakeError, match="not passed, the data are not published: .*cannot be judged by 1 seeds; 5 are"):
        card.repaired(toy, lake, found.planned, found.measured[0], found.told)


def test_a_generator_of_which_nobody_knows_what_it_learned_stops(tmp_path, lake, monkeypatch):
    folder = tmp_path / "model"
    folder.mkdir()
    write_lost_lineage(folder, "r1")
    content_of = yaml.safe_load(STUDY) | {"servers": {"own": {"model": str(folder)}}}
    content_of["strategies"]["own"] = {
        "kind": "rephrase",
        "generations": 1,
        "engine": {"kind": "vllm", "server": "own"},
    }
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "control.yaml").write_text(yaml.safe_dump(content_of))
    monkeypatch.setenv("PALIMPSEST_STUDIES", str(tmp_path / "studies"))
    monkeypatch.setattr("palimpsest.generate.engines.open_engine", lambda *_: SimpleNamespace(model="own"))
    generator = {"kind": "strategy", "study": "control", "strategy": "own"}
    study = Labelled.model_validate(content(write_table(tmp_path / "toy.parquet", COUNTS), generator=generator))
    with pytest.raises(LakeError, match="nobody knows what the model of strategy own of study control learned from"):
        stages.measure(study, lake, stages.plan(study, lake), 0)


def test_data_without_a_short_cell_are_not_judged_and_nothing_is_generated(tmp_path, lake):
    file = write_table(tmp_path / "toy.parquet", {("alpha", "x"): 60, ("beta", "x"): 60})
    found = run(Labelled.model_validate(content(file, train=30)), lake)
    outcomes = {(v["gate"], v["measure"]): v["outcome"] for v in found.table["verdicts"]}
    assert outcomes["L1", "gain"] == outcomes["L5", "separation"] == outcomes["G11", "gain"] == "not_judged"
    assert found.table["headline"].startswith("No item was generated.")
    assert "nan" not in json.dumps(found.table).lower()


def test_a_stage_whose_file_and_study_are_unchanged_does_nothing(toy, lake):
    first, again = run(toy, lake), run(toy, lake)
    assert (first.told.digest, first.measured[0].uri) == (again.told.digest, again.measured[0].uri)
    changed = toy.model_copy(update={"gates": toy.gates.model_copy(update={"precision": 0.5})})
    assert run(changed, lake).measured[0].uri == first.measured[0].uri, "gates alone judge anew, nothing is trained"


def test_the_commands_print_the_plan_and_the_card(tmp_path, lake, monkeypatch, capsys):
    file = write_table(tmp_path / "toy.parquet", COUNTS)
    (tmp_path / "labelled").mkdir()
    (tmp_path / "labelled" / "toy.yaml").write_text(yaml.safe_dump(content(file, experiment=True)))
    monkeypatch.setenv("PALIMPSEST_LABELLED", str(tmp_path / "labelled"))
    assert main(["validate", "toy"]) == 0
    assert "valid labelled study 'toy'" in capsys.readouterr().out
    assert main(["labelled", "plan", "toy"]) == 0
    assert "collect, don't generate" in capsys.readouterr().out
    assert main(["labelled", "run", "toy"]) == 0
    said = capsys.readouterr().out
    assert "generated, verified" in said and "L5 passed" in said and "labelled/toy/repaired" in said


def test_weights_make_cells_count_alike():
    weights = balanced(np.array([0, 0, 0, 2]))
    assert weights.tolist() == [1, 1, 1, 3]
