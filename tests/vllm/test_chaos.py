"""Generation whose processes are killed at random, through the real scheduler on a real vLLM: nothing is lost, doubled,
changed or left behind.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from palimpsest import serve
from palimpsest.catalog import Catalog
from palimpsest.config import Study, load_study
from palimpsest.generate.ledger import Ledger
from palimpsest.generate.plan import plan
from palimpsest.generate.run import generate_shard
from palimpsest.lake import Facts, Lake
from palimpsest.serve import folder as folders
from palimpsest.serve import leftovers
from palimpsest.split import split
from palimpsest_airflow.local.runs import trigger, wait_for_dags
from palimpsest_airflow.local.settings import Settings
from tests.palimpsest.conftest import publish_documents, write_study
from tests.palimpsest_airflow.conftest import free_port
from tests.vllm.chaos import IMPATIENT, Platform, Victims
from tests.vllm.conftest import CONTEXT, QUICK, TEMPLATE

pytestmark = [pytest.mark.vllm, pytest.mark.e2e, pytest.mark.timeout(2400)]
SEED = int(os.environ.get("PALIMPSEST_CHAOS_SEED", "7"))
STUDY, DAG = "stormy", "study_stormy"
SHARDS = 2
PROMPTS = (("encyclopedic", "rephrase"), ("faq", "rephrase"), ("tutorial", "rephrase"), ("plain", "continuation"))
"""2,560 requests: a quiet machine makes 24 a second, and some 1,300 between the first kill and the last."""
PARTS = {
    "task": 11,
    "task supervisor": 2,
    "scheduler": 2,
    "scheduler and its tasks": 1,
    "API server": 2,
    "EngineCore": 2,
    "keeper": 1,
}
"""How often each is killed: 21 times in all. A server takes 15 s to come back, a task five."""
PATIENCE_S = 400
"""For anything to happen; a busy machine takes ten times as long as a quiet one."""
RECEIVED = re.compile(rb"Received request .*?SamplingParams\(n=(\d+),.*? seed=(\d+),")
AT_REST, AT_WORK = (0.0, 2.0), (0.0, 1.0)
"""Seconds from one kill to the next: whatever is up by then, or counted from where generation goes on."""


@dataclass(frozen=True)
class Kill:
    at: float
    """Seconds since the storm began."""
    part: str
    done: set[str]
    """Keys that the ledger held then."""
    asked: int
    """Bytes of the server's log, which names every request it received."""


@dataclass
class Storm:
    """What was killed, when, and how far the generation had come."""

    keys: set[str]
    began: float = field(default_factory=time.monotonic)
    asked: int = field(default_factory=lambda: len(server_log()))
    kills: list[Kill] = field(default_factory=list)

    def killed(self, part: str, pid: int, done: set[str]) -> None:
        self.kills.append(Kill(time.monotonic() - self.began, part, done, len(server_log())))
        said = f"{part} (process {pid}), {len(done)} of {len(self.keys)} requests done"
        print(f"  {self.kills[-1].at:6.1f} s: {said}", flush=True)


def server_log() -> bytes:
    return b"".join(folder.log(0).read_bytes() for folder in folders.folders())


def write_stormy(folder: Path, model: Path) -> Study:
    folder.mkdir()
    (folder / "chat.jinja").write_text(TEMPLATE)
    server = {
        "model": str(model),
        "gpus": 0,
        "context": CONTEXT,
        "arguments": {**QUICK, "max-num-seqs": 16, "enable-log-requests": True}
        | {"chat-template": str(folder / "chat.jinja")},
        "ready_within_s": PATIENCE_S,
    }
    keep = dict.fromkeys(("refusal", "prompt_echo", "loop", "language", "pii"), "keep")
    asked = {"engine": {"kind": "vllm", "server": "tiny"}, "generations": 32, "sampling": {"max_tokens": 160}}
    strategies = {name: {"kind": kind, **asked, "review": keep, "prompt": f"{kind}/{name}"} for name, kind in PROMPTS}
    layouts = {"real": {"kind": "real"}} | {name: {"kind": "simple", "strategy": name} for name in strategies}
    own = {"schedule": "manual", "shards": SHARDS, "budget_gpu_hours": 100, "servers": {"tiny": server}}
    mixes = {"real": {"layout": "real", "epochs": 2}}
    write_study(folder, **own, strategies=strategies, layouts=layouts, mixes=mixes)
    content = yaml.safe_load((folder / "small.yaml").read_text())
    (folder / "small.yaml").unlink()
    (folder / f"{STUDY}.yaml").write_text(yaml.safe_dump(content | {"name": STUDY}))
    return load_study(folder / f"{STUDY}.yaml")


@dataclass
class Calm:
    """The undisturbed run: what the ledger holds after it."""

    rows: dict[str, dict[str, Any]]
    seconds: float
    attempts: set[str]


def generate(study: Study, lake: Lake) -> Calm:
    divided = split(study, lake, documents=[lake.latest("corpora/sample/documents")])
    planned = plan(study, lake, split=divided)
    serve.ensure(study, "tiny", lake)
    started = time.monotonic()
    for shard in range(SHARDS):
        generate_shard(study, lake, split=divided, plan=planned, shard=shard)
    seconds = time.monotonic() - started
    attempts = {row["attempt"] for row in Catalog.from_env().usage(STUDY)}
    return Calm({row["key"]: row for row in Ledger(lake).read().to_pylist()}, seconds, attempts)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, trained: Lake, vllm_environment: Path) -> Iterator[Path]:
    """A lake, a state folder and ports of this test's own, in the environment of everything that it starts."""
    folder = tmp_path_factory.mktemp("storm")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("AIRFLOW", "MLFLOW_"))]:
            patch.delenv(name)
        for name in ("PALIMPSEST_CATALOG", "PALIMPSEST_VLLM_API_KEY"):
            patch.delenv(name, raising=False)
        for name, value in IMPATIENT.items():
            patch.setenv(f"AIRFLOW__{name}", value)
        for name in ("lake", "state", "studies"):
            patch.setenv(f"PALIMPSEST_{name.upper()}", str(folder / name))
        for name in ("AIRFLOW", "MLFLOW"):
            patch.setenv(f"PALIMPSEST_{name}_PORT", str(free_port()))
        yield folder
        serve.stop(None)


@pytest.fixture(scope="module")
def study(environment: Path, trained: Lake) -> Study:
    model = environment / "model"
    shutil.copytree(trained.latest("studies/small/runs/real-s0").path / "model", model)
    return write_stormy(environment / "studies", model)


@pytest.fixture(scope="module")
def calm(environment: Path, study: Study) -> Calm:
    lake = Lake(environment / "calm")
    publish_documents(lake)
    found = generate(study, lake)
    print(f"undisturbed: {len(found.rows)} requests in {found.seconds:.0f} s", flush=True)
    return found


@pytest.fixture(scope="module")
def platform(environment: Path, study: Study, calm: Calm) -> Iterator[Platform]:
    lake = Lake(environment / "lake")
    documents = publish_documents(lake)
    lake.publish("corpora/sample/gate", lambda directory: Facts(), parents=[documents])
    Catalog.from_env().migrate()
    started = Platform(Settings.from_env(), DAG)
    try:
        started.start()
        wait_for_dags(started.api, [DAG])
        yield started
    finally:
        started.stop()


def rage(platform: Platform, lake: Lake, storm: Storm, chance: random.Random) -> None:
    """Every part killed as often as `PARTS` says, in random order, while requests are left."""
    parts = [part for part, times in PARTS.items() for _ in range(times)]
    chance.shuffle(parts)
    victims = Victims(platform)
    while parts:
        if chance.random() < 0.5:  # once generation goes on
            before = done(lake, storm)
            follow(platform, lambda before=before: done(lake, storm) > before, "no progress")
            pause = chance.uniform(*AT_WORK)
        else:
            pause = chance.uniform(*AT_REST)
        until = time.monotonic() + pause
        follow(platform, lambda until=until: time.monotonic() > until, "")
        part, pid = follow(platform, lambda: victims.kill(parts), f"none to kill of {parts}")
        parts.remove(part)
        storm.killed(part, pid, done(lake, storm))
        assert storm.kills[-1].done < storm.keys, f"all is generated before {parts} were killed: give it more to do"


def follow(platform: Platform, seen: Callable[[], Any], what: str) -> Any:
    """Look after the platform until ``seen()`` is true; what it returned."""
    until = time.monotonic() + PATIENCE_S
    while True:
        tasks = platform.look_after()
        if found := seen():
            return found
        states = Counter((task["task_id"], task["state"]) for task in tasks)
        assert time.monotonic() < until, f"{what}: {dict(states)}\n{platform.logs('scheduler')}"
        time.sleep(0.2)


def done(lake: Lake, storm: Storm) -> set[str]:
    return Ledger(lake).done(storm.keys)


@pytest.fixture(scope="module")
def storm(platform: Platform, calm: Calm, environment: Path) -> Storm:
    """The same study through Airflow, disturbed, to the end of its generation."""
    print(f"storm {SEED} (PALIMPSEST_CHAOS_SEED)", flush=True)
    lake, storm = Lake(environment / "lake"), Storm(set(calm.rows))
    platform.run = trigger(platform.api, DAG, {})
    follow(platform, lambda: done(lake, storm), "nothing was generated")
    rage(platform, lake, storm, random.Random(SEED))
    follow(platform, lambda: ended(platform, "collect"), "the generation did not end")
    platform.api.patch(f"dags/{DAG}/dagRuns/{platform.run}", {"state": "failed"})  # training is not the matter here
    print(
        f"  {time.monotonic() - storm.began:6.1f} s: ended; a person cleared {len(platform.cleared)} tasks", flush=True
    )
    return storm


def ended(platform: Platform, name: str) -> bool:
    states = {task["task_id"]: task["state"] for task in platform.tasks()}
    return states[name] == states["stop_serving"] == "success"


@pytest.fixture(scope="module")
def ledger(storm: Storm, environment: Path) -> Ledger:
    return Ledger(Lake(environment / "lake"))


def test_every_planned_key_is_there_once_and_no_other(storm, ledger, calm):
    assert len(storm.kills) >= 20
    keys = Counter(row["key"] for batch in ledger.batches() for row in batch.to_pylist())
    assert keys == dict.fromkeys(calm.rows, 1)
    assert ledger.verify()["damaged"] == []
    assert not list(Path(ledger.lake.base, "ledger").glob("damaged/*"))


def test_every_text_is_the_undisturbed_runs(ledger, calm):
    """Whatever else was in the batch, whoever asked, before or after a crash: a seed gives one text."""
    names = ("text", "finish_reason", "seed", "input_tokens", "output_tokens", "cause")
    found = {row["key"]: row for row in ledger.read().to_pylist()}
    differ = [key for key in calm.rows if any(found[key][name] != calm.rows[key][name] for name in names)]
    assert differ == []
    assert all(row["text"] is not None for row in found.values())


def test_nothing_that_was_stored_is_paid_again_and_little_else(storm, calm):
    """At most what was in flight when something was killed is asked again."""
    key_of = {row["seed"]: key for key, row in calm.rows.items()}
    asked: list[tuple[int, str]] = []
    for received in RECEIVED.finditer(server_log()):
        samples, seed = map(int, received.groups())
        if received.start() >= storm.asked:
            asked += [(received.start(), key_of[seed + i]) for i in range(samples) if seed + i in key_of]
    first = {}
    again = [(at, key) for at, key in asked if first.setdefault(key, at) != at]
    assert first.keys() == storm.keys
    stored = [key for kill in storm.kills for at, key in again if at > kill.asked and key in kill.done]
    assert stored == []
    before = [[kill for kill in storm.kills if first[key] <= kill.asked <= at] for at, key in again]
    assert all(before), "asked again, and nothing was killed since"
    per_kill = len(again) / len(storm.kills)
    print(f"{len(again)} requests paid again, each in flight at a kill: {per_kill:.0f} a kill of {len(storm.keys)}")


def test_the_throughput_ledger_adds_up(storm, ledger, calm):
    rows = [row for row in Catalog.from_env().usage(STUDY) if row["attempt"] not in calm.attempts]
    states = Counter(row["state"] for row in rows)
    assert states["dead"] and states["done"] and not states["running"], states
    for row in rows:
        wall, paid, idle = (row[f"{name}_seconds"] for name in ("wall", "paid", "idle"))
        spent = sum(row[f"{name}_seconds"] for name in ("useful", "repaid", "failed"))
        assert wall == pytest.approx(paid + idle, rel=0.01, abs=0.01), row
        assert paid == pytest.approx(spent, rel=0.01, abs=0.01), row
    made = sum(row["requests"] for row in rows)  # an attempt may be killed between its last segment and its account
    print(f"{made} of {len(storm.keys)} requests are accounted for by {len(rows)} attempts")
    assert made <= len(storm.keys)


def test_no_process_of_a_server_is_left(storm):
    assert [process for one in folders.folders() for process in leftovers.living(one.id)] == []
