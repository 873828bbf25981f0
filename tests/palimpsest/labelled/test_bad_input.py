"""What is said of labelled data that cannot be studied: file, row or key, and the way out."""

from __future__ import annotations

import json
import os

import pytest

from palimpsest.cli import main
from palimpsest.config import ConfigError, Labelled, load_labelled
from palimpsest.labelled import stages
from palimpsest.labelled.items import read
from palimpsest.lake import REPOSITORY, LakeError
from tests.palimpsest.labelled.conftest import content, texts


def rows(*pairs: tuple[object, object], text: str = "some words are here") -> list[dict]:
    return [{"text": text, "label": label, "group": group} for label, group in pairs]


GOOD = rows(*[("a", "x"), ("b", "x")] * 3)
BAD = {
    "no label": ([*GOOD, {"text": "w", "group": "x"}], {}, r"row 7: no label in column 'label'"),
    "empty label": ([*GOOD, *rows(("", "x"))], {}, r"row 7: no label in column 'label'"),
    "unknown label": (GOOD, {"labels": {"a": ["a"], "c": ["c*"]}}, r"row 2: label 'b' is unknown \(known: a, c\)"),
    "label taken twice": (GOOD, {"labels": {"a": ["*"], "b": ["b"]}}, r"row 2: 'b' is taken by labels a, b"),
    "label nobody has": (
        GOOD,
        {"labels": {"a": ["a"], "b": ["b"], "c": ["c"]}},
        r"source.labels: no row has label 'c'",
    ),
    "unknown group": (
        [*GOOD, *rows(("a", "z"))],
        {"groups": ["x", "y"]},
        r"row 7: group 'z' is unknown \(known: x, y\)",
    ),
    "no group": ([*GOOD, *rows(("a", None))], {}, r"row 7: no group in column 'group'"),
    "one label": (rows(*[("a", "x")] * 5), {}, r"all rows of .* have the label 'a': there is nothing to tell apart"),
    "no row": (rows(("a", "x")), {"where": {"group": "y"}}, r"has no row; name a table of labelled texts"),
    "no text": (rows(("a", "x"), ("b", "x"), text=" "), {}, r"has 2 rows, none with a text"),
    "no column": ([{"text": "w", "group": "x"}], {}, r"row 1: no label in column 'label'"),
}


@pytest.fixture
def study(tmp_path):
    def make(table: list[dict], source: dict | None = None, **changes) -> Labelled:
        file = tmp_path / "rows.jsonl"
        file.write_text("\n".join(json.dumps(row) for row in table))
        found = content(file, **changes)
        return Labelled.model_validate(found | {"source": found["source"] | (source or {})})

    return make


@pytest.mark.parametrize("case", BAD)
def test_bad_rows_are_named(study, case):
    table, source, said = BAD[case]
    with pytest.raises(LakeError, match=said):
        read(study(table, source))


def test_texts_without_words_and_other_labels_are_left_out_and_counted(study):
    table = [*GOOD, *rows(("c", "x")), {"text": "", "label": "a", "group": "x"}]
    source = {"labels": {"a": ["a"], "b": ["b"]}, "others": "leave_out", "per_cell": 2}
    items, found = read(study(table, source))
    assert (found.input, found.kept) == (8, len(items.keys)) == (8, 4)
    assert found.dropped == {"other_label": 1, "no_text": 1, "beyond_per_cell": 2}


def test_cells_too_small_to_measure_and_cells_that_do_not_exist_are_said(study, lake):
    with pytest.raises(LakeError, match="only 1 label has a cell of 3 items or more"):
        stages.plan(study(GOOD[:5]), lake)
    with pytest.raises(LakeError, match="starve: there is no cell 'a/z'; there are a/x, b/x"):
        stages.plan(study(GOOD, starve={"a/z": 3}), lake)


def test_a_cell_without_an_item_is_to_be_collected(study, lake):
    table = [
        {"text": text, "label": label, "group": group}
        for label, group in (("a", "x"), ("a", "y"), ("b", "x"))
        for text in texts(label, 60, 1)
    ]
    cells = {cell.cell: cell for cell in stages.opened(stages.plan(study(table), lake))[1]}
    assert (cells["b/y"].found, cells["b/y"].decision, cells["b/y"].planned) == (0, "collect", 0)


def test_equal_texts_end_in_a_clear_error(study, lake):
    made = study(rows(*[("a", "x")] * 60, *[("b", "x")] * 45))
    with pytest.raises(LakeError, match="fewer than two labels have an item to train on that stands apart"):
        stages.measure(made, lake, stages.plan(made, lake), 0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"generator": {"kind": "interpolate"}}, "'interpolate' cannot write source kind 'table'"),
        ({"generator": {"kind": "trigram", "look_alikes": 0.2}}, "only 'interpolate' and 'recombine' can plant them"),
        ({"generator": {"kind": "strategy", "study": "web"}}, "which needs both"),
        ({"curve": [0, 0.5]}, "0 and 1 among them"),
        ({"seeds": [1, 1]}, "seeds: each once"),
        ({"schedule": "on_corpora"}, "'on_corpora' is for studies"),
        ({"source": {"kind": "table"}}, "needs the key 'files'"),
        ({"source": {"files": ["a"], "group": "g", "lengths": [5]}}, "keep one"),
        ({"source": {"files": ["a"], "lengths": [9, 5]}}, "must rise"),
    ],
)
def test_a_file_that_cannot_be_run_is_refused(tmp_path, changes, said):
    import yaml

    file = tmp_path / "toy.yaml"
    file.write_text(yaml.safe_dump(content(tmp_path / "none.parquet", **changes)))
    with pytest.raises(ConfigError, match=said):
        load_labelled(file)


def test_a_missing_file_is_named_with_its_key(tmp_path, monkeypatch, capsys):
    import yaml

    (tmp_path / "labelled").mkdir()
    (tmp_path / "labelled" / "toy.yaml").write_text(yaml.safe_dump(content(tmp_path / "none.parquet")))
    assert main(["validate", str(tmp_path / "labelled" / "toy.yaml")]) == 1
    assert "source.files[0]: no file" in capsys.readouterr().err
    assert main(["schema", "labelled"]) == 0
    assert "look_alikes" in capsys.readouterr().out


def test_the_shipped_text_study_plans_on_its_data(lake):
    study = load_labelled(REPOSITORY / "dags" / "labelled" / "sources.yaml")
    from palimpsest.config import data_dir

    if not (data_dir() / "text").is_dir():
        pytest.skip(f"the shared text is absent ({data_dir()}); set PALIMPSEST_DATA to its folder")
    assert os.environ.get("PALIMPSEST_DATA") or data_dir().is_dir()
    one = study.source.model_copy(update={"files": ["$PALIMPSEST_DATA/text/web_train-0000[0-1]-of-00006.parquet"]})
    cells = stages.opened(stages.plan(study.model_copy(update={"source": one}), lake))[1]
    assert len(cells) == 12
    assert {cell.label for cell in cells if cell.deficit} >= {"medquad", "digital_gov", "novels"}
