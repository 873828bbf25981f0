"""Every stage by hand, in the order the help gives."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from palimpsest.cli import main
from palimpsest.config import corpora_dir
from palimpsest.lake import REPOSITORY, Facts, Lake


@pytest.fixture
def by_hand(lake: Lake, study, documents, monkeypatch) -> Lake:
    """The small study under its name, its documents admitted by a gate."""
    monkeypatch.setenv("PALIMPSEST_STUDIES", str(study.path.parent))
    lake.publish("corpora/sample/gate", lambda directory: Facts(), parents=[documents])
    return lake


def test_a_study_by_hand_from_split_to_mixes(by_hand, study, capsys):
    for command in (["split"], ["plan"], ["generate", "--shard", "0"], ["generate"], ["build"]):
        assert main([command[0], study.name, *command[1:]]) == 0, capsys.readouterr().err
    assert {m["recipe"] for m in by_hand.latest("studies/small/mixes").extra["mixes"]} >= set(study.mixes)
    assert re.search(r"\| augment +\| +80 \| +0 \| +0 \| +80 \|", capsys.readouterr().out)
    assert main(["datasets"]) == 0
    listed = capsys.readouterr().out
    assert all(f"studies/small/{stage}: " in listed for stage in ("split", "plan", "generations", "mixes"))
    assert main(["sync"]) == 0
    assert capsys.readouterr().out.startswith("6 dataset versions")


def test_the_ledger_by_hand(by_hand, study, capsys):
    for command in (["split"], ["plan"], ["generate", "--shard", "1"], ["generate", "--replay"]):
        assert main([command[0], study.name, *command[1:]]) == 0, capsys.readouterr().err
    capsys.readouterr()
    assert main(["failures", study.name]) == 0
    listed = capsys.readouterr().out
    assert listed.count("not_recorded: ") == 15
    assert "15 requests of study 'small' failed; ask for them again with: python -m palimpsest generate" in listed
    key = re.search(r"\(1 try, (\w{32})\)", listed)[1]
    assert main(["ledger", "stats"]) == 0
    assert "180 requests in " in (told := capsys.readouterr().out) and "failed, not_recorded: 15" in told
    assert main(["ledger", "compact"]) == 0
    assert capsys.readouterr().out.endswith("segments merged into 1\n")
    assert main(["ledger", "verify"]) == 0
    assert re.fullmatch(r"180 rows of 180 requests in 1 segment, .*\nall sound\n", capsys.readouterr().out, re.DOTALL)
    assert main(["ledger", "show", key]) == 0
    assert '"cause": "not_recorded"' in capsys.readouterr().out
    assert main(["ledger", "show", "0" * 32]) == 1
    (segment,) = Path(by_hand.base, "ledger", "segments").iterdir()
    segment.write_bytes(segment.read_bytes()[:-1])
    assert main(["ledger", "verify"]) == 1
    told = capsys.readouterr()
    assert "1 segment damaged and set aside in the lake's ledger/damaged" in told.err and segment.name in told.err
    assert "all sound" not in told.out
    assert main(["ledger", "stats"]) == 0
    assert capsys.readouterr().out.startswith("0 rows of 0 requests in 0 segments")
    assert main(["generate", study.name]) == 0
    assert main(["generate", study.name, "--shard", "7"]) == 1
    assert "study 'small' has shards 0 to 2" in capsys.readouterr().err


def test_failures_are_those_of_the_plan_whoever_asked_first(by_hand, study, make_study, monkeypatch, tmp_path, capsys):
    copy = make_study(name="copy")
    for name, stages in ((study.name, ("split", "plan", "generate")), (copy.name, ("split", "plan"))):
        for stage in stages:
            assert main([stage, name]) == 0, capsys.readouterr().err
    capsys.readouterr()
    assert main(["failures", copy.name]) == 0
    listed = capsys.readouterr().out
    assert listed.count("not_recorded: ") == listed.count("(1 try, ") == 15
    assert "15 requests of study 'copy' failed; ask for them again with: python -m palimpsest generate copy" in listed
    monkeypatch.setenv("PALIMPSEST_CATALOG", f"sqlite:///{tmp_path / 'another.db'}")  # which lists none of them
    assert main(["failures", copy.name]) == 0
    assert sorted(capsys.readouterr().out.replace("(", "(1 try, ").splitlines()) == sorted(listed.splitlines())


def test_a_new_catalog_is_made_without_a_word(tmp_path):
    """In a process of its own: what reports each plugin is the first import of Alembic."""
    places = {"PALIMPSEST_LAKE": str(tmp_path / "lake"), "PALIMPSEST_STATE": str(tmp_path / "state")}
    environment = {**os.environ, **places, "PALIMPSEST_CATALOG": "", "PYTHONPATH": str(REPOSITORY / "plugins")}
    command = [sys.executable, "-m", "palimpsest", "sync"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("0 dataset versions")
    assert (tmp_path / "state" / "catalog.db").exists()


def test_lineage_tells_what_a_version_was_made_from_and_what_was_made_of_it(by_hand, study, capsys):
    for stage in ("split", "plan"):
        assert main([stage, study.name]) == 0
    split, plan = (by_hand.latest(f"studies/small/{stage}") for stage in ("split", "plan"))
    documents = by_hand.latest("corpora/sample/documents")
    capsys.readouterr()
    for given in (split.uri, f"{by_hand.base}/{split.uri}"):  # as `datasets` prints it
        assert main(["lineage", given]) == 0, capsys.readouterr().err
        assert capsys.readouterr().out.splitlines() == [
            f"{split.uri}  [{split.digest[:12]}]",
            "made from:",
            f"  1  {documents.uri}  [{documents.digest[:12]}]",
            "made of it:",
            f"  1  {plan.uri}  [{plan.digest[:12]}]",
        ]
    shutil.rmtree(documents.path)
    assert main(["lineage", plan.uri]) == 0
    told = capsys.readouterr().out
    assert f"  2  {documents.uri}  [{documents.digest[:12]}]  no longer in the lake" in told
    assert told.endswith("made of it: nothing\n")


def test_one_day_of_a_corpus_by_hand(lake, capsys):
    day = "2026-10-01"
    assert main(["ingest", "sample", "--from", day, "--to", day]) == 0
    assert [p.dataset for p in lake.children("corpora/sample/pages")] == [f"corpora/sample/pages/{day}"]
    assert main(["documents", "sample"]) == 0
    assert "corpora/sample/documents: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["ingest", "sample", "--from", "2026-10-05", "--to", "2026-10-01"], "give the days in order"),
        (["split", "demo"], "corpora/sample/gate has never been published"),
        (["build", "demmo"], "did you mean 'demo'?"),
        (["lineage", "studies/small/split/none"], "studies/small/split/none is not published in lake"),
        (["trace", "https://nowhere.example/"], "no page in lake"),
    ],
)
def test_a_failure_is_one_message_and_status_1(lake, command, said, capsys):
    assert main(command) == 1
    assert said in capsys.readouterr().err


def test_validate_tells_corpora_from_studies(tmp_path: Path, monkeypatch, capsys):
    files = [str(REPOSITORY / "dags" / name) for name in ("corpora/sample.yaml", "studies/demo.yaml")]
    assert main(["validate", *files, "demo"]) == 0
    assert capsys.readouterr().out.count("valid ") == 3
    copy = tmp_path / "sample.yaml"
    copy.write_text((corpora_dir() / "sample.yaml").read_text())
    monkeypatch.setenv("PALIMPSEST_CORPORA", str(tmp_path))
    assert main(["validate", str(copy)]) == 0
    assert "valid corpus 'sample'" in capsys.readouterr().out
    assert main(["schema", "corpus"]) == 0
    assert "source" in json.loads(capsys.readouterr().out)["properties"]
