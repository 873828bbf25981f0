"""A page is taken down in a lake that lies in a bucket: the same versions go, and no copy of them stays here."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from palimpsest.lake import Lake
from palimpsest.takedown import tombstones
from tests.palimpsest.takedown.conftest import DAYS, datasets, take_down, traces


@pytest.fixture
def bucket(world, s3, tmp_path, monkeypatch):
    """The world's lake in a bucket, read once so that this machine has copies of it."""
    for name, value in {
        "AWS_ENDPOINT_URL": s3,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "PALIMPSEST_LAKE": f"s3://b{random.getrandbits(48)}/lake",
    }.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "copies").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "copies"))
    lake = Lake.from_env()
    lake.fs.mkdir(lake.base.split("/")[0])
    lake.fs.put(f"{world.lake.base}/", f"{lake.base}/", recursive=True)
    for published in lake.all_latest():
        assert published.path.is_dir()
    return replace(world, lake=lake)


def test_a_bucket_loses_what_a_folder_loses(world, bucket, tmp_path):
    done = take_down(bucket)
    wanted = take_down(world)
    assert {row["uri"] for row in done.plan.removed} == {row["uri"] for row in wanted.plan.removed}
    assert done.rows == wanted.rows > 0
    assert datasets(bucket.lake) == datasets(world.lake)
    for day in DAYS:
        name = f"corpora/sample/pages/{day}"
        bucket.lake.verify(bucket.lake.latest(name))
        assert bucket.lake.latest(name).manifest["rows"] == world.lake.latest(name).manifest["rows"]
    assert tombstones.orders(bucket.lake, unfinished=True) == []
    bucket.lake.fs.get(f"{bucket.lake.base}/", f"{tmp_path / 'after'}/", recursive=True)
    assert traces(Lake(tmp_path / "after")) == {}
    assert traces(Lake(Path(bucket.lake.copies()))) == {}
    before = bucket.lake.fs.find(bucket.lake.base)
    assert take_down(bucket, reason="asked again").plan.is_empty
    assert bucket.lake.fs.find(bucket.lake.base) == before


def test_a_takedown_that_a_bucket_interrupts_is_gone_on_from(bucket, tmp_path, monkeypatch):
    real, left = bucket.lake.fs.rm_file, [3]

    def weather(path, **options):
        left[0] -= 1
        if left[0] < 0:
            raise ConnectionError("the bucket does not answer")
        return real(path, **options)

    monkeypatch.setattr(bucket.lake.fs, "rm_file", weather)
    with pytest.raises(ConnectionError, match="does not answer"):
        take_down(bucket)
    assert len(tombstones.orders(bucket.lake, unfinished=True)) == 1
    monkeypatch.setattr(bucket.lake.fs, "rm_file", real)
    take_down(bucket)
    assert tombstones.orders(bucket.lake, unfinished=True) == []
    bucket.lake.fs.get(f"{bucket.lake.base}/", f"{tmp_path / 'after'}/", recursive=True)
    assert traces(Lake(tmp_path / "after")) == {}
    shutil.rmtree(tmp_path / "after")
