"""A study that asks a real HTTP server, which writes what the test wants it to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from palimpsest.config import Study
from palimpsest.generate import concurrency, faults, watch
from palimpsest.generate.plan import plan
from palimpsest.generate.publish import publish_generations
from palimpsest.generate.run import generate_shard
from palimpsest.lake import Lake, Published
from tests.palimpsest.generate import faulty
from tests.palimpsest.generate.faulty import Faulty
from tests.palimpsest.generate.test_plan import publish_split, write_model

TOPICS = ("harbour", "bakery", "railway", "orchard", "library", "lighthouse")
PAGES = [
    f"The old {topic} stands at the edge of the town, and people have worked there for many years. Every morning the "
    f"doors of the {topic} are opened by the same family. Visitors like to come on Sundays, when the {topic} is quiet "
    "and somebody has the time to explain how everything is done by hand."
    for topic in TOPICS
]
REFUSAL = "I'm sorry, but I can't help with that request."


def retold(topic: str, seed: int) -> str:
    """A sound answer that no other seed gives."""
    return (
        f"At the border of town there is a {topic} with a long history, told here in version {seed}. One family "
        f"unlocks it each day at dawn. On quiet Sundays guests may look around the {topic}, and learn about its crafts."
    )


@dataclass
class Written:
    """The study, and what was done with it."""

    study: Study
    lake: Lake
    split: Published
    plan: Published
    server: Faulty

    def generate(self, **options) -> list[dict]:
        inputs = {"split": self.split, "plan": self.plan, **options}
        return [generate_shard(self.study, self.lake, shard=n, **inputs) for n in range(self.study.shards)]

    def publish(self) -> Published:
        return publish_generations(self.study, self.lake, split=self.split, plan=self.plan)

    def rows(self, table: str = "generations") -> list[dict]:
        return pq.read_table(self.publish().file(f"{table}.parquet")).to_pylist()


@pytest.fixture
def written(lake: Lake, make_study, tmp_path: Path, monkeypatch) -> Callable[..., Written]:
    """``written(answer, ...)``: ``answer(topic, seed, prompt)`` is what the server says; the rest is the strategy's."""
    monkeypatch.setattr(concurrency, "BACKOFF_S", 0.02)
    monkeypatch.setattr(watch, "RAMP_S", 0.05)
    monkeypatch.setattr(watch, "POLL_S", 0.2)
    monkeypatch.setattr(faults, "SETTLE_S", 0.05)
    model = write_model(tmp_path / "model")
    servers: list[Faulty] = []

    def make(answer=None, pages=PAGES, shards: int = 2, context: int = 2048, generations: int = 3, **own) -> Written:
        def text_of(prompt: str, seed: int) -> str:
            topic = next((topic for topic in TOPICS if topic in prompt), "place")
            return answer(topic, seed, prompt) if answer else retold(topic, seed)

        monkeypatch.setattr(faulty, "text_of", text_of)
        server = servers[0] if servers else Faulty().__enter__()
        servers[:] = [server]
        study = make_study(
            shards=shards,
            servers={
                "main": {"model": str(model), "context": context, "endpoints": [server.url], "ready_within_s": 20}
            },
            strategies={
                "told": {
                    "kind": "rephrase",
                    "generations": generations,
                    "engine": {"kind": "vllm", "server": "main"},
                    "sampling": {"max_tokens": 128},
                    **own,
                }
            },
            layouts={"real": {"kind": "real"}},
            mixes={"real": {"layout": "real", "epochs": 1}},
        )
        parts = publish_split(lake, list(pages))
        planned = plan(study, lake, split=parts)
        server.model = f"palimpsest-{pq.read_table(planned.file('requests.parquet'))['model'][0].as_py().split(':')[1]}"
        return Written(study, lake, parts, planned, server)

    yield make
    for server in servers:
        server.__exit__()
