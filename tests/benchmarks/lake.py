"""Publishing into the lake beside copying the same bytes: what durability, digests and the manifest cost."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from palimpsest.lake import Facts, Lake

MEGABYTES = 64


def run() -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "rows.parquet")
        values = np.random.default_rng(0).integers(0, 2**62, MEGABYTES * 2**17)
        pq.write_table(pa.table({"value": values}), source, compression="none", use_dictionary=False)
        size = source.stat().st_size / 2**20
        ours = min(_publish(source, Path(folder, f"lake{n}")) for n in range(3))
        peer = min(_copy(source, Path(folder, f"copy{n}.parquet")) for n in range(3))
    name = f"lake: publish {MEGABYTES} MB, against copy and fsync"
    return [{"name": name, "ours": size / ours, "peer": size / peer, "unit": "MB/s"}]


def _publish(source: Path, root: Path) -> float:
    def write(directory: Path) -> Facts:
        shutil.copyfile(source, directory / source.name)
        return Facts()

    start = time.perf_counter()
    Lake(root).publish("bench", write)
    return time.perf_counter() - start


def _copy(source: Path, target: Path) -> float:
    start = time.perf_counter()
    shutil.copyfile(source, target)
    handle = os.open(target, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
    return time.perf_counter() - start
