"""A real vLLM serving a model that the platform trained and exported: one server for the whole session.

``make test-vllm`` runs these tests. The model is a Llama of 0.3M parameters, trained for seconds on the sample's texts;
its words are nonsense, its protocol is not.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palimpsest import serve
from palimpsest import tokenizer as tok
from palimpsest.config import Study
from palimpsest.lake import REPOSITORY, Facts, Lake
from palimpsest.serve import folder as folders
from palimpsest.serve import leftovers
from tests.palimpsest.conftest import write_study
from tests.training.conftest import make_study, parts_table, publish_mixes
from training.pack import tokenize
from training.pretrain import plan_runs, train

CONTEXT = 1024
TEMPLATE = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant:"
QUICK = {"enforce-eager": True, "dtype": "float32", "max-num-seqs": 32}
"""What makes vLLM start fast on a CPU: no compilation."""
ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "HF_HUB_OFFLINE": "1"}
"""1 GiB of cache; threads not tied to cores that other tests use."""


@dataclass(frozen=True)
class Tiny:
    """A model of this platform and the server that has it."""

    lake: Lake
    """Holds 'studies/small/runs/real-s0'; ``run:small/real-s0`` is the model."""
    model: Path
    """The exported folder."""
    server: dict
    """An entry of a study's ``servers``: started by the platform."""
    endpoint: serve.Endpoint
    key: str
    """PALIMPSEST_VLLM_API_KEY is set to it for the whole session."""
    state: Path
    """The state folder its keeper lives in; PALIMPSEST_STATE of the whole session, unless a test has its own."""

    @property
    def running(self) -> dict:
        """An entry of a study's ``servers``: the same server, as one that runs already."""
        kept = {key: self.server[key] for key in ("context",)}
        return {"model": str(self.model), "endpoints": [self.endpoint.url], **kept}


@pytest.fixture(scope="session")
def vllm_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The session's settings and state folder; whatever still runs there at the end is stopped."""
    state = tmp_path_factory.mktemp("vllm-state")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        patch.setenv("PALIMPSEST_STATE", str(state))
        patch.setenv("PALIMPSEST_VLLM_PYTHON", os.environ.get("PALIMPSEST_VLLM_PYTHON") or str(vllm_python()))
        yield state
        patch.setenv("PALIMPSEST_STATE", str(state))
        serve.stop(None)
        assert [process for one in folders.folders() for process in leftovers.living(one.id)] == []


def vllm_python() -> Path:
    return REPOSITORY / ".venv-vllm-cpu" / "bin" / "python"


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake with a run of the trainer on the sample's texts: ``run:small/real-s0``."""
    lake = Lake(str(tmp_path_factory.mktemp("vllm-lake")))
    lines = (REPOSITORY / "sample" / "generations.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines][:160]
    tokenizer = tok.train(texts, 1024)

    def write(directory: Path) -> Facts:
        tokenizer.save(str(directory / "tokenizer.json"))
        held_out = [
            {"document_id": f"v{n}", "text": text, "is_short": n < 2, "is_long": n == 3}
            for n, text in enumerate(texts[:4])
        ]
        pq.write_table(pa.Table.from_pylist(held_out), directory / "validation.parquet")
        return Facts()

    study = make_study(
        model={"layers": 2, "width": 64, "mlp": 192, "heads": 2},
        context=CONTEXT,
        batch=2,
        block=2,
        seeds=[0],
        evaluations=1,
    )
    split = lake.publish("studies/small/split", write)
    streams = {name: [[(text, True)] for text in texts[4:]] for name in ("real", "simple")}
    mixes = publish_mixes(lake, study, parts_table(tok.load(split.file("tokenizer.json")), streams))
    tokens = tokenize(study, lake, split=split, mixes=mixes)
    run = next(run for run in plan_runs(study, mixes) if run["recipe"] == "real")
    train(study, lake, tokens=tokens, mixes=mixes, run=run)
    return lake


@pytest.fixture(scope="session")
def tiny(trained: Lake, vllm_environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    """The model, served: started once by `serve.ensure`, and kept for every test that only asks it something."""
    template = tmp_path_factory.mktemp("template") / "chat.jinja"
    template.write_text(TEMPLATE)
    server = {
        "model": "run:small/real-s0",
        "gpus": 0,
        "context": CONTEXT,
        "arguments": {**QUICK, "chat-template": str(template)},
        "ready_within_s": 600,
    }
    study = study_on(tmp_path_factory.mktemp("vllm-study"), {"tiny": server})
    started = time.monotonic()
    [endpoint] = serve.ensure(study, "tiny", trained)
    print(f"vLLM was ready after {time.monotonic() - started:.0f} s")
    key = serve.api_key(study.servers["tiny"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PALIMPSEST_VLLM_API_KEY", key)
        model = trained.latest("studies/small/runs/real-s0").path / "model"
        yield Tiny(trained, model, server, endpoint, key, vllm_environment)


def study_on(folder: Path, servers: dict, **changes: object) -> Study:
    """The small study of `tests.palimpsest.conftest` in ``folder``, its rephrases asked of the first of ``servers``."""
    engine = {"kind": "vllm", "server": next(iter(servers))}
    sampling = {"max_tokens": 24, "temperature": 1.0}
    strategies = {"rephrase": {"kind": "rephrase", "generations": 3, "engine": engine, "sampling": sampling}}
    layouts = {"real": {"kind": "real"}, "simple": {"kind": "simple", "strategy": "rephrase"}}
    mixes = {"real": {"layout": "real", "epochs": 4}, "simple": {"layout": "simple", "f": 0.75, "epochs": 2}}
    own = {"servers": servers, "strategies": strategies, "layouts": layouts, "mixes": mixes}
    return write_study(folder, **(own | changes))


@pytest.fixture
def vllm_study(tmp_path: Path):
    """`study_on` in a folder of the test's own: vllm_study({'tiny': tiny.running}, shards=2)."""
    return partial(study_on, tmp_path)
