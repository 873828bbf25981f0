"""A generation that is killed, at steps of its writing and at any moment, ends as if it had not been."""

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
from sqlalchemy import text

from palimpsest.catalog import Catalog
from palimpsest.generate.ledger import Ledger
from palimpsest.generate.plan import plan
from palimpsest.generate.run import generate_shard
from palimpsest.lake import REPOSITORY, Lake
from palimpsest.split import split

CONTROL = {"augment": {"kind": "augment", "generations": 1024, "engine": {"kind": "augment"}}}
LAYOUTS = {"real": {"kind": "real"}}
MIXES = {"real": {"layout": "real", "epochs": 1}}
FORKED = """
import os, traceback

def forked():
    # everything is imported: a process is at work at once
    child = os.fork()
    if child == 0:
        try:
            generate()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child
"""
FUSED = (
    FORKED
    + """
import json, os, signal, sys
from palimpsest.config import load_study
from palimpsest.generate import drive, run
from palimpsest.lake import Lake

file, root = sys.argv[1], sys.argv[2]
drive.COMMIT_ROWS = 8

def blow(event, arguments):
    global fuse
    if event in {"open", "os.rename", "os.remove", "os.mkdir"} and any("/ledger/" in str(a) for a in arguments):
        fuse -= 1
        if fuse == 0:
            os.kill(os.getpid(), signal.SIGKILL)

def generate():
    study, lake = load_study(file), Lake(root)
    split, plan = (lake.latest(f"studies/small/{name}") for name in ("split", "plan"))
    sys.addaudithook(blow)
    for shard in range(study.shards):
        run.generate_shard(study, lake, split=split, plan=plan, shard=shard)

ended = []
for fuse in map(int, sys.argv[3:]):
    child = forked()
    ended.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(ended))
"""
)
KILLER = (
    FORKED
    + """
import json, os, random, signal, sys, time
from palimpsest.catalog import Catalog
from palimpsest.config import load_study
from palimpsest.generate import drive, run, worker
from palimpsest.lake import Lake

file, root, kills, longest = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
drive.COMMIT_ROWS, worker.PILE, worker.TIDY = 64, 6, 4
chance = random.Random(int(sys.argv[5]))

def generate():
    study, lake = load_study(file), Lake(root)
    split, plan = (lake.latest(f"studies/small/{name}") for name in ("split", "plan"))
    for shard in range(study.shards):
        run.generate_shard(study, lake, split=split, plan=plan, shard=shard)

ended = []
while True:
    child = forked()
    if len(ended) < kills:
        time.sleep(chance.uniform(0.0, longest))
        os.kill(child, signal.SIGKILL)
    ended.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    if ended[-1] != -signal.SIGKILL:
        break
print(json.dumps(ended))
"""
)
ENVIRONMENT = {"PYTHONPATH": str(REPOSITORY / "plugins")}


def stored(lake: Lake) -> Counter:
    found = Counter()
    for segment in Path(lake.base, "ledger", "segments").glob("*.parquet"):
        found.update(pq.read_table(segment)["key"].to_pylist())
    return found


def texts(lake: Lake) -> dict[str, str]:
    return {row["key"]: row["text"] for row in Ledger(lake).read().to_pylist()}


@pytest.fixture
def undisturbed(tmp_path):
    """``undisturbed(study, split, plan)``: the texts of a run that nobody disturbs, in a lake of its own."""

    def run(study, parts, planned) -> dict[str, str]:
        lake = Lake(tmp_path / "undisturbed")
        for shard in range(study.shards):
            generate_shard(study, lake, split=parts, plan=planned, shard=shard)
        return texts(lake)

    return run


def test_killed_at_every_kind_of_step_the_ledger_ends_as_if_undisturbed(lake, study, documents, undisturbed, tmp_path):
    parts = split(study, lake, documents=[documents])
    planned = plan(study, lake, split=parts)
    program = tmp_path / "child.py"
    program.write_text(FUSED)
    fuses = ("1", "2", "3", "5", "8", "13", "21", "34", "100000")
    command = [sys.executable, program, study.path, lake.base, *fuses]
    done = subprocess.run(command, env=os.environ | ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    ended = json.loads(done.stdout.splitlines()[-1])
    assert set(ended) == {0, -signal.SIGKILL} and ended.count(-signal.SIGKILL) >= 5 and ended[-1] == 0, done.stderr
    assert texts(lake) == undisturbed(study, parts, planned)
    assert max(stored(lake).values()) == 1, "a request was paid for twice although its segment was whole"


@pytest.mark.timeout(900)
def test_killed_at_twenty_five_random_moments_every_request_is_there_once(
    lake, make_study, documents, undisturbed, tmp_path
):
    study = make_study(shards=2, strategies=CONTROL, layouts=LAYOUTS, mixes=MIXES)
    parts = split(study, lake, documents=[documents])
    planned = plan(study, lake, split=parts)
    wanted = undisturbed(study, parts, planned)
    with Catalog.from_env().engine.begin() as connection:
        connection.execute(text("delete from engine_usage"))
    program = tmp_path / "killer.py"
    program.write_text(KILLER)
    seed = int.from_bytes(os.urandom(4))
    command = [sys.executable, program, study.path, lake.base, "25", "0.8", str(seed)]
    done = subprocess.run(command, env=os.environ | ENVIRONMENT, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, (seed, done.stderr[-3000:])
    ended = json.loads(done.stdout)
    assert ended[-1] == 0 and len(ended) > 20, (seed, ended, done.stderr[-3000:])
    assert len(wanted) == 20 * 1024
    assert texts(lake) == wanted, seed
    assert set(stored(lake)) == set(wanted)
    assert not [path for path in Path(lake.base, "ledger").rglob("*") if path.name.startswith(".")], seed
    catalog = Catalog.from_env()
    rows = catalog.usage(study.name)
    assert {row["state"] for row in rows} <= {"dead", "done"}
    assert sum(row["requests"] for row in rows if row["state"] == "done") <= len(wanted)
    for row in rows:
        spent = row["useful_seconds"] + row["repaid_seconds"] + row["failed_seconds"]
        assert row["paid_seconds"] == pytest.approx(spent, rel=0.01, abs=0.01)
        assert row["wall_seconds"] == pytest.approx(row["paid_seconds"] + row["idle_seconds"], rel=0.01, abs=0.01)
    with catalog.engine.begin() as connection:
        assert connection.execute(text("select count(*) from leases")).scalar() == 0
