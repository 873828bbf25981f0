from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palimpsest.generate import compaction, ordering, segments
from palimpsest.generate.ledger import Ledger
from palimpsest.generate.requests import Outcome
from palimpsest.generate.segments import SCHEMA, Segments, preference, serialized
from palimpsest.lake import REPOSITORY, Lake, LakeError


def made(key: str, text: str | None = "", **changes) -> Outcome:
    """An outcome with a text made of its key, or with a cause."""
    content = {"text": text or f"text of {key}"} if text is not None else {"text": None, "cause": "timeout"}
    return Outcome(key=key, engine="vllm", model="m", seed=int(key, 16), output_tokens=7, **content | changes)


def keys(numbers) -> list[str]:
    return [f"{n:032x}" for n in numbers]


def folder(lake: Lake) -> Path:
    return Path(lake.base, "ledger", "segments")


def stored(lake: Lake) -> Counter:
    """Every row of every segment, by key."""
    found = Counter()
    for segment in folder(lake).glob("*.parquet"):
        found.update(pq.read_table(segment)["key"].to_pylist())
    return found


@pytest.fixture
def ledger(lake) -> Ledger:
    """A hundred rows in ten segments."""
    ledger = Ledger(lake)
    for start in range(0, 100, 10):
        ledger.append([made(key) for key in keys(range(start, start + 10))])
    return ledger


def test_what_was_appended_is_read_back_one_row_per_key(ledger):
    assert ledger.done(keys(range(200))) == set(keys(range(100)))
    table = ledger.read(keys([7, 150, 3]))
    assert table["key"].to_pylist() == keys([3, 7])
    assert table.schema == SCHEMA
    assert ledger.read(keys([3]), ["text"]).to_pylist() == [{"text": f"text of {keys([3])[0]}"}]


@pytest.mark.parametrize("outcome", [{"text": None, "cause": None}, {"text": "a", "cause": "timeout"}])
def test_an_outcome_is_a_text_or_a_cause(lake, outcome):
    with pytest.raises(LakeError, match="request k: engine 'vllm' answered with (neither|both)"):
        Ledger(lake).append([Outcome(key="k", engine="vllm", model="m", seed=0, **outcome)])


def test_a_failure_is_final_until_replayed_and_a_text_wins_over_it(lake):
    ledger = Ledger(lake)
    (key,) = keys([1])
    ledger.append([made(key, None, detail="no answer")])
    assert ledger.done([key]) == {key}
    assert ledger.done([key], replay=True) == set()
    assert ledger.failures().to_pylist()[0]["detail"] == "no answer"
    ledger.append([made(key)])
    assert ledger.done([key], replay=True) == {key}
    assert ledger.failures([key]).num_rows == 0
    assert ledger.read().to_pylist()[0]["text"] == f"text of {key}"


def test_which_of_several_rows_counts_does_not_depend_on_the_segments(lake, tmp_path):
    (key,) = keys([1])
    rows = [
        made(key, None),
        made(key, "b"),
        made(key, "a", finish_reason="stop"),
        made(key, "a", finish_reason="length"),
    ]
    found = []
    for number, order in enumerate(([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1])):
        ledger = Ledger(Lake(tmp_path / f"lake{number}"))
        for index in order:
            ledger.append([rows[index]])
        if number == 2:
            assert ledger.compact() == {"merged": 4, "written": 1}
        found += [ledger.read().to_pylist(), list(ledger.in_order([key]))]
    assert all(each == found[0] for each in found)
    assert (found[0][0]["text"], found[0][0]["finish_reason"]) == ("a", "length")


def _cut(content: bytes) -> bytes:
    return content[:-20]


def _flip(content: bytes) -> bytes:
    return content[:100] + bytes([content[100] ^ 1]) + content[101:]


@pytest.mark.parametrize("damage", [_cut, _flip, lambda content: b"", lambda content: b"PAR1" * 9])
def test_a_damaged_segment_is_set_aside_and_only_its_rows_count_as_not_generated(ledger, lake, damage, caplog):
    victim = sorted(folder(lake).iterdir())[4]
    lost = set(pq.read_table(victim)["key"].to_pylist())
    victim.write_bytes(damage(victim.read_bytes()))
    assert ledger.done(keys(range(100))) == set(keys(range(100))) - lost
    assert f"ledger segment {victim} is damaged: moved to" in caplog.text
    assert not victim.exists()
    assert Path(lake.base, "ledger", "damaged", victim.name).exists()
    assert ledger.verify()["damaged"] == [victim.name]


@pytest.mark.parametrize("content", [b"not Parquet", serialized(pa.table({"other": [1]}))])
def test_a_file_that_is_what_its_name_says_but_no_segment_is_set_aside(ledger, lake, content):
    name = Segments(lake).write(content)
    assert len(ledger.done(keys(range(100)))) == 100
    assert ledger.segments.damaged == [name]


def test_files_of_other_names_are_left_alone(ledger, lake):
    other = folder(lake) / "notes.txt"
    other.write_text("mine")
    assert len(ledger.read()) == 100
    assert other.read_text() == "mine"


def test_segments_of_before_lack_columns_that_are_null_then(lake):
    table = pa.table({"key": keys([1]), "text": ["old"], "cause": pa.nulls(1, pa.string()), "seed": [5]})
    Segments(lake).write(serialized(table))
    Ledger(lake).append([made(keys([2])[0])])
    for compacted in (False, True):
        rows = Ledger(lake).read().to_pylist()
        assert [(row["text"], row["output_tokens"]) for row in rows][0] == ("old", None)
        assert len(rows) == 2
        if not compacted:
            Ledger(lake).compact()


def test_compaction_leaves_every_row_once_and_large_segments_alone(ledger, lake, monkeypatch):
    before = ledger.read()
    ledger.append([made(key) for key in keys(range(5, 15))])
    assert ledger.compact(pile=50) == {"merged": 0, "written": 0}
    assert ledger.compact() == {"merged": 11, "written": 1}
    (large,) = folder(lake).iterdir()
    assert max(stored(lake).values()) == 1
    assert ledger.read() == before
    monkeypatch.setattr(compaction, "SMALL_BYTES", large.stat().st_size)
    ledger.append([made(key) for key in keys([200])])
    assert ledger.compact() == {"merged": 0, "written": 0}
    ledger.append([made(key) for key in keys([201])])
    assert ledger.compact() == {"merged": 2, "written": 1}
    assert large.exists()


def test_compaction_cuts_its_work_into_segments_of_bounded_size(ledger, lake, monkeypatch):
    monkeypatch.setattr(compaction, "MERGED_BYTES", 3 * max(p.stat().st_size for p in folder(lake).iterdir()) + 1)
    assert ledger.compact() == {"merged": 9, "written": 3}  # and one left over
    assert len(ledger.read()) == 100


def test_compaction_does_not_delete_a_segment_that_is_its_own_result(lake):
    ledger = Ledger(lake)
    ledger.append([made(key) for key in keys(range(3))])
    ledger.append([made(key) for key in keys(range(2))])
    ledger.compact()
    ledger.append([made(key) for key in keys(range(2))])
    ledger.compact()
    assert len(ledger.read()) == 3


def test_compaction_sets_damaged_segments_aside_like_any_reader(ledger, lake):
    victim = sorted(folder(lake).iterdir())[0]
    victim.write_bytes(b"")
    ledger.compact()
    assert len(ledger.read()) == 90
    assert ledger.segments.damaged == [victim.name]


def test_a_segment_that_vanishes_while_the_ledger_is_read_was_merged_and_no_row_is_lost(ledger, lake, monkeypatch):
    sound, opened = Segments.open, []

    def open_after_compaction(self, name):
        opened.append(name)
        if len(opened) == 3:
            monkeypatch.setattr(Segments, "open", sound)
            Ledger(lake).compact()
        return sound(self, name)

    monkeypatch.setattr(Segments, "open", open_after_compaction)
    assert ledger.done(keys(range(100))) == set(keys(range(100)))
    assert len(opened) == 3 and len(list(folder(lake).iterdir())) == 1


COMPACTOR = """
import sys
from palimpsest.generate import compaction
from palimpsest.generate.ledger import Ledger
from palimpsest.generate.requests import Outcome
from palimpsest.lake import Lake

ledger, me = Ledger(Lake(sys.argv[1])), int(sys.argv[2])
for n in range(40):
    key = f"{1000 * (me + 1) + n:032x}"
    ledger.append([Outcome(key=key, text="t", engine="e", model="m", seed=1)])
    ledger.compact()
"""
FUSE = """
import os, signal, sys
from palimpsest.generate import compaction
from palimpsest.generate.ledger import Ledger
from palimpsest.lake import Lake

ledger, fuse = Ledger(Lake(sys.argv[1])), int(sys.argv[2])

def blow(event, arguments):
    global fuse
    if event in {"open", "os.rename", "os.remove"} and any("/ledger/" in str(a) for a in arguments):
        fuse -= 1
        if fuse == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(blow)
ledger.compact()
"""


def child(tmp_path: Path, program: str, *arguments: object) -> list[object]:
    file = tmp_path / f"child{hash(program)}.py"
    file.write_text(program)
    return [sys.executable, str(file), *map(str, arguments)]


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY / "plugins")}


def test_two_compactors_at_once_beside_a_reader_lose_nothing(ledger, lake, tmp_path):
    workers = [
        subprocess.Popen(child(tmp_path, COMPACTOR, lake.base, me), env=ENVIRONMENT, stderr=subprocess.PIPE)
        for me in (0, 1)
    ]
    reads = 0
    while any(worker.poll() is None for worker in workers):
        assert len(Ledger(lake).done(keys(range(100)))) == 100
        reads += 1
    assert [worker.wait() for worker in workers] == [0, 0], [worker.stderr.read() for worker in workers]
    wanted = keys([*range(100), *range(1000, 1040), *range(2000, 2040)])
    ledger.compact()
    assert stored(lake) == Counter(wanted)
    assert reads > 3


def test_a_merged_segment_that_another_compactor_merges_at_once_is_left_to_it(ledger, lake, monkeypatch):
    move = segments.move_durably

    def moved(source, target):
        move(source, target)
        monkeypatch.setattr(segments, "move_durably", move)
        Ledger(lake).append([made(key) for key in keys([1000])])
        Ledger(lake).compact()
        assert not Path(target).exists()

    monkeypatch.setattr(segments, "move_durably", moved)
    ledger.compact()
    assert stored(lake).keys() == set(keys([*range(100), 1000]))
    ledger.compact()
    assert stored(lake) == Counter(keys([*range(100), 1000]))


def test_compaction_killed_at_any_instant_loses_nothing_and_leaves_no_partial_file(ledger, lake, tmp_path):
    before = ledger.read()
    fuse, kills = 1, 0
    while True:
        code = subprocess.run(child(tmp_path, FUSE, lake.base, fuse), env=ENVIRONMENT, check=False).returncode
        assert code in (0, -signal.SIGKILL)
        assert Ledger(lake).read() == before
        if code == 0:
            break
        kills += 1
        fuse += 4
    assert kills >= 10
    assert Ledger(lake).read() == before
    assert max(stored(lake).values()) == 1
    assert not [path for path in folder(lake).iterdir() if path.name.startswith(".")]


def test_a_segment_counts_only_once_it_and_its_folder_are_on_disk(lake, monkeypatch):
    """What survives a power failure: data before name, name before the next step, new folders too."""
    done: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(handle):
        done.append(("fsync", os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    def noted_replace(source, target):
        done.append(("replace", str(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    ledger = Ledger(lake)
    name = ledger.append([made(key) for key in keys([1])])
    target = str(folder(lake) / name)
    at = done.index(("replace", target))
    assert done[at - 1][0] == "fsync" and Path(done[at - 1][1]).parent == folder(lake)
    assert done[at + 1] == ("fsync", str(folder(lake)))
    above = [str(folder(lake).parent), str(folder(lake).parent.parent)]
    assert {("fsync", path) for path in above} <= set(done[:at])
    ledger.append([made(key) for key in keys([2])])
    done.clear()
    removed = []
    monkeypatch.setattr(Segments, "delete", lambda self, name: removed.append(len(done)))
    ledger.compact()
    (renamed,) = [n for n, (what, _) in enumerate(done) if what == "replace"]
    assert done[renamed + 1] == ("fsync", str(folder(lake)))
    assert len(removed) == 2 and min(removed) > renamed + 1


@given(
    asked=st.lists(st.integers(0, 60), max_size=80),
    present=st.lists(st.tuples(st.integers(0, 60), st.sampled_from(["a", "b", None])), max_size=80),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_come_in_the_order_asked_each_the_preferred_of_its_key(tmp_path_factory, monkeypatch, asked, present):
    monkeypatch.setattr(ordering, "RANGE_ROWS", 7)
    monkeypatch.setattr(ordering, "DEAL_BYTES", 1_000)
    monkeypatch.setattr(segments, "GROUP_ROWS", 5)
    ledger = Ledger(Lake(tmp_path_factory.mktemp("lake")))
    outcomes = [made(keys([n])[0], text) for n, text in present]
    for start in range(0, len(outcomes), 9):
        ledger.append(outcomes[start : start + 9])
    best: dict[str, dict] = {}
    for outcome in outcomes:
        row = {name: getattr(outcome, name) for name in SCHEMA.names}
        best[outcome.key] = min(best.get(outcome.key, row), row, key=preference)
    assert list(ledger.in_order(iter(keys(asked)))) == [best.get(key) for key in keys(asked)]


def test_many_places_share_files_and_what_stops_the_ledger_is_raised_as_it_is(ledger, lake, monkeypatch):
    monkeypatch.setattr(ordering, "RANGE_ROWS", 2)
    monkeypatch.setattr(ordering, "MAX_RANGES", 3)
    asked = keys(range(99, -1, -1))
    assert [row["key"] for row in ledger.in_order(asked)] == asked

    def away(self, name):
        raise ConnectionError("the store is away")

    monkeypatch.setattr(Segments, "open", away)
    with pytest.raises(ConnectionError, match="the store is away"):
        list(ledger.in_order(asked))


def test_stats_count_requests_texts_and_failures(ledger, lake):
    assert Ledger(Lake(Path(lake.base, "empty"))).stats()["keys"] == 0
    ledger.append([made(key, None) for key in keys([5, 300, 301])])
    ledger.append([made(keys([301])[0], None, cause="server_crash")])
    stats = ledger.stats()
    assert (stats["segments"], stats["rows"], stats["keys"]) == (12, 104, 102)
    assert stats["models"] == {"m": {"texts": 100, "output_tokens": 700}}
    assert stats["failures"] == {"timeout": 1, "server_crash": 1}
    assert stats["bytes"] == sum(p.stat().st_size for p in folder(lake).iterdir())


WRITER = """
import sys, time
from pathlib import Path
from palimpsest.durable import partial_beside

partial = partial_beside(Path(sys.argv[1], "segment"))
partial.write_bytes(b"half")
print(partial, flush=True)
time.sleep(60)
"""


def test_partial_files_are_swept_when_their_writer_is_dead_and_not_before(ledger, lake, tmp_path):
    writer = subprocess.Popen(child(tmp_path, WRITER, folder(lake)), env=ENVIRONMENT, stdout=subprocess.PIPE)
    partial = Path(writer.stdout.readline().decode().strip())
    ledger.read()
    assert partial.exists()
    writer.kill()
    writer.wait()
    ledger.read()
    assert not partial.exists()
