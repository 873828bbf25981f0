"""datatrove's inference runner on a server that runs already: ``python datatrove_runner.py SETTINGS.json``.

Runs in an environment of datatrove's own. With its checkpoints and its cache of requests: what a run that may be
killed needs.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from datatrove.data import Document
from datatrove.pipeline.inference.run_inference import InferenceConfig, InferenceRunner
from datatrove.pipeline.writers import JsonlWriter


def main(file: str) -> None:
    settings = json.loads(Path(file).read_text(encoding="utf-8"))
    samples, sampling = settings["samples"], settings["sampling"]

    async def rollout(document, generate):
        seed = document.metadata["seed"] + document.metadata.setdefault("asked", 0)
        document.metadata["asked"] += 1
        return await generate({"prompt": document.text, "seed": seed, **sampling})

    config = InferenceConfig(
        server_type="endpoint",
        endpoint_url=settings["url"],
        model_name_or_path=settings["model"],
        use_chat=False,
        rollouts_per_document=samples,
        max_concurrent_generations=settings["concurrency"],
        server_ready_delay_sec=0.1,
        metric_interval=3600,
    )
    runner = InferenceRunner(
        rollout_fn=rollout,
        config=config,
        output_writer=JsonlWriter(settings["output"], output_filename="${rank}_${chunk_index}.jsonl", compression=None),
        checkpoints_local_dir=settings["checkpoints"],
        records_per_chunk=256,
    )
    documents = [
        Document(text=row["prompt"], id=str(number), metadata={"seed": row["seed"]})
        for number, row in enumerate(settings["documents"])
    ]
    started = time.perf_counter()
    runner.run(iter(documents))
    print(json.dumps({"seconds": time.perf_counter() - started, "tokens": 0}))


if __name__ == "__main__":
    main(sys.argv[1])
