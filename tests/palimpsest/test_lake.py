from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palimpsest.lake import Corrupt, Facts, Lake, LakeError, NotPublished, Rows


def numbers(count: int):
    def write(directory: Path) -> Facts:
        pq.write_table(pa.table({"n": range(count)}), directory / "numbers.parquet")
        (directory / "sub").mkdir()
        (directory / "sub" / "note.txt").write_text("note")
        return Facts(Rows(count + 1, count, {"odd": 1}), {"why": "test"})

    return write


def test_a_published_dataset_tells_rows_files_parents_and_config(lake):
    parent = lake.publish("a", numbers(3))
    child = lake.publish("b/c", numbers(2), config={"x": 1}, parents=[parent])
    assert lake.open(child.uri, child.digest).manifest == child.manifest
    assert lake.latest("b/c").uri == child.uri
    assert child.manifest["parents"] == [{"dataset": "a", **parent.ref}]
    assert child.manifest["rows"] == {"input": 3, "kept": 2, "dropped": {"odd": 1}, "quarantined": {}}
    assert [f["name"] for f in child.manifest["files"]] == ["numbers.parquet", "sub/note.txt"]
    assert pq.read_table(child.file("numbers.parquet")).num_rows == 2


def test_the_same_stage_again_does_nothing_and_a_changed_one_runs(lake):
    first = lake.publish("a", numbers(3), config={"x": 1})

    def never(directory):
        raise AssertionError("wrote again")

    assert lake.publish("a", never, config={"x": 1}).uri == first.uri
    assert lake.publish("a", numbers(3), config={"x": 2}).uri != first.uri
    parent = lake.publish("p", numbers(1))
    assert lake.publish("a", numbers(3), config={"x": 1}, parents=[parent]).uri != first.uri


def test_a_version_is_found_by_what_it_is_made_of_without_making_it(lake):
    parent = lake.publish("a", numbers(1))
    assert lake.version("b", config={"x": 1}, parents=[parent]) is None
    made = lake.publish("b", numbers(2), config={"x": 1}, parents=[parent])
    assert lake.version("b", config={"x": 1}, parents=[parent]).ref == made.ref
    assert lake.version("b", config={"x": 2}, parents=[parent]) is None
    assert lake.version("b", config={"x": 1}) is None


def test_going_back_to_an_old_config_makes_it_the_latest_again(lake):
    old = lake.publish("a", numbers(3), config={"x": 1})
    lake.publish("a", numbers(4), config={"x": 2})
    lake.publish("a", numbers(3), config={"x": 1})
    assert lake.latest("a").uri == old.uri


def test_versions_come_in_the_order_they_were_published_in(lake):
    published = [lake.publish("a", numbers(n), config={"x": n}).uri for n in range(6)]
    assert published != sorted(published)
    assert [version.uri for version in lake.versions("a")] == published
    lake.publish("a", numbers(2), config={"x": 2})
    assert [version.uri for version in lake.versions("a")] == [*published[:2], *published[3:], published[2]]
    assert lake.versions("b") == []


def test_what_a_killed_writer_left_is_no_version(lake):
    published = lake.publish("a", numbers(3))
    shutil.copytree(published.path, published.path.with_name(".0123.abcd.partial"))
    assert [version.uri for version in lake.versions("a")] == [published.uri]


def test_rows_that_do_not_add_up_publish_nothing(lake):
    with pytest.raises(LakeError, match="5 rows came in but 4 are accounted for"):
        lake.publish("a", lambda directory: Facts(Rows(5, 3, {"short": 1})))
    with pytest.raises(NotPublished):
        lake.latest("a")


def test_a_failing_stage_leaves_no_trace_but_its_name(lake):
    def fails(directory: Path):
        (directory / "half.txt").write_text("half")
        raise ValueError("bad row 7")

    with pytest.raises(ValueError, match="bad row 7"):
        lake.publish("a", fails)
    assert not [p for p in Path(lake.base).rglob("*") if p.is_file()]


def test_a_changed_file_is_found_out(lake):
    published = lake.publish("a", numbers(3))
    published.file("sub/note.txt").write_text("changed")
    with pytest.raises(Corrupt, match="note.txt no longer matches its manifest; delete"):
        lake.publish("a", numbers(3))
    with pytest.raises(Corrupt, match="expected 000"):
        lake.open(published.uri, "0" * 64)


def test_a_damaged_manifest_or_pointer_is_named(lake):
    published = lake.publish("a", numbers(3))
    published.file("manifest.json").write_text("{")
    with pytest.raises(Corrupt, match=r"manifest.json is damaged .* delete its folder and re-run"):
        lake.publish("a", numbers(3))
    Path(lake.base, "a", "latest.json").write_text("")
    with pytest.raises(Corrupt, match=r"a/latest.json is damaged .* delete it and re-run"):
        lake.latest("a")


def test_a_lost_file_is_found_out(lake):
    lake.publish("a", numbers(3)).file("sub/note.txt").unlink()
    with pytest.raises(Corrupt, match="note.txt no longer matches its manifest; delete"):
        lake.publish("a", numbers(3))


def test_of_two_processes_that_publish_the_same_version_the_first_one_stays(lake):
    def overtaken(directory: Path) -> Facts:
        first = Lake(lake.root).publish("a", numbers(3))
        (first.path / "being read").touch()
        return numbers(3)(directory)

    published = lake.publish("a", overtaken)
    assert published.file("being read").exists()
    lake.verify(published)


EVENTS = {"open", "os.rename", "os.mkdir", "os.rmdir", "shutil.rmtree"}


def publish_in_a_child(root: Path, fuse: int = 999) -> int:
    """The exit code of a process that publishes 'a' and is killed at its file operation of that number."""
    child = os.fork()  # everything is imported
    if child == 0:

        def blow(event: str, arguments: tuple) -> None:
            nonlocal fuse
            if event in EVENTS and any(str(root) in str(a) for a in arguments):
                fuse -= 1
                if fuse == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        def write(directory: Path) -> Facts:
            (directory / "one.txt").write_text("one")
            (directory / "two.txt").write_text("two")
            return Facts(Rows(2, 2))

        sys.addaudithook(blow)
        try:
            Lake(root).publish("a", write)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_killed_at_any_instant_a_dataset_is_whole_or_absent_and_a_rerun_finishes_it(tmp_path):
    """SIGKILL at every file operation of a publish, one after the other, until one run gets through."""
    kills = 0
    for fuse in range(1, 60):
        root = tmp_path / f"lake{fuse}"
        code = publish_in_a_child(root, fuse)
        lake = Lake(root)
        try:
            found = lake.latest("a")
            lake.verify(found)
        except NotPublished:
            pass
        assert code in (0, -signal.SIGKILL)
        kills += code != 0
        assert publish_in_a_child(root) == 0
        lake.verify(lake.latest("a"))
        assert {p.name for p in lake.latest("a").path.iterdir()} == {"manifest.json", "one.txt", "two.txt"}
        if code == 0:
            break
    assert kills >= 6
    assert code == 0


def test_what_killed_writers_left_behind_is_swept_but_not_what_a_live_one_is_writing(tmp_path):
    root = tmp_path / "lake"
    assert publish_in_a_child(root, 10) == -signal.SIGKILL
    assert [p for p in (root / "a").iterdir() if p.name.endswith(".partial")]
    lake = Lake(root)

    def write(directory: Path) -> Facts:
        (directory / "outer.txt").write_text("outer")
        lake.publish("a", numbers(1), config={"inner": 1})
        assert (directory / "outer.txt").exists()
        return Facts()

    lake.publish("a", write)
    assert not [p for p in (root / "a").iterdir() if p.name.endswith(".partial")]


def test_a_stage_never_reads_a_file_that_was_lost_or_changed(lake):
    uri = lake.publish("a", numbers(3)).uri
    note = Path(lake.base) / uri / "sub" / "note.txt"
    note.write_text("nota")
    with pytest.raises(Corrupt, match="note.txt no longer matches its manifest; delete .* and run its stage again"):
        lake.open(uri).file("numbers.parquet")
    note.unlink()
    with pytest.raises(Corrupt):
        lake.open(uri).file("numbers.parquet")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS], ids=["full", "read-only"])
def test_a_disk_error_names_the_lake_and_the_way_out(lake, code):
    def fails(directory):
        raise OSError(code, os.strerror(code))

    with pytest.raises(OSError, match="cannot write a under lake") as error:
        lake.publish("a", fails)
    assert error.value.errno == code
    assert "PALIMPSEST_LAKE" in str(error.value)
    assert lake.publish("a", numbers(1)).manifest["rows"]["kept"] == 1


def test_a_disk_error_of_a_single_file_says_the_same(lake, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"cannot write ledger/segments/x under lake .*No space left.*PALIMPSEST_LAKE"):
        lake.write_file("ledger/segments/x", b"x")


def test_a_lake_on_a_real_full_disk_publishes_nothing(tmp_path):
    """A tmpfs of 64 KiB, mounted for this test."""
    mount = tmp_path / "small"
    mount.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", mount], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        lake = Lake(mount)

        def big(directory: Path) -> Facts:
            (directory / "big.bin").write_bytes(os.urandom(1_000_000))
            return Facts()

        with pytest.raises(OSError, match="No space left on device.*PALIMPSEST_LAKE"):
            lake.publish("a", big)
        with pytest.raises(NotPublished):
            lake.latest("a")
        subprocess.run(["mount", "-o", "remount,ro", mount], check=True)
        with pytest.raises(OSError, match="is not writable: Read-only file system. Set PALIMPSEST_LAKE"):
            lake.publish("a", numbers(1))
    finally:
        subprocess.run(["umount", mount], check=True)


def test_a_lake_on_an_object_store_publishes_and_reads_the_same():
    lake = Lake("memory://bucket/lake")
    published = lake.publish("x/a", numbers(3))
    assert lake.latest("x/a").manifest == published.manifest
    assert pq.read_table(published.file("numbers.parquet")).num_rows == 3
    assert [p.dataset for p in lake.children("x")] == ["x/a"]
    assert [p.dataset for p in lake.all_latest()] == ["x/a"]
    assert lake.publish("x/a", numbers(3)).uri == published.uri
    late = lake.open(published.uri)
    cached = published.path
    for entry in ("manifest.json", "numbers.parquet"):
        assert (cached / entry).exists()
    (cached / "manifest.json").rename(cached / "hidden")  # as if another process were still fetching

    def arrives(source, target, recursive):
        Path(target).mkdir()
        (cached / "hidden").rename(cached / "manifest.json")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lake.fs, "get", arrives)
        assert late.path == cached
    with lake.fs.open(f"{lake.base}/{published.uri}/sub/note.txt", "wb") as stream:
        stream.write(b"changed")
    with pytest.raises(Corrupt):
        lake.publish("x/a", numbers(3))


@pytest.mark.parametrize(("root", "said"), [("nosuch://bucket", "nosuch"), ("dropbox://lake", "[Ii]nstall")])
def test_a_store_that_cannot_be_reached_from_here_is_named(root, said):
    with pytest.raises(LakeError, match=f"PALIMPSEST_LAKE is {root}: .*{said}"):
        Lake(root)


def test_the_manifest_is_plain_json(lake):
    published = lake.publish("a", numbers(3))
    assert json.loads(published.file("manifest.json").read_text()) == published.manifest
