"""The ledger, publishing and the whole chain on a real S3 server of this machine."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from palimpsest.generate import segments as ledger_segments
from palimpsest.generate.ledger import Ledger
from palimpsest.generate.plan import plan
from palimpsest.generate.publish import publish_generations
from palimpsest.generate.run import generate_shard
from palimpsest.generate.segments import FOLDER
from palimpsest.lake import REPOSITORY, Lake
from palimpsest.split import split
from tests.palimpsest.conftest import publish_documents
from tests.palimpsest.generate.faulty import free_port
from tests.palimpsest.generate.test_ledger import keys, made

CONTROL = {"augment": {"kind": "augment", "generations": 4, "engine": {"kind": "augment"}}}
LAYOUTS = {"real": {"kind": "real"}}
MIXES = {"real": {"layout": "real", "epochs": 1}}


@pytest.fixture
def bucket(s3, state, tmp_path, monkeypatch) -> Lake:
    """An empty lake in a bucket of the test's own; PALIMPSEST_LAKE names it."""
    for name, value in {
        "AWS_ENDPOINT_URL": s3,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "TMPDIR": str(tmp_path),
        "PALIMPSEST_LAKE": f"s3://b{random.getrandbits(48)}/lake",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    lake = Lake.from_env()
    lake.fs.mkdir(lake.base.split("/")[0])
    return lake


def segments(lake: Lake) -> list[str]:
    return sorted(str(p).rsplit("/", 1)[1] for p in lake.fs.ls(f"{lake.base}/{FOLDER}", detail=False))


def stored(lake: Lake) -> Counter:
    found = Counter()
    for name in segments(lake):
        with lake.fs.open(f"{lake.base}/{FOLDER}/{name}") as stream:
            found.update(pq.read_table(stream)["key"].to_pylist())
    return found


def copies(lake: Lake) -> list[str]:
    return sorted(path.name for path in Path(lake.copies(), FOLDER).iterdir())


@pytest.fixture
def filled(bucket) -> Lake:
    for start in range(0, 30, 10):
        Ledger(bucket).append([made(key) for key in keys(range(start, start + 10))])
    return bucket


def test_segments_are_fetched_once_and_forgotten_when_they_were_merged(filled):
    ledger = Ledger(filled)
    assert ledger.done(keys(range(40))) == set(keys(range(30)))
    assert copies(filled) == segments(filled) and len(segments(filled)) == 3
    gets = []
    fetch = filled.fs.get_file
    filled.fs.get_file = lambda *arguments: gets.append(arguments) or fetch(*arguments)
    before = ledger.read()
    assert gets == []
    assert Ledger(filled).compact() == {"merged": 3, "written": 1}
    assert stored(filled) == Counter(keys(range(30)))
    assert ledger.read() == before
    assert copies(filled) == segments(filled) and len(gets) == 1


def test_a_copy_that_another_process_clears_away_at_once_is_still_read(filled, monkeypatch):
    replace = os.replace

    def replace_and_lose(source, target):
        replace(source, target)
        Path(target).unlink()

    monkeypatch.setattr(ledger_segments.os, "replace", replace_and_lose)
    assert Ledger(filled).done(keys(range(40))) == set(keys(range(30)))


def test_a_damaged_object_is_set_aside_and_a_damaged_copy_only_fetched_again(filled, caplog):
    ledger = Ledger(filled)
    ledger.read()
    first, second, _ = segments(filled)
    copy = Path(filled.copies(), FOLDER, first)
    copy.write_bytes(copy.read_bytes()[:-9])
    assert ledger.read().num_rows == 30
    assert "is damaged" not in caplog.text
    filled.fs.pipe_file(f"{filled.base}/{FOLDER}/{second}", b"half")
    Path(filled.copies(), FOLDER, second).unlink()
    assert ledger.read().num_rows == 20
    assert ledger.segments.damaged == [second]
    assert filled.fs.exists(f"{filled.base}/ledger/damaged/{second}")
    assert second not in segments(filled)


def test_a_segment_merged_by_another_machine_meanwhile_loses_no_row(filled, monkeypatch):
    ledger = Ledger(filled)
    listed, fresh = ledger.segments.list(), ledger.segments.list
    Ledger(Lake(filled.root)).compact()
    shutil.rmtree(filled.copies())
    answers = [listed]
    monkeypatch.setattr(ledger.segments, "list", lambda: answers.pop() if answers else fresh())
    assert len(ledger.done(keys(range(30)))) == 30


APPEND = """
import sys
from palimpsest.generate.ledger import Ledger
from palimpsest.generate.requests import Outcome
from palimpsest.lake import Lake

Ledger(Lake(sys.argv[1])).append([Outcome(key="0" * 32, text="t", engine="e", model="m", seed=1)])
"""


def test_what_another_process_does_is_seen(bucket):
    theirs = Lake(bucket.root)
    assert theirs.children("corpora") == []
    published = publish_documents(bucket)
    assert theirs.latest("corpora/sample/documents").digest == published.digest
    assert Ledger(bucket).done(["0" * 32]) == set()
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "plugins")}
    subprocess.run([sys.executable, "-c", APPEND, bucket.root], env=environment, check=True)
    assert Ledger(bucket).done(["0" * 32]) == {"0" * 32}


def test_a_store_that_cannot_be_reached_is_weather(filled, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    away = Lake(filled.root.replace("/lake", "/other"))
    away.fs = type(away.fs)(skip_instance_cache=True, config_kwargs={"retries": {"max_attempts": 1}})
    away.fs.retries = 1
    for attempt in (
        lambda: Ledger(away).read(),
        lambda: Ledger(away).append([made(keys([1])[0])]),
        lambda: away.latest("corpora/sample/documents"),
        lambda: publish_documents(away),
    ):
        with pytest.raises(ConnectionError, match="lake s3://"):
            attempt()


def test_the_chain_from_documents_to_generations_runs_on_the_store(bucket, make_study):
    study = make_study(strategies=CONTROL, layouts=LAYOUTS, mixes=MIXES)
    parts = split(study, bucket, documents=[publish_documents(bucket)])
    planned = plan(study, bucket, split=parts)
    made_here = sum(generate_shard(study, bucket, split=parts, plan=planned, shard=n)["made"] for n in range(3))
    published = publish_generations(study, bucket, split=parts, plan=planned)
    assert (made_here, published.manifest["rows"]["kept"]) == (80, 80)
    assert bucket.latest("studies/small/generations").digest == published.digest
    assert publish_generations(study, bucket, split=parts, plan=planned).uri == published.uri


CHILD = """
import os, signal, sys
from palimpsest.config import load_study
from palimpsest.generate import drive, run
from palimpsest.generate.segments import Segments
from palimpsest.lake import Lake

study, lake = load_study(sys.argv[1]), Lake.from_env()
drive.COMMIT_ROWS = 4
fuse = int(sys.argv[2])
write = Segments.write

def written(self, content):
    global fuse
    fuse -= 1
    if fuse == 0 and len(sys.argv) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    name = write(self, content)
    if fuse == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return name

Segments.write = written
split, plan = (lake.latest(f"studies/small/{name}") for name in ("split", "plan"))
for shard in range(study.shards):
    run.generate_shard(study, lake, split=split, plan=plan, shard=shard)
"""


@pytest.mark.timeout(600)
def test_killed_before_and_after_segments_are_written_every_request_is_there_once(bucket, make_study, tmp_path):
    study = make_study(strategies=CONTROL, layouts=LAYOUTS, mixes=MIXES)
    parts = split(study, bucket, documents=[publish_documents(bucket)])
    planned = plan(study, bucket, split=parts)
    program = tmp_path / "child.py"
    program.write_text(CHILD)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "plugins")}
    for fuse, after in ((1, []), (1, ["after"]), (3, []), (2, ["after"]), (4, []), (1000, [])):
        command = [sys.executable, program, study.path, str(fuse), *after]
        code = subprocess.run(command, env=environment, check=False).returncode
        assert code == (0 if fuse == 1000 else -signal.SIGKILL)
    wanted = set(pq.read_table(planned.file("requests.parquet"))["key"].to_pylist())
    assert stored(bucket) == Counter(wanted)
    undisturbed = Lake(tmp_path / "undisturbed")
    for shard in range(study.shards):
        generate_shard(study, undisturbed, split=parts, plan=planned, shard=shard)
    ours, theirs = ({r["key"]: r["text"] for r in Ledger(x).read().to_pylist()} for x in (bucket, undisturbed))
    assert ours == theirs
    assert publish_generations(study, bucket, split=parts, plan=planned).manifest["rows"]["kept"] == 80
