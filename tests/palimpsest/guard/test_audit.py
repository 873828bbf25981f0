"""What a person made of accepted texts: a sample nobody chooses, and answers that are whole or do not count."""

from __future__ import annotations

import csv

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palimpsest.cli import main
from palimpsest.config import load_study
from palimpsest.guard import audit
from palimpsest.lake import Facts, LakeError


@pytest.fixture
def published(lake, monkeypatch):
    """Generations of the demo's study, 30 accepted and as many that nobody reviewed."""
    monkeypatch.setenv("PALIMPSEST_LAKE", str(lake.root))
    study = load_study("demo").name
    rows = [
        {
            "generation_id": f"{kind}{n}", "document_id": f"d{n % 3}", "strategy": kind,
            "text": f'a "text", {n}\nof {kind}',
            "verdict": "accepted" if kind == "rephrase" else "not_reviewed",
        }
        for kind in ("rephrase", "augment") for n in range(30)
    ]  # fmt: skip
    train = [{"document_id": f"d{n}", "text": f"source {n}"} for n in range(3)]

    def publish(stage, table, rows, config):
        def write(folder):
            pq.write_table(pa.Table.from_pylist(rows), folder / f"{table}.parquet")
            return Facts()

        return lake.publish(f"studies/{study}/{stage}", write, config=config)

    publish("split", "train", train, {})
    publish("generations", "generations", rows[:20], {"older": True})
    return publish("generations", "generations", rows, {})


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_sample_is_read_and_its_answers_come_back(lake, published, tmp_path, capsys, ending):
    file = tmp_path / f"audit.{ending}"
    assert main(["guard", "audit", "demo", "--count", "12", "--to", str(file)]) == 0
    assert f"{file}: 12 texts" in capsys.readouterr().out
    if ending == "csv":
        with file.open(newline="") as source:
            rows = list(csv.DictReader(source))
    else:
        rows = pq.read_table(file).to_pylist()
    assert {row["strategy"] for row in rows} == {"rephrase"}, "what nobody reviewed was not accepted"
    assert all(row["source"] == f"source {row['document_id'][1:]}" and not row["good"] for row in rows)
    assert main(["guard", "audit", "demo", "--import", str(file), "--by", "Ada"]) == 1, "nothing is answered"
    assert "row 1: good is ''; answer every row" in capsys.readouterr().err
    for number, row in enumerate(rows):
        row["good"] = "No" if number == 3 else "yes"
    audit.write(rows, file)
    assert main(["guard", "audit", "demo", "--import", str(file), "--by", "Ada"]) == 0
    assert "11 of 12 texts are good, says Ada" in capsys.readouterr().out
    answers = audit.answers(lake.versions("studies/demo/audits"))
    assert answers == {row["generation_id"]: number != 3 for number, row in enumerate(rows)}
    assert lake.latest("studies/demo/audits").extra["by"] == "Ada"


def test_a_choice_of_texts_is_no_sample_and_needs_a_name(lake, published):
    split = lake.latest("studies/demo/split")
    rows = [{**row, "good": True} for row in audit.sample(published, split, 12)]
    with pytest.raises(LakeError, match="these are not the first accepted texts"):
        audit.publish("demo", lake, rows[1:], by="Ada")
    with pytest.raises(LakeError, match="--by"):
        audit.publish("demo", lake, rows, by="")
    older = audit.sample(lake.versions("studies/demo/generations")[0], split, 12)
    audit.publish("demo", lake, [{**row, "good": False} for row in older], by="Ada")
    later = audit.publish("demo", lake, rows, by="Grace")
    answers = audit.answers([*lake.versions("studies/demo/audits")])
    assert all(answers[row["generation_id"]] for row in rows), "the later audit of a text counts"
    assert later.manifest["parents"][0]["digest"] == published.digest


def test_a_file_of_answers_that_is_not_there_is_named(tmp_path):
    with pytest.raises(LakeError, match=r"none\.csv: no such file; .* guard audit STUDY` writes one"):
        audit.read(tmp_path / "none.csv")
