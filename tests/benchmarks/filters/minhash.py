"""datatrove's four MinHash stages over one file of JSON lines; runs in an environment of its own.

``python minhash.py DOCUMENTS.jsonl FOLDER``: what is kept lies in FOLDER/kept; prints the processor seconds of all
four, and the most memory (MiB) that one of their processes held.
"""

import json
import os
import resource
import sys
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter

documents, folder = Path(sys.argv[1]), Path(sys.argv[2])
config = MinhashConfig()  # its own: 5-grams, 14 buckets of 8
reader = JsonlReader(str(documents.parent), glob_pattern=documents.name)
signatures, buckets, removed = (str(folder / name) for name in ("signatures", "buckets", "removed"))
stages = [
    ([reader, MinhashDedupSignature(signatures, config)], 1),
    ([MinhashDedupBuckets(signatures, buckets, config=config)], config.num_buckets),
    ([MinhashDedupCluster(buckets, removed, config=config)], 1),
    ([reader, MinhashDedupFilter(removed), JsonlWriter(str(folder / "kept"), compression=None)], 1),
]
for number, (pipeline, tasks) in enumerate(stages):
    LocalPipelineExecutor(pipeline, tasks=tasks, workers=1, logging_dir=str(folder / f"log{number}")).run()
own, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
times = os.times()
seconds = times.user + times.system + times.children_user + times.children_system
print(json.dumps({"seconds": seconds, "memory": max(own.ru_maxrss, others.ru_maxrss) / 1024}))
