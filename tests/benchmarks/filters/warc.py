"""datatrove's way from a WARC file to texts, with its default extractor; runs in an environment of its own.

``python warc.py PAGES.warc.gz FOLDER``: texts lie in FOLDER; prints how many, and the processor seconds.
"""

import json
import os
import sys
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.extractors import Trafilatura
from datatrove.pipeline.readers import WarcReader
from datatrove.pipeline.writers import JsonlWriter

began = sum(os.times()[:4])  # imports are not counted
file, folder = Path(sys.argv[1]), Path(sys.argv[2])
steps = [
    WarcReader(str(file.parent), glob_pattern=file.name),
    Trafilatura(),
    JsonlWriter(str(folder / "texts"), compression=None),
]
LocalPipelineExecutor(steps, tasks=1, workers=1, logging_dir=str(folder / "log")).run()
texts = sum(len(written.read_bytes().splitlines()) for written in (folder / "texts").iterdir())
print(json.dumps({"texts": texts, "seconds": sum(os.times()[:4]) - began}))
