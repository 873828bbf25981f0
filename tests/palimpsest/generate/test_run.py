from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from palimpsest.catalog import Catalog
from palimpsest.config import ConfigError
from palimpsest.generate import attempt
from palimpsest.generate.drive import drive
from palimpsest.generate.engines import Augment
from palimpsest.generate.leases import LeaseLost
from palimpsest.generate.ledger import Ledger, request_key
from palimpsest.generate.plan import plan
from palimpsest.generate.publish import publish_generations
from palimpsest.generate.requests import Outcome, Request
from palimpsest.generate.run import generate_shard
from palimpsest.lake import Lake, LakeError
from palimpsest.split import split
from tests.palimpsest.generate import faulty
from tests.palimpsest.generate.conftest import PAGES, REFUSAL, TOPICS, retold


@pytest.fixture
def splitted(lake, study, documents):
    return split(study, lake, documents=[documents])


def generate_all(study, lake, parts, planned):
    return [generate_shard(study, lake, split=parts, plan=planned, shard=s) for s in range(study.shards)]


def left(lake, planned):
    asked = set(pq.read_table(planned.file("requests.parquet"))["key"].to_pylist())
    return len(asked - Ledger(lake).done(asked))


def keys(lake):
    return Counter(Ledger(lake).read()["key"].to_pylist())


def test_the_plan_has_each_sample_of_each_training_document_once(lake, study, splitted):
    rows = pq.read_table(plan(study, lake, split=splitted).file("requests.parquet")).to_pylist()
    assert Counter(r["strategy"] for r in rows) == {"rephrase": 60, "rationale": 40, "augment": 80}
    assert len({r["key"] for r in rows}) == len(rows)
    held = set(pq.read_table(splitted.file("validation.parquet"))["document_id"].to_pylist())
    assert not held & {r["document_id"] for r in rows}
    assert all(len({r["shard"] for r in rows if r["document_id"] == d}) == 1 for d in {r["document_id"] for r in rows})


def test_the_plan_minus_the_ledger_is_what_is_left(lake, study, splitted):
    planned = plan(study, lake, split=splitted)
    assert left(lake, planned) == 180
    first = generate_shard(study, lake, split=splitted, plan=planned, shard=0)
    assert left(lake, planned) == 180 - first["asked"]
    with pytest.raises(LakeError, match=r"planned requests were never tried \(shards \[1, 2\]\); run them: python -m"):
        publish_generations(study, lake, split=splitted, plan=planned)
    generate_all(study, lake, splitted, planned)
    rows = publish_generations(study, lake, split=splitted, plan=planned).manifest["rows"]
    assert left(lake, planned) == 0
    assert rows["quarantined"] == {"not_recorded": 180 - rows["kept"]}


def test_documents_without_recordings_take_part_and_are_counted(lake, study, splitted):
    planned = plan(study, lake, split=splitted)
    generate_all(study, lake, splitted, planned)
    found = publish_generations(study, lake, split=splitted, plan=planned)
    facts = found.extra["by_strategy"]
    assert facts["rephrase"] == {
        "planned": 60,
        "made": 51,
        "dropped": 0,
        "missing": 9,
        "documents": 20,
        "documents_incomplete": 3,
    }
    assert facts["augment"]["documents_incomplete"] == 0
    lost = pq.read_table(found.file("missing.parquet")).to_pylist()
    assert {r["cause"] for r in lost} == {"not_recorded"}
    assert {r["url"].rsplit("/", 1)[1] for r in lost} == {"7", "15", "23"}


def test_nothing_is_generated_twice_whatever_is_renamed_or_resharded(lake, make_study, documents):
    study = make_study()
    parts = split(study, lake, documents=[documents])
    generate_all(study, lake, parts, plan(study, lake, split=parts))
    before = keys(lake)
    other = make_study(shards=5)
    replanned = plan(other, lake, split=parts)
    again = generate_all(other, lake, parts, replanned)
    assert sum(counts["made"] for counts in again) == 0
    assert keys(lake) == before
    strategies = {f"renamed_{n}": s.model_dump() for n, s in study.strategies.items()}
    layouts = {"real": {"kind": "real"}, "simple": {"kind": "simple", "strategy": "renamed_rephrase"}}
    mixes = {"real": {"layout": "real", "epochs": 4}}
    renamed = make_study(strategies=strategies, layouts=layouts, mixes=mixes)
    replanned = plan(renamed, lake, split=parts)
    assert sum(counts["made"] for counts in generate_all(renamed, lake, parts, replanned)) == 0


@pytest.mark.parametrize(
    "change",
    [{"document": "other"}, {"prompt": "other"}, {"model": "other"}, {"sampling": {"temperature": 0.9}}, {"sample": 1}],
    ids=lambda c: next(iter(c)),
)
def test_any_change_to_what_the_engine_sees_is_another_key(change):
    base = {"document": "d", "prompt": "p", "model": "m", "sampling": {"temperature": 1.0}, "sample": 0}
    assert request_key(**base) != request_key(**{**base, **change})


def test_augmented_texts_are_the_same_every_time_and_not_the_source(lake, study, splitted, tmp_path):
    planned = plan(study, lake, split=splitted)
    generate_all(study, lake, splitted, planned)
    mine = Ledger(lake).read().to_pylist()
    elsewhere = Lake(tmp_path / "elsewhere")
    for shard in range(study.shards):
        generate_shard(study, elsewhere, split=splitted, plan=planned, shard=shard)
    theirs = {r["key"]: r["text"] for r in Ledger(elsewhere).read().to_pylist()}
    assert {r["key"]: r["text"] for r in mine} == theirs
    sources = set(pq.read_table(splitted.file("train.parquet"))["text"].to_pylist())
    assert not sources & {r["text"] for r in mine if r["engine"] == "augment"}


def test_a_damaged_segment_is_set_aside_and_its_rows_are_made_again(lake, study, splitted, caplog):
    planned = plan(study, lake, split=splitted)
    generate_all(study, lake, splitted, planned)
    before = {r["key"]: r["text"] for r in Ledger(lake).read().to_pylist()}
    segment = max(Path(lake.base, "ledger", "segments").iterdir(), key=lambda p: p.stat().st_size)
    segment.write_bytes(segment.read_bytes()[:-20])
    made = sum(counts["made"] for counts in generate_all(study, lake, splitted, planned))
    assert made > 0
    assert "is damaged: moved to" in caplog.text
    assert {r["key"]: r["text"] for r in Ledger(lake).read().to_pylist()} == before
    assert (Path(lake.base, "ledger", "damaged") / segment.name).exists()


def test_engine_seconds_are_counted_per_engine_and_kept_in_the_catalog(lake, study, splitted):
    planned = plan(study, lake, split=splitted)
    counts = generate_all(study, lake, splitted, planned)
    requests = Counter()
    for shard in counts:
        for engine, spent in shard["engines"].items():
            requests[engine] += spent["requests"]
            assert spent["wall"] == pytest.approx(spent["paid"] + spent["idle"])
            assert spent["paid"] == pytest.approx(spent["useful"] + spent["repaid"] + spent["failed"])
    assert requests == {"recorded": 100, "augment": 80}
    rows = Catalog.from_env().usage(study.name)
    assert {row["state"] for row in rows} == {"done"}
    kept = Counter()
    for row in rows:
        kept[row["engine"]] += row["requests"]
    assert kept == requests


def test_what_failed_for_good_is_not_asked_again(lake, study, splitted):
    planned = plan(study, lake, split=splitted)
    generate_all(study, lake, splitted, planned)
    segments = sorted(Path(lake.base, "ledger", "segments").iterdir())
    generate_all(study, lake, splitted, planned)
    assert sorted(Path(lake.base, "ledger", "segments").iterdir()) == segments


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (['{"url": "u", "strategy": "rephrase", "g": 0, "text": "a"}', "{broken"], "line 2: not a recording"),
        (['{"url": "u"}'], "line 1: not a recording"),
        (['{"url": "u", "strategy": "rephrase", "g": 0, "text": "a"}'] * 2, "line 2: a second recording of"),
    ],
)
def test_a_bad_recording_is_named_by_file_and_line(lake, make_study, documents, tmp_path, lines, said):
    file = tmp_path / "bad.jsonl"
    file.write_text("\n".join(lines))
    engine = {"kind": "recorded", "file": str(file)}
    study = make_study(
        strategies={"rephrase": {"kind": "rephrase", "generations": 1, "engine": engine}},
        layouts={"real": {"kind": "real"}},
        mixes={"real": {"layout": "real", "epochs": 1}},
    )
    parts = split(study, lake, documents=[documents])
    planned = plan(study, lake, split=parts)
    with pytest.raises(ConfigError, match=f"bad.jsonl: {said}"):
        generate_all(study, lake, parts, planned)


def test_the_published_generations_hold_seed_model_and_prompt_of_each(lake, study, splitted):
    planned = plan(study, lake, split=splitted)
    generate_all(study, lake, splitted, planned)
    rows = pq.read_table(
        publish_generations(study, lake, split=splitted, plan=planned).file("generations.parquet")
    ).to_pylist()
    assert all(r["model"] and r["prompt_sha256"] and r["seed"] >= 0 and r["tokens"] > 0 for r in rows)
    assert not any(r["truncated"] for r in rows)
    json.dumps(rows[0])


# ---- a server that is asked in words


def refuses(*places: tuple[str, int], times: int) -> object:
    """Refuses the first ``times`` attempts at these (topic, how manieth sample by seed) and retells everything else."""
    refused: Counter = Counter()

    def answer(topic: str, seed: int, prompt: str) -> str:
        for place in places:
            if topic == place and refused[topic] < times:
                refused[topic] += 1
                return REFUSAL
        return retold(topic, seed)

    return answer


def by_topic(rows: list[dict]) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    for row in rows:
        found.setdefault(next(topic for topic in TOPICS if topic in str(row)), []).append(row)
    return found


def test_a_defective_answer_is_asked_for_again_and_the_attempt_that_counts_is_recorded(written):
    world = written(refuses("bakery", times=1))
    counts = world.generate()
    assert sum(c["asked"] for c in counts) == 6 * 3 + 1
    rows = by_topic(world.rows())
    assert sorted(row["attempt"] for row in rows.pop("bakery")) == [0, 0, 1]
    assert {row["attempt"] for some in rows.values() for row in some} == {0}
    assert sum(c["asked"] for c in world.generate()) == 0
    texts = [row["text"] for row in world.rows()]
    assert len(set(texts)) == 18 and REFUSAL not in texts


def test_one_that_stays_defective_is_asked_for_so_often_and_dropped_with_its_reason(written):
    world = written(refuses("orchard", times=10**6), review={"attempts": 3})
    assert sum(c["asked"] for c in world.generate()) == 6 * 3 + 3 * 3
    published = world.publish()
    assert published.manifest["rows"] == {"input": 18, "kept": 15, "dropped": {"refusal": 3}, "quarantined": {}}
    drops = world.rows("generation_drops")
    assert {(row["reason"], row["attempt"], row["text"]) for row in drops} == {("refusal", 3, REFUSAL)}
    assert [row["g"] for row in drops] == [0, 1, 2]
    assert published.extra["by_strategy"]["told"]["dropped"] == 3
    assert published.extra["review"][0]["defect"] == "refusal"


def test_what_others_have_generated_is_reviewed_by_this_studys_rules(written):
    """A crash between generating and asking again, or another study without a review, leaves the same ledger."""
    lax = written(refuses("library", times=3), review={"refusal": "keep"})
    assert sum(c["asked"] for c in lax.generate()) == 18
    assert len(lax.rows()) == 18
    strict = written(None)
    assert strict.plan.uri == lax.plan.uri
    with pytest.raises(LakeError, match=r"3 of 18 planned requests were never tried.*python -m palimpsest generate"):
        strict.publish()
    assert sum(c["asked"] for c in strict.generate()) == 3
    assert sorted(row["attempt"] for row in strict.rows()) == [0] * 15 + [1] * 3


def test_a_long_document_is_joined_from_its_parts_and_only_the_defective_part_is_asked_again(written):
    long = "\n\n".join(PAGES[n % 6].replace("old", f"old number {n}") for n in range(24))
    refused = []

    def answer(topic: str, seed: int, prompt: str) -> str:
        if "number 13" in prompt and not refused:
            refused.append(prompt)
            return REFUSAL
        return f"Told by {seed}. {retold(topic, seed)}"

    world = written(answer, pages=[PAGES[0], long], context=1024, generations=2)
    planned = pq.read_table(world.plan.file("requests.parquet")).to_pylist()
    parts = max(row["parts"] for row in planned)
    assert parts > 2
    assert sum(c["asked"] for c in world.generate()) == 2 + 2 * parts + 1
    rows = world.rows()
    assert [(row["parts"], row["g"]) for row in rows] == [(1, 0), (1, 1), (parts, 0), (parts, 1)]
    assert sorted(row["attempt"] for row in rows) == [0, 0, 0, 1]
    asked = {row["seed"] for row in planned}
    for row in rows[2:]:
        told = [int(seed) for seed in re.findall(r"Told by (\d+)", row["text"])]
        assert len(told) == parts and len(set(told) - asked) == row["attempt"]
        mine = [r for r in planned if r["g"] == row["g"] and r["parts"] == parts]
        assert [s for s in told if s in asked] == [r["seed"] for r in mine if r["seed"] in told]
        assert row["generation_id"] == mine[0]["key"]
        assert row["output_tokens"] == len(row["text"].split())


def test_a_poisonous_request_is_set_aside_listed_and_replayed(written, capsys):
    poisoned = [PAGES[0], f"{PAGES[1]} [[500]]"]
    world = written(pages=poisoned, generations=2)
    counts = world.generate()
    assert sum(c["made"] for c in counts) == 2
    assert Counter(cause for c in counts for cause in c["not_made"].items()) == {("server_error", 2): 1}
    published = world.publish()
    assert published.manifest["rows"]["quarantined"] == {"server_error": 2}
    (first, _) = world.rows("missing")
    assert (first["url"], first["part"], first["cause"]) == ("https://a.example/1", 0, "server_error")
    assert "HTTP 500" in first["detail"] or "500" in first["detail"]
    catalog = Catalog.from_env()
    listed = catalog.failed_requests(world.study.name)
    assert {(row["key"], row["tries"]) for row in listed} == {(row["key"], 1) for row in world.rows("missing")}
    assert sum(c["asked"] for c in world.generate()) == 0
    assert sum(c["asked"] for c in world.generate(replay=True)) == 2
    assert {row["tries"] for row in catalog.failed_requests(world.study.name)} == {2}
    faulty.FAULT, pattern = re.compile("never"), faulty.FAULT
    try:
        again = world.generate(replay=True)
    finally:
        faulty.FAULT = pattern
    assert sum(c["made"] for c in again) == 2
    assert catalog.failed_requests() == []
    assert world.publish().manifest["rows"]["kept"] == 4


def test_a_failure_that_the_catalog_has_lost_is_listed_again(written):
    world = written(pages=[f"{PAGES[1]} [[500]]"], generations=1, shards=1)
    world.generate()
    catalog = Catalog.from_env()
    (before,) = catalog.failed_requests()
    catalog.forget_failures([before["key"]])
    assert sum(c["asked"] for c in world.generate()) == 0
    (after,) = catalog.failed_requests()
    moments = ("first_at", "last_at")
    assert {k: v for k, v in after.items() if k not in moments} == {k: v for k, v in before.items() if k not in moments}


def test_what_is_finished_when_the_servers_go_is_kept_and_its_seconds_are_in_the_catalog(written):
    world = written(pages=[*PAGES[:4], f"{PAGES[4]} [[crash]]"], generations=2, shards=1)
    world.server.down_s = -1
    settings = world.study.servers["main"].model_copy(update={"ready_within_s": 1.5})
    world.study = world.study.model_copy(update={"servers": {"main": settings}})
    with pytest.raises(ConnectionError):
        world.generate()
    kept = Ledger(world.lake).read().num_rows
    (row,) = Catalog.from_env().usage(world.study.name)
    assert row["state"] == "failed" and row["requests"] == kept
    assert row["wall_seconds"] == pytest.approx(row["paid_seconds"] + row["idle_seconds"], rel=0.01)
    spent = row["useful_seconds"] + row["repaid_seconds"] + row["failed_seconds"]
    assert row["paid_seconds"] == pytest.approx(spent, rel=0.01)
    assert row["repaid_seconds"] > 0


def test_what_a_killed_process_had_stored_is_in_its_line(lake, monkeypatch):
    monkeypatch.setattr(attempt, "STORED_S", 0.0)
    catalog, engine = Catalog.from_env(), Augment()
    catalog.migrate()
    line = attempt.Attempt(catalog, "killed", 0, engine)
    asked = [Request(f"{n:032x}", f"https://a.example/{n}", "augment", n, "One. Two. Three.", 0) for n in range(3)]
    made = list(engine.generate(asked))
    line.store(made)
    (row,) = catalog.usage("killed")  # there was no time for another heartbeat, or for an end
    assert (row["state"], row["requests"]) == ("running", 3)
    assert row["useful_seconds"] == pytest.approx(sum(outcome.engine_seconds for outcome in made))


def test_a_catalog_that_is_away_for_a_while_ends_no_generation(lake, monkeypatch):
    catalog, engine = Catalog.from_env(), Augment()
    catalog.migrate()
    line = attempt.Attempt(catalog, "away", 0, engine)
    with monkeypatch.context() as patch:
        patch.setattr(Catalog, "record_usage", _raises(ConnectionError("the catalog is away")))
        line.beat(0.0)
    line.store(engine.generate([Request("0" * 32, "https://a.example/0", "augment", 0, "One. Two.", 0)]))
    line.beat(0.0)
    assert [row["requests"] for row in catalog.usage("away")] == [1]


def _raises(error: Exception):
    def call(*_, **__):
        raise error

    return call


def test_progress_is_told_and_ends_complete(written):
    told = []
    world = written(refuses("bakery", times=1), shards=1)
    world.generate(progress=told.append)
    assert (told[-1].done, told[-1].total, told[-1].failed) == (19, 19, 0)
    assert "19/19 requests (100.0%)" in told[-1].line()


# ---- the engine's thread and the commits


class Slow:
    """An engine with its own pace: what it yields, between pauses."""

    name, model = "slow", "slow"

    def __init__(self, *script: float | Exception | int) -> None:
        self.script = script
        self.closed = threading.Event()
        self.pulled = 0

    def generate(self, requests):
        stream = iter(requests)
        try:
            for step in self.script:
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, float):
                    time.sleep(step)
                    continue
                for _ in range(step):
                    request = next(stream, None)
                    if request is None:
                        return
                    self.pulled += 1
                    yield Outcome(request.key, "text", self.name, self.model, 1)
        finally:
            self.closed.set()


def some_requests(count: int) -> Iterator[Request]:
    return (Request(f"{n:032x}", f"https://a.example/{n}", "rephrase", 0, "text", n) for n in range(count))


def test_outcomes_are_committed_within_a_second_also_while_the_engine_is_silent():
    commits: list[tuple[float, int]] = []
    started = time.monotonic()
    drive(Slow(3, 3.0, 2), some_requests(5), commit=lambda found: commits.append((time.monotonic(), len(found))))
    assert [count for _, count in commits] == [3, 2]
    assert commits[0][0] - started < 2.5


def test_commits_are_of_256_outcomes_while_they_come_fast():
    commits = []
    drive(Slow(1000), some_requests(1000), commit=lambda found: commits.append(len(found)))
    assert sum(commits) == 1000 and max(commits) == 256 and len(commits) <= 8


def test_what_is_finished_is_committed_before_an_engines_error_is_raised():
    commits = []
    engine = Slow(7, ConnectionError("the server is gone"))
    with pytest.raises(ConnectionError, match="the server is gone"):
        drive(engine, some_requests(9), commit=commits.extend)
    assert len(commits) == 7


def test_what_is_finished_is_committed_when_the_process_is_interrupted():
    commits: list[Outcome] = []
    engine = Slow(7, 20.0, 2)

    def interrupt():
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        drive(engine, some_requests(9), commit=commits.extend, tick=interrupt)
    assert len(commits) == 7
    assert time.monotonic() - started < 19


def test_an_error_in_the_requests_or_in_a_commit_stops_the_engine():
    def broken():
        yield from some_requests(3)
        raise LakeError("no more of the plan")

    commits = []
    engine = Slow(9)
    with pytest.raises(LakeError, match="no more of the plan"):
        drive(engine, broken(), commit=commits.extend)
    assert len(commits) == 3 and engine.closed.wait(5)

    def refuse(found):
        raise LeaseLost({"a"})

    endless = Slow(*[300, 0.05] * 200)
    with pytest.raises(LeaseLost):
        drive(endless, some_requests(10**6), commit=refuse)
    assert endless.closed.wait(5) and endless.pulled < 10_000


def test_a_slow_commit_slows_the_engine_and_not_the_memory():
    engine = Slow(20_000)
    with pytest.raises(RuntimeError):
        drive(engine, some_requests(20_000), commit=lambda found: time.sleep(1.0), tick=_after(3))
    assert engine.pulled < 4_000


def _after(ticks: int):
    left = [ticks]

    def tick():
        left[0] -= 1
        if not left[0]:
            raise RuntimeError("enough")

    return tick
