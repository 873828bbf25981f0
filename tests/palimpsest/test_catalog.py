from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from palimpsest.catalog import Catalog, store, trace_url
from palimpsest.catalog.tables import Base
from palimpsest.lake import Facts, Lake, LakeError, NotPublished, Published, Rows
from palimpsest.liveness import identity, place

URL = "https://garden.example/tomatoes"
OTHER = "https://garden.example/beans"
HELD = "https://garden.example/peas"
ENDLESS = "https://garden.example/" + "x" * 9_000


@pytest.fixture(params=["sqlite", "postgresql"])
def catalog(request, state):
    url = f"sqlite:///{state / 'deep' / 'catalog.db'}"
    if request.param == "postgresql":
        url = os.environ.get("PALIMPSEST_TEST_POSTGRES") or pytest.skip(
            "set PALIMPSEST_TEST_POSTGRES to a database URL"
        )
    catalog = Catalog(url)
    catalog.ready()
    with catalog.engine.begin() as connection:  # PostgreSQL has one database for all tests
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(table.delete())
    yield catalog
    catalog.close()


def publish(lake: Lake, dataset: str, tables: dict[str, list[dict]], parents=(), rows=None, extra=None) -> Published:
    def write(directory: Path) -> Facts:
        for name, content in tables.items():
            if name.endswith(".json"):
                (directory / name).write_text(json.dumps(content))
            else:
                pq.write_table(pa.Table.from_pylist(content), directory / f"{name}.parquet")
        return Facts(rows, extra or {})

    return lake.publish(dataset, write, config={"tables": repr(tables)}, parents=parents)


@pytest.fixture
def world(lake: Lake) -> dict[str, Published]:
    """Three pages of one corpus, a study of them, and one training run."""
    page = {"warc_file": "garden.warc.gz", "warc_offset": 0, "day": "2026-10-03"}
    bad = {"warc_file": "garden.warc.gz", "warc_offset": 9, "cause": "too_deep", "detail": "nested\0 deep"}
    pages = publish(
        lake,
        "corpora/garden/pages/2026-10-03",
        {
            "pages": [{"page_id": f"p{i}", "url": url, **page} for i, url in enumerate((URL, OTHER, HELD))],
            "quarantine": [{"url": ENDLESS, **bad}],
        },
        rows=Rows(4, 3, quarantined={"too_deep": 1}),
    )
    documents = publish(
        lake,
        "corpora/garden/documents",
        {
            "documents": [
                {"document_id": d, "url": url, "title": d, "words": 3} for d, url in (("d0", URL), ("d2", HELD))
            ],
            "document_drops": [{"url": OTHER, "reason": "near_duplicate", "duplicate_of": URL}],
        },
        [pages],
        Rows(3, 2, {"near_duplicate": 1}),
    )
    split = publish(
        lake,
        "studies/toy/split",
        {"train": [{"document_id": "d0", "url": URL}], "validation": [{"document_id": "d2", "url": HELD}]},
        [documents],
    )
    generations = publish(
        lake,
        "studies/toy/generations",
        {
            "generations": [
                {"generation_id": f"g{g}", "document_id": "d0", "strategy": "rephrase", "g": g, "tokens": 10}
                for g in (0, 1)
            ],
            "missing": [{"key": "k", "url": URL, "strategy": "rationale", "g": 0, "cause": "no_recording"}],
        },
        [split],
        Rows(3, 2, quarantined={"no_recording": 1}),
    )
    rows = [("real", 0, "d0"), ("simple", 0, "d0"), ("simple", 1, "d0"), ("simple", 2, "d0")]
    megadocs = [
        {"layout": y, "position": p, "megadoc_id": f"{d}/{p}", "document_id": d, "tokens": 10} for y, p, d in rows
    ]
    mixes = publish(
        lake,
        "studies/toy/mixes",
        {
            "megadoc_parts": [{**m, "part": 0} for m in megadocs],
            "megadocs": megadocs,
            "mixes": [
                {"recipe": "real", "layout": "real", "stream_tokens": 10},
                {"recipe": "capped", "layout": "real", "stream_tokens": 10},
                {"recipe": "capped", "layout": "simple", "stream_tokens": 20},
            ],
        },
        [split, generations],
    )
    evaluation = {
        "run": "capped-s1",
        "recipe": "capped",
        "seed": 1,
        "losses": {"validation": 3.5, "long": float("nan")},
    }
    run = publish(
        lake, "studies/toy/runs/capped-s1", {"evaluation.json": evaluation}, [mixes], extra={"mlflow_run_id": "abc"}
    )
    return {
        "pages": pages,
        "documents": documents,
        "split": split,
        "generations": generations,
        "mixes": mixes,
        "run": run,
    }


def names(relatives) -> list[str]:
    return [r.dataset.rsplit("/", 1)[1] for r in relatives]


def tables(catalog: Catalog) -> dict[str, list]:
    with catalog.engine.begin() as connection:
        return {
            table.name: sorted(map(repr, connection.execute(table.select()).all()))
            for table in Base.metadata.sorted_tables
        }


def test_migrations_make_exactly_the_models_and_go_back(catalog):
    with catalog.engine.begin() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": "catalog_version", "compare_type": True}
        )
        assert compare_metadata(context, Base.metadata) == []
    catalog.migrate("base")
    assert set(inspect(catalog.engine).get_table_names()) <= {"catalog_version"}
    catalog.migrate()
    assert set(Base.metadata.tables) < set(inspect(catalog.engine).get_table_names())


def test_lineage_answers_both_ways_nearest_first(catalog, world):
    catalog.record(*world.values())
    up = catalog.lineage_up(world["run"].uri)
    assert names(up) == ["mixes", "generations", "split", "documents", "2026-10-03"]
    assert [r.distance for r in up] == [1, 2, 2, 3, 4]
    assert [r.digest for r in up][-1] == world["pages"].digest
    assert names(catalog.lineage_down(world["documents"].uri)) == ["split", "generations", "mixes", "capped-s1"]


def test_recording_again_changes_nothing(catalog, world):
    catalog.record(*world.values())
    before = tables(catalog)
    catalog.record(world["pages"], *world.values())
    assert tables(catalog) == before


def test_recording_a_version_that_was_published_again_replaces_it(catalog, lake):
    def published(url: str) -> Published:
        def write(directory: Path) -> Facts:
            row = {"url": url, "cause": "too_deep", "detail": "", "warc_file": "garden.warc.gz", "warc_offset": 9}
            pq.write_table(pa.Table.from_pylist([row]), directory / "quarantine.parquet")
            return Facts(Rows(1, 0, quarantined={"too_deep": 1}))

        return lake.publish("corpora/garden/pages/2026-10-03", write)

    old = published(URL)
    child = publish(lake, "corpora/garden/documents", {}, [old])
    catalog.record(old, child)
    shutil.rmtree(old.path)
    new = published(OTHER)
    assert new.uri == old.uri and new.digest != old.digest
    catalog.record(new)
    assert [r.digest for r in catalog.lineage_up(child.uri)] == [new.digest]
    assert [r.uri for r in catalog.lineage_down(new.uri)] == [child.uri]
    assert (catalog.quarantined(URL), len(catalog.quarantined(OTHER))) == ([], 1)
    recorded = tables(catalog)
    with catalog.engine.begin() as connection:
        connection.execute(text("delete from dataset_versions"))
    catalog.sync(lake)
    assert tables(catalog) == recorded


def test_sync_rebuilds_what_recording_made_and_keeps_the_throughput_ledger(catalog, world, lake):
    catalog.record(*world.values())
    catalog.record_usage("a0", **line(wall=10, paid=9, useful=7, repaid=2))
    catalog.record_failures([failure("k0")])
    recorded = tables(catalog)
    with catalog.engine.begin() as connection:
        connection.execute(text("delete from dataset_versions"))
    assert catalog.sync(lake) == len(world)
    assert tables(catalog) == recorded
    assert len(recorded["quarantine"]) == 2


def test_sync_drops_what_is_gone_and_keeps_the_edge_to_it(catalog, world, lake):
    catalog.record(*world.values())
    shutil.rmtree(world["split"].path)
    assert catalog.sync(lake) == len(world) - 1
    gone = [r for r in catalog.lineage_up(world["mixes"].uri) if r.dataset is None]
    assert [(r.uri, r.digest) for r in gone] == [(world["split"].uri, world["split"].digest)]


def test_unfinished_directories_are_no_versions(catalog, world, lake):
    partial = Path(lake.base, "corpora/garden/documents/.abc.1234.partial")
    shutil.copytree(world["documents"].path, partial)
    assert catalog.sync(lake) == len(world)


def test_quarantine_is_found_by_url_even_where_postgresql_could_not_hold_it(catalog, world):
    catalog.record(*world.values())
    assert [(r["cause"], r["detail"]) for r in catalog.quarantined(ENDLESS)] == [("too_deep", "nested\ufffd deep")]
    assert [(r["cause"], r["detail"]) for r in catalog.quarantined(URL)] == [("no_recording", "rationale sample 0")]


def test_training_runs_are_listed_with_their_losses(catalog, world):
    catalog.record(world["run"])
    (run,) = catalog.training_runs("toy")
    assert (run["run"], run["recipe"], run["seed"], run["mlflow_run_id"]) == ("capped-s1", "capped", 1, "abc")
    assert run["losses"] == {"validation": 3.5, "long": None}


def line(
    study="toy", shard=0, worker="", state="running", wall=0.0, paid=0.0, useful=0.0, repaid=0.0, failed=0.0, idle=None
):
    """What a worker says of an attempt."""
    seconds = {"wall": wall, "paid": paid, "useful": useful, "repaid": repaid, "failed": failed}
    seconds["idle"] = wall - paid if idle is None else idle
    return {
        "study": study,
        "shard": shard,
        "engine": "vllm",
        "model": "org/model@c0ffee",
        "worker": worker,
        "state": state,
        "started_at": dt.datetime.now(dt.UTC),
        **{f"{name}_seconds": value for name, value in seconds.items()},
        "requests": 40,
        "input_tokens": 400,
        "output_tokens": 4_000,
    }


def identity_of(pid: int) -> str:
    """What `identity` says in that process."""
    start = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return f"{place()}~{pid}~{start}"


def failure(key, **changes):
    about = {"study": "toy", "strategy": "faq", "shard": 0, "url": URL, "g": 1, "part": 0}
    return {"key": key, **about, "cause": "timeout", "detail": "no answer\0 in 5 s", **changes}


def test_an_attempts_line_is_renewed_and_keeps_when_it_began(catalog):
    catalog.record_usage("a0", **line(wall=10, paid=9, useful=7, repaid=2))
    (first,) = catalog.usage("toy")
    catalog.record_usage("a0", **line(wall=20, paid=18, useful=16, failed=2, state="done"))
    catalog.record_usage("b0", **line(study="other", wall=1, paid=1, useful=1))
    (usage,) = catalog.usage("toy")
    assert (usage["wall_seconds"], usage["useful_seconds"], usage["state"]) == (20, 16, "done")
    assert usage["started_at"] == first["started_at"] and usage["heartbeat_at"] > first["heartbeat_at"]
    assert [row["study"] for row in catalog.usage()] == ["toy", "other"]


@pytest.mark.parametrize(
    "seconds",
    [
        {"wall": 100, "paid": 90, "useful": 90, "idle": 12},
        {"wall": 100, "paid": 90, "useful": 80, "failed": 8},
        {"wall": 100, "paid": 100, "useful": 110, "repaid": -10},
    ],
)
def test_seconds_that_do_not_add_up_to_one_percent_are_refused(catalog, seconds):
    with pytest.raises(LakeError, match="study toy, shard 0: engine seconds do not add up: wall 100.00"):
        catalog.record_usage("a0", **line(**seconds))
    assert catalog.usage() == []
    catalog.record_usage("a0", **line(wall=100, paid=90.5, useful=90, idle=10))


def test_an_attempt_is_dead_when_its_process_is_or_when_it_is_silent(catalog):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    theirs = identity_of(child.pid)
    catalog.record_usage("mine", **line(worker=identity()))
    catalog.record_usage("theirs", **line(worker=theirs))
    catalog.record_usage("elsewhere", **line(worker="other~1234~1~7~7"))
    catalog.record_usage("another shard", **line(shard=1, worker=theirs))

    def states():
        return {row["attempt"]: row["state"] for row in catalog.usage("toy")}

    catalog.close_dead("toy", 0, older_than_s=60)
    assert set(states().values()) == {"running"}
    child.kill()
    child.wait()
    catalog.close_dead("toy", 0, older_than_s=60)
    assert states() == {"mine": "running", "theirs": "dead", "elsewhere": "running", "another shard": "running"}
    catalog.close_dead("toy", 0, older_than_s=0)
    assert states() == {"mine": "dead", "theirs": "dead", "elsewhere": "dead", "another shard": "running"}


def test_failed_requests_are_counted_until_they_have_a_text(catalog):
    catalog.record_failures([failure("k1"), failure("k0", study="other")])
    catalog.record_failures([failure("k1", cause="server_crash", detail=None)])
    catalog.record_failures([failure("k1", cause="timeout"), failure("k2", detail="x" * 9_000)], tried=False)
    two, one = sorted(catalog.failed_requests("toy"), key=lambda row: row["key"], reverse=True)
    assert (one["tries"], one["cause"], one["detail"]) == (2, "server_crash", None)
    assert one["first_at"] < one["last_at"]
    assert (two["tries"], len(two["detail"])) == (1, 2_000)
    assert catalog.failed_requests("other")[0]["detail"] == "no answer\ufffd in 5 s"
    assert catalog.failed_requests("toy", limit=1) == [two]
    catalog.forget_failures(["k1", "k0", "unknown"])
    assert [row["key"] for row in catalog.failed_requests()] == ["k2"]


def test_a_lease_has_one_holder_until_it_is_given_back_or_over(catalog):
    me, you = "here~1~1~1~1/a", "there~1~1~1~1/b"
    assert catalog.take_leases({"1", "2"}, me, 30) == {"1", "2"}
    assert catalog.take_leases({"2", "3"}, you, 30) == {"3"}
    assert catalog.take_leases({"1", "2", "3"}, me, 0.2) == {"1", "2"}
    time.sleep(0.3)
    with catalog.keep_leases({"1", "2"}, me, 0.2) as kept:  # over, but nobody has taken them
        assert kept == {"1", "2"}
    time.sleep(0.3)
    assert catalog.take_leases({"1"}, you, 30) == {"1"}
    with catalog.keep_leases({"1", "2"}, me, 30) as kept:
        assert kept == {"2"}
    catalog.release_leases({"1", "2"}, me)
    assert catalog.take_leases({"1", "2"}, you, 30) == {"1", "2"}
    assert catalog.take_leases({"1"}, me, 30) == set()


def test_what_a_dead_process_of_this_machine_held_is_free_at_once(catalog):
    dead = identity().rsplit("~", 1)[0] + "~1/a"  # this process's number, another start
    catalog.take_leases({"1"}, dead, 3600)
    catalog.take_leases({"2"}, f"{identity()}/b", 3600)
    assert catalog.take_leases({"1", "2"}, "there~1~1~1~1/c", 30) == {"1"}


def test_nobody_takes_a_lease_while_its_holder_writes_under_it(catalog):
    """Also one that is over: the write ends first, and whoever comes then finds it renewed."""
    me, you = "here~1~1~1~1/a", "there~1~1~1~1/b"
    catalog.take_leases({"1"}, me, 0.0)
    other = Catalog(catalog.engine.url.render_as_string(hide_password=False))
    found = []
    taker = threading.Thread(target=lambda: found.append(other.take_leases({"1"}, you, 30)))
    with catalog.keep_leases({"1"}, me, 30) as kept:
        assert kept == {"1"}
        taker.start()
        time.sleep(0.3)
    taker.join()
    assert found == [set()]
    other.close()


def test_engine_seconds_of_before_are_taken_over(catalog):
    catalog.migrate("0001")
    row = "('toy', 3, 'recorded', 9, 6, 1, 40, '2026-10-03 12:00:00+00:00')"
    columns = "(study, shard, engine, paid_seconds, useful_seconds, repaid_seconds, requests, recorded_at)"
    with catalog.engine.begin() as connection:
        connection.execute(text(f"insert into engine_usage {columns} values {row}"))
    catalog.migrate()
    (usage,) = catalog.usage("toy")
    assert (usage["wall_seconds"], usage["failed_seconds"], usage["idle_seconds"]) == (9, 2, 0)
    assert (usage["state"], usage["requests"], usage["started_at"].day) == ("done", 40, 3)
    catalog.migrate("0001")
    with catalog.engine.begin() as connection:
        assert connection.execute(text("select paid_seconds, requests from engine_usage")).all() == [(9, 40)]


def test_tables_are_made_where_they_are_missing_or_old(catalog):
    for revision in ("base", "0001"):
        catalog.migrate(revision)
        catalog.ready()
        assert catalog.failed_requests() == []
    newest = sorted(Path(store.MIGRATIONS, "versions").glob("0*.py"))[-1]
    assert newest.name.startswith(f"{store.HEAD}_")
    catalog.ready()


def test_two_processes_migrating_and_recording_at_once_both_succeed(catalog, world, lake):
    catalog.migrate("base")
    catalog.close()
    url = catalog.engine.url.render_as_string(hide_password=False)
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        for run in [pool.submit(_record_often, url, lake.root, shard) for shard in range(4)]:
            run.result(timeout=120)
    assert len(catalog.usage("toy")) == 4 * 20
    assert len(tables(catalog)["dataset_versions"]) == len(world)


def _record_often(url: str, root: str, shard: int) -> None:
    catalog, lake = Catalog(url), Lake(root)
    catalog.migrate()
    for number in range(20):
        catalog.record_usage(f"{shard}/{number}", **line(shard=shard, wall=1, paid=1, useful=1))
        catalog.record_failures([failure(f"k{n}") for n in range(number, -1, -1)])
        catalog.record(*lake.all_latest())


def test_an_unknown_version_is_an_error_that_says_what_to_do(catalog):
    with pytest.raises(NotPublished, match="studies/none/x is not in the catalog.*palimpsest sync"):
        catalog.lineage_up("studies/none/x")


def test_a_catalog_without_tables_says_how_to_make_them(state):
    with pytest.raises(LakeError, match="has no tables yet.*palimpsest sync"):
        Catalog.from_env().training_runs("toy")


def test_a_database_that_is_down_is_weather_and_its_password_stays_secret():
    with pytest.raises(ConnectionError, match="PALIMPSEST_CATALOG") as failure:
        Catalog("postgresql+psycopg2://catalog:hush@127.0.0.1:1/catalog").migrate()
    assert "hush" not in str(failure.value)


def test_trace_finds_everything_made_of_a_page(world, lake):
    found = trace_url(lake, URL)
    corpus, study = found["corpora"]["garden"], found["studies"]["toy"]
    assert [(p["page_id"], p["warc_file"]) for p in corpus["pages"]] == [("p0", "garden.warc.gz")]
    assert corpus["documents"][0]["uri"] == world["documents"].uri
    assert study["part"] == "train"
    assert [g["generation_id"] for g in study["generations"]["rephrase"]] == ["g0", "g1"]
    assert [(m["layout"], m["position"]) for m in study["megadocs"]] == [
        ("real", 0),
        ("simple", 0),
        ("simple", 1),
        ("simple", 2),
    ]


def test_trace_counts_only_the_part_of_a_stream_that_a_mix_uses(world, lake):
    mixes = trace_url(lake, URL)["studies"]["toy"]["mixes"]
    assert [(m["recipe"], m["layout"], m["megadocs"]) for m in mixes] == [
        ("capped", "real", 1),
        ("capped", "simple", 2),
        ("real", "real", 1),
    ]


def test_trace_tells_validation_dropped_and_quarantined_pages_apart(world, lake):
    held = trace_url(lake, HELD)["studies"]["toy"]
    assert (held["part"], held["generations"], held["megadocs"], held["mixes"]) == ("validation", {}, [], [])
    dropped = trace_url(lake, OTHER)
    assert dropped["studies"] == {}
    assert dropped["corpora"]["garden"]["dropped"][0]["reason"] == "near_duplicate"
    assert trace_url(lake, ENDLESS)["corpora"]["garden"]["quarantine"][0]["cause"] == "too_deep"


@pytest.mark.parametrize("url", ["https://garden.example/none", "' or 1=1 --", "", "\0"])
def test_trace_of_an_unknown_url_is_a_clear_error(world, lake, url):
    with pytest.raises(LakeError, match="no page in lake"):
        trace_url(lake, url)
