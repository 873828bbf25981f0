"""A study that asks one server for continuations, and what it plans: the same requests for every client."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from palimpsest.config import Study, load_study
from palimpsest.generate.plan import plan, planned_requests
from palimpsest.generate.requests import Request
from palimpsest.lake import Lake, Published
from palimpsest.split import split
from tests.benchmarks.serving import model

STRATEGY = "go_on"


@dataclass(frozen=True)
class Planned:
    study: Study
    lake: Lake
    split: Published
    plan: Published

    def requests(self) -> list[Request]:
        return list(planned_requests(self.study, self.lake, split=self.split, plan=self.plan))


def planned(file: Path, lake: Lake) -> Planned:
    """The study in ``file`` with its split and plan in the lake, made where they are not there yet."""
    study = load_study(file)
    divided = split(study, lake, documents=[lake.latest("corpora/sample/documents")])
    return Planned(study, lake, divided, plan(study, lake, split=divided))


def write(file: Path, folder: Path, *, samples: int, output: int, **server: object) -> Path:
    """A study file: ``samples`` continuations of ``output`` tokens per document, of the model in ``folder``."""
    content = {
        "name": file.stem,
        "description": "Continuations for a benchmark.",
        "corpora": ["sample"],
        "schedule": "manual",
        "validation": {"rule": "hash_share", "share": 0.02},
        "tokenizer": {"path": str(folder / "tokenizer.json")},
        "shards": 1,
        "servers": {"local": {"model": str(folder), "context": model.CONTEXT} | server},
        "strategies": {
            STRATEGY: {
                "kind": "continuation",
                "generations": samples,
                "engine": {"kind": "vllm", "server": "local"},
                "sampling": {"temperature": 1.0, "max_tokens": output},
                # Random weights write nonsense; a second attempt would be more work than the others have.
                "review": dict.fromkeys(("loop", "language", "refusal", "prompt_echo"), "keep"),
            }
        },
        "layouts": {"real": {"kind": "real"}},
        "mixes": {"real": {"layout": "real", "epochs": 1}},
        "reference": "real",
        "training": {"model": {"layers": 1, "width": 16, "mlp": 32, "heads": 2}},
    }
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return file
