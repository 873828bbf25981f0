from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from palimpsest.catalog import Catalog, trace_url
from palimpsest.catalog.tables import Base
from palimpsest.lake import Facts, Lake, LakeError, NotPublished, Published, Rows

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
    catalog.migrate("base")
    catalog.migrate()
    yield catalog
    catalog.migrate("base")
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
    catalog.record_usage("toy", 0, "vllm", paid=10, useful=7, repaid=2, requests=40)
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


def test_throughput_adds_up_by_engine(catalog):
    for shard in (0, 1):
        catalog.record_usage("toy", shard, "vllm", paid=10.5, useful=7, repaid=2, requests=40)
    catalog.record_usage("other", 0, "vllm", paid=1, useful=1, repaid=0, requests=1)
    (usage,) = catalog.usage("toy")
    assert usage == {"engine": "vllm", "paid_seconds": 21, "useful_seconds": 14, "repaid_seconds": 4, "requests": 80}


def test_two_processes_migrating_and_recording_at_once_both_succeed(catalog, world, lake):
    catalog.migrate("base")
    catalog.close()
    url = catalog.engine.url.render_as_string(hide_password=False)
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        for run in [pool.submit(_record_often, url, lake.root, shard) for shard in range(4)]:
            run.result(timeout=120)
    assert catalog.usage("toy")[0]["requests"] == 4 * 20
    assert len(tables(catalog)["dataset_versions"]) == len(world)


def _record_often(url: str, root: str, shard: int) -> None:
    catalog, lake = Catalog(url), Lake(root)
    catalog.migrate()
    for _ in range(20):
        catalog.record_usage("toy", shard, "vllm", paid=1, useful=1, repaid=0, requests=1)
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
