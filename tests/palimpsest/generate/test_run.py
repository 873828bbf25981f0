from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from palimpsest.catalog import Catalog
from palimpsest.config import ConfigError
from palimpsest.generate.ledger import Ledger, request_key
from palimpsest.generate.plan import plan, remaining
from palimpsest.generate.publish import publish_generations
from palimpsest.generate.run import generate_shard
from palimpsest.lake import REPOSITORY, Lake, LakeError
from palimpsest.split import split


@pytest.fixture
def splitted(lake, study, documents):
    return split(study, lake, documents=[documents])


def generate_all(study, lake, parts, planned):
    return [generate_shard(study, lake, split=parts, plan=planned, shard=s) for s in range(study.shards)]


def left(lake, parts, planned):
    return sum(map(len, remaining(lake, split=parts, plan=planned).values()))


def keys(lake):
    return Counter(Ledger(lake).read()["key"].to_pylist())


def test_the_plan_has_each_sample_of_each_training_document_once(lake, study, splitted):
    rows = pq.read_table(plan(study, lake, split=splitted).file("requests.parquet")).to_pylist()
    assert Counter(r["strategy"] for r in rows) == {"rephrase": 60, "rationale": 40, "augment": 80}
    assert len({r["key"] for r in rows}) == len(rows)
    held = set(pq.read_table(splitted.file("validation.parquet"))["document_id"].to_pylist())
    assert not held & {r["document_id"] for r in rows}
    assert all(len({r["shard"] for r in rows if r["document_id"] == d}) == 1 for d in {r["document_id"] for r in rows})


def test_the_plan_minus_the_ledger_is_what_is_left(lake, study, splitted):
    planned = plan(study, lake, split=splitted)
    assert left(lake, splitted, planned) == 180
    first = generate_shard(study, lake, split=splitted, plan=planned, shard=0)
    assert left(lake, splitted, planned) == 180 - first["asked"]
    with pytest.raises(LakeError, match=r"planned requests were never tried \(shards \[1, 2\]\); run them: python -m"):
        publish_generations(study, lake, split=splitted, plan=planned)
    generate_all(study, lake, splitted, planned)
    rows = publish_generations(study, lake, split=splitted, plan=planned).manifest["rows"]
    assert left(lake, splitted, planned) == 0
    assert rows["quarantined"] == {"not_recorded": 180 - rows["kept"]}


def test_documents_without_recordings_take_part_and_are_counted(lake, study, splitted):
    planned = plan(study, lake, split=splitted)
    generate_all(study, lake, splitted, planned)
    found = publish_generations(study, lake, split=splitted, plan=planned)
    facts = found.extra["by_strategy"]
    assert facts["rephrase"] == {
        "planned": 60,
        "made": 51,
        "dropped": 0,
        "missing": 9,
        "documents": 20,
        "documents_incomplete": 3,
    }
    assert facts["augment"]["documents_incomplete"] == 0
    lost = pq.read_table(found.file("missing.parquet")).to_pylist()
    assert {r["cause"] for r in lost} == {"not_recorded"}
    assert {r["url"].rsplit("/", 1)[1] for r in lost} == {"7", "15", "23"}


def test_nothing_is_generated_twice_whatever_is_renamed_or_resharded(lake, make_study, documents):
    study = make_study()
    parts = split(study, lake, documents=[documents])
    generate_all(study, lake, parts, plan(study, lake, split=parts))
    before = keys(lake)
    other = make_study(shards=5)
    replanned = plan(other, lake, split=parts)
    again = generate_all(other, lake, parts, replanned)
    assert sum(counts["made"] for counts in again) == 0
    assert keys(lake) == before
    strategies = {f"renamed_{n}": s.model_dump() for n, s in study.strategies.items()}
    layouts = {"real": {"kind": "real"}, "simple": {"kind": "simple", "strategy": "renamed_rephrase"}}
    mixes = {"real": {"layout": "real", "epochs": 4}}
    renamed = make_study(strategies=strategies, layouts=layouts, mixes=mixes)
    replanned = plan(renamed, lake, split=parts)
    assert sum(counts["made"] for counts in generate_all(renamed, lake, parts, replanned)) == 0


@pytest.mark.parametrize(
    "change",
    [{"document": "other"}, {"prompt": "other"}, {"model": "other"}, {"sampling": {"temperature": 0.9}}, {"sample": 1}],
    ids=lambda c: next(iter(c)),
)
def test_any_change_to_what_the_engine_sees_is_another_key(change):
    base = {"document": "d", "prompt": "p", "model": "m", "sampling": {"temperature": 1.0}, "sample": 0}
    assert request_key(**base) != request_key(**{**base, **change})


def test_augmented_texts_are_the_same_every_time_and_not_the_source(lake, study, splitted, tmp_path):
    planned = plan(study, lake, split=splitted)
    generate_all(study, lake, splitted, planned)
    mine = Ledger(lake).read().to_pylist()
    elsewhere = Lake(tmp_path / "elsewhere")
    for shard in range(study.shards):
        generate_shard(study, elsewhere, split=splitted, plan=planned, shard=shard)
    theirs = {r["key"]: r["text"] for r in Ledger(elsewhere).read().to_pylist()}
    assert {r["key"]: r["text"] for r in mine} == theirs
    sources = set(pq.read_table(splitted.file("train.parquet"))["text"].to_pylist())
    assert not sources & {r["text"] for r in mine if r["engine"] == "augment"}


def test_a_damaged_segment_is_set_aside_and_its_rows_are_made_again(lake, study, splitted, caplog):
    planned = plan(study, lake, split=splitted)
    generate_all(study, lake, splitted, planned)
    before = {r["key"]: r["text"] for r in Ledger(lake).read().to_pylist()}
    segment = max(Path(lake.base, "ledger", "segments").iterdir(), key=lambda p: p.stat().st_size)
    segment.write_bytes(segment.read_bytes()[:-20])
    made = sum(counts["made"] for counts in generate_all(study, lake, splitted, planned))
    assert made > 0
    assert "is damaged: moved to" in caplog.text
    assert {r["key"]: r["text"] for r in Ledger(lake).read().to_pylist()} == before
    assert (Path(lake.base, "ledger", "damaged") / segment.name).exists()


def test_engine_seconds_are_counted_per_engine_and_kept_in_the_catalog(lake, study, splitted):
    planned = plan(study, lake, split=splitted)
    counts = generate_all(study, lake, splitted, planned)
    requests = Counter()
    for shard in counts:
        for engine, spent in shard["engines"].items():
            requests[engine] += spent["requests"]
            assert spent["wall"] == pytest.approx(spent["paid"] + spent["idle"])
            assert spent["paid"] == pytest.approx(spent["useful"] + spent["repaid"] + spent["failed"])
    assert requests == {"recorded": 100, "augment": 80}
    rows = Catalog.from_env().usage(study.name)
    assert {row["state"] for row in rows} == {"done"}
    kept = Counter()
    for row in rows:
        kept[row["engine"]] += row["requests"]
    assert kept == requests


def test_what_failed_for_good_is_not_asked_again(lake, study, splitted):
    planned = plan(study, lake, split=splitted)
    generate_all(study, lake, splitted, planned)
    segments = sorted(Path(lake.base, "ledger", "segments").iterdir())
    generate_all(study, lake, splitted, planned)
    assert sorted(Path(lake.base, "ledger", "segments").iterdir()) == segments


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (['{"url": "u", "strategy": "rephrase", "g": 0, "text": "a"}', "{broken"], "line 2: not a recording"),
        (['{"url": "u"}'], "line 1: not a recording"),
        (['{"url": "u", "strategy": "rephrase", "g": 0, "text": "a"}'] * 2, "line 2: a second recording of"),
    ],
)
def test_a_bad_recording_is_named_by_file_and_line(lake, make_study, documents, tmp_path, lines, said):
    file = tmp_path / "bad.jsonl"
    file.write_text("\n".join(lines))
    engine = {"kind": "recorded", "file": str(file)}
    study = make_study(
        strategies={"rephrase": {"kind": "rephrase", "generations": 1, "engine": engine}},
        layouts={"real": {"kind": "real"}},
        mixes={"real": {"layout": "real", "epochs": 1}},
    )
    parts = split(study, lake, documents=[documents])
    planned = plan(study, lake, split=parts)
    with pytest.raises(ConfigError, match=f"bad.jsonl: {said}"):
        generate_all(study, lake, parts, planned)


CHILD = """
import os, signal, sys
from palimpsest.config import load_study
from palimpsest.generate import run
from palimpsest.lake import Lake

study, lake = load_study(sys.argv[1]), Lake(sys.argv[2])
fuse = int(sys.argv[3])
run.SEGMENT_ROWS = 8

def blow(event, arguments):
    global fuse
    if event in {"open", "os.rename", "os.remove", "os.mkdir"} and any("/ledger/" in str(a) for a in arguments):
        fuse -= 1
        if fuse == 0:
            os.kill(os.getpid(), signal.SIGKILL)

split, plan = (lake.latest(f"studies/small/{name}") for name in ("split", "plan"))
sys.addaudithook(blow)
for shard in range(study.shards):
    run.generate_shard(study, lake, split=split, plan=plan, shard=shard)
"""


def test_killed_at_random_instants_the_ledger_ends_as_if_undisturbed(lake, study, splitted, tmp_path):
    planned = plan(study, lake, split=splitted)
    program = tmp_path / "child.py"
    program.write_text(CHILD)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "plugins")}
    command = [sys.executable, program, study.path, lake.base]
    kills = 0
    for fuse in (1, 2, 3, 5, 8, 13, 21, 34):
        child = subprocess.run([*command, str(fuse)], env=environment, check=False)
        assert child.returncode in (0, -signal.SIGKILL)
        kills += child.returncode != 0
    subprocess.run([*command, "100000"], env=environment, check=True)
    assert kills >= 5
    undisturbed = Lake(tmp_path / "undisturbed")
    for shard in range(study.shards):
        generate_shard(study, undisturbed, split=splitted, plan=planned, shard=shard)
    ours, theirs = ({r["key"]: r["text"] for r in Ledger(x).read().to_pylist()} for x in (lake, undisturbed))
    assert ours == theirs
    stored = [
        row["key"]
        for segment in Path(lake.base, "ledger", "segments").glob("*.parquet")
        for row in pq.read_table(segment).to_pylist()
    ]
    assert max(Counter(stored).values()) == 1, "a request was paid for twice although its segment was whole"


def test_the_published_generations_hold_seed_model_and_prompt_of_each(lake, study, splitted):
    planned = plan(study, lake, split=splitted)
    generate_all(study, lake, splitted, planned)
    rows = pq.read_table(
        publish_generations(study, lake, split=splitted, plan=planned).file("generations.parquet")
    ).to_pylist()
    assert all(r["model"] and r["prompt_sha256"] and r["seed"] >= 0 and r["tokens"] > 0 for r in rows)
    assert not any(r["truncated"] for r in rows)
    json.dumps(rows[0])
