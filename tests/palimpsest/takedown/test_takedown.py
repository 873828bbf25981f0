"""A page is taken down: what leaves the lake, what stays, and that nothing brings the page back."""

from __future__ import annotations

import re
import shutil

import pyarrow.parquet as pq
import pytest

from palimpsest.cli import main
from palimpsest.config import Source
from palimpsest.generate.ledger import Ledger
from palimpsest.ingest.stage import extract_days
from palimpsest.lake import Lake, LakeError, NotPublished, Rows
from palimpsest.takedown import order, tombstones
from palimpsest.takedown.find import document_id, resolve
from tests.palimpsest.conftest import document
from tests.palimpsest.takedown.conftest import (
    COPY,
    COPY_URL,
    DAYS,
    TRACES,
    URL,
    VICTIM,
    WHY,
    datasets,
    page,
    take_down,
    texts_of,
    traces,
)

PAGES = [f"corpora/sample/pages/{day}" for day in DAYS]


def rows(lake, dataset, table):
    return pq.read_table(lake.latest(dataset).file(f"{table}.parquet")).to_pylist()


def contents(lake):
    return dict(texts_of(lake))


def of(listed):
    return {row["uri"].rsplit("/", 1)[0] for row in listed}


def test_the_page_and_all_that_was_made_of_it_leave_the_lake(taken):
    before, done = traces(taken.before), taken.done
    for place in (
        "pages/2026-10-01",
        "pages/2026-10-02",
        "documents",
        "split",
        "plan",
        "generations",
        "mixes",
        "tokens",
    ):
        assert any(f"/{place}/" in name for name in before), place
    assert any(name.startswith("ledger/") for name in before)
    assert any(name.endswith(".bin") for name in before)
    assert traces(taken.world.lake) == {}
    assert datasets(taken.world.lake) == [
        *PAGES, "studies/small/audits", "studies/small/report", "studies/small/runs/real-s0"
    ]  # fmt: skip
    assert of(done.plan.removed) == {"corpora/sample/documents", "corpora/sample/gate"} | {
        f"studies/small/{stage}" for stage in ("split", "plan", "generations", "mixes", "tokens")
    }
    assert tombstones.details(taken.world.lake.open(done.receipt))["removed"] == done.plan.removed
    with pytest.raises(NotPublished, match="run the stage that makes it first"):
        taken.world.lake.latest("studies/small/split")


def test_the_other_pages_and_what_the_ledger_has_of_them_stay(taken):
    for dataset in PAGES:
        before = [row["url"] for row in rows(taken.before, dataset, "pages")]
        assert [row["url"] for row in rows(taken.world.lake, dataset, "pages")] == [u for u in before if u != URL]
    before, after = Ledger(taken.before).read().to_pylist(), Ledger(taken.world.lake).read().to_pylist()
    assert after == [row for row in before if row["key"] not in taken.done.plan.keys]
    assert taken.done.rows == len(before) - len(after) == len(taken.done.plan.keys) == 9


def test_its_records_stay_counted(taken):
    for dataset in PAGES:
        published = taken.world.lake.latest(dataset)
        taken.world.lake.verify(published)
        counted = published.manifest["rows"]
        Rows(**counted).check(dataset)
        assert counted["input"] == taken.before.latest(dataset).manifest["rows"]["input"]
        withheld = [row for row in rows(taken.world.lake, dataset, "quarantine") if row["cause"] == "taken_down"]
        assert counted["quarantined"] == {"taken_down": len(withheld)}
        assert all(row["url"] is None and row["payload"] is None for row in withheld)
        assert all(taken.world.lake.open(row["detail"].split()[1]).extra["reason"] == WHY for row in withheld)


def test_what_cannot_unlearn_is_listed(taken):
    assert [(row["uri"].rsplit("/", 1)[0], row.get("mlflow_run_id")) for row in taken.done.plan.trained] == [
        ("studies/small/runs/real-s0", "0123abcd"), ("studies/small/report", None)
    ]  # fmt: skip


def test_an_audit_loses_only_its_answers_about_the_page(taken):
    before, after = (rows(lake, "studies/small/audits", "audit") for lake in (taken.before, taken.world.lake))
    assert after == [row for row in before if row["generation_id"] not in taken.done.plan.keys]
    assert 0 < len(after) < len(before)
    told = taken.world.lake.latest("studies/small/audits").extra
    assert (sum(told["audited"].values()), told["by"]) == (len(after), "Ada Lovelace")


def test_the_catalog_forgets_it_too(taken):
    catalog = taken.world.catalog
    assert catalog.quarantined(URL) == []
    assert [row["key"] for row in catalog.failed_requests()] == ["of another"]
    assert len(catalog.training_runs("small")) == 1


def test_taking_it_down_twice_does_nothing_more(taken):
    before = contents(taken.world.lake)
    for done in (take_down(taken.world, reason="asked again"), order.sweep(taken.world.lake, taken.world.catalog)):
        assert done.plan.is_empty
        assert not done.receipt
    assert contents(taken.world.lake) == before


def test_a_page_goes_by_any_of_its_ids(taken):
    (page_id,) = {row["page_id"] for row in rows(taken.before, PAGES[1], "pages") if row["url"] == URL}
    made = rows(taken.before, "studies/small/generations", "generations")
    generation_id = next(row["generation_id"] for row in made if row["document_id"] == document_id(URL))
    for name in (page_id, document_id(URL), generation_id):
        assert resolve(taken.before, name) == URL
        assert resolve(taken.world.lake, name) == URL  # known from its order
    assert resolve(taken.before, URL.replace("://", "://me:word@")) == URL


def test_a_later_capture_does_not_bring_it_back_and_a_day_done_again_is_the_same(taken, world):
    shutil.rmtree(world.lake.base)
    shutil.copytree(taken.world.lake.base, world.lake.base)
    rewritten = [world.lake.latest(dataset).manifest for dataset in PAGES]
    for dataset in PAGES:
        shutil.rmtree(f"{world.lake.base}/{dataset}")
    assert [day.manifest for day in extract_days(world.corpus, DAYS, world.lake)] == rewritten
    world.warc(page(VICTIM, 1, " Changed since."), page(VICTIM + 1, 1, " New."), name="later.warc.gz")
    *_, day = extract_days(world.corpus, DAYS, world.lake)
    assert document(VICTIM + 1)["url"] in [row["url"] for row in rows(world.lake, PAGES[1], "pages")]
    assert day.manifest["rows"]["quarantined"] == {"taken_down": 3}
    assert traces(world.lake) == {}


def test_the_bytes_of_a_damaged_stretch_go_too_for_it_may_hold_the_page(world):
    """That of a file without compression, in which the beginning of the page's record is broken."""
    broken = page(VICTIM).replace(b"WARC/", b"XARC/", 1)
    (world.folder / "damaged.warc").write_bytes(page(VICTIM + 2) + broken + page(VICTIM + 4) + page(VICTIM + 6))
    source = Source(files=["$PALIMPSEST_DATA/*.warc.gz", "$PALIMPSEST_DATA/damaged.warc"], damaged="quarantine")
    corpus = world.corpus.model_copy(update={"source": source})
    extract_days(corpus, DAYS, world.lake)

    def stretches():
        found = rows(world.lake, PAGES[0], "quarantine")
        return [row["payload"] for row in found if row["cause"] == "damaged"]

    assert any(re.search(TRACES.pattern.encode(), payload) for payload in stretches())
    take_down(world)
    assert traces(world.lake) == {}
    assert stretches() == [None] * len(stretches()) != []
    rewritten = world.lake.latest(PAGES[0]).manifest
    shutil.rmtree(f"{world.lake.base}/{PAGES[0]}")
    extract_days(corpus, DAYS, world.lake)
    assert world.lake.latest(PAGES[0]).manifest == rewritten
    assert "its bytes are not kept: a page has been taken down" in str(rows(world.lake, PAGES[0], "quarantine"))


def test_a_page_that_is_taken_down_while_it_is_extracted_is_not_published(world):
    shutil.rmtree(f"{world.lake.base}/corpora/sample/pages")

    def meanwhile(done: int, total: int) -> None:
        tombstones.put(world.lake, [URL], WHY, {})

    with pytest.raises(ConnectionError, match="taken down meanwhile"):
        extract_days(world.corpus, DAYS, world.lake, meanwhile)
    with pytest.raises(NotPublished):
        world.lake.latest(PAGES[0])


def test_a_dry_run_lists_the_same_and_changes_nothing_nor_does_a_page_that_nobody_knows(taken, world):
    before = contents(world.lake)
    tried = take_down(world, dry_run=True)
    assert (tried.plan.removed, tried.plan.rewritten) == (taken.done.plan.removed, taken.done.plan.rewritten)
    assert (tried.plan.copies, set(tried.plan.keys)) == ([COPY_URL], set(taken.done.plan.keys))
    for name in ("https://site0.example/page/33", "https://site0.example/page/", "0123456789abcdef"):
        with pytest.raises(LakeError, match="address"):
            take_down(world, name)
    with pytest.raises(LakeError, match="say in a few words why it is taken down"):
        take_down(world, reason=" ")
    dropped = take_down(world, COPY_URL, dry_run=True)  # no document was made of it
    assert of(dropped.plan.removed) == {"corpora/sample/documents", "corpora/sample/gate"}
    assert dropped.plan.trained == []
    assert contents(world.lake) == before


def test_copies_and_models_go_if_asked(world):
    done = take_down(world, copies=True, models=True)
    assert done.urls == sorted([URL, COPY_URL])
    assert done.plan.trained == done.plan.copies == []
    assert datasets(world.lake) == [*PAGES, "studies/small/audits"]
    assert not any(f"page/{COPY}" in text for name, text in texts_of(world.lake) if "takedowns" not in name)


def test_the_command_tells_what_it_did(world, capsys):
    assert main(["takedown", URL, "--reason", WHY, "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert f"would take down: {URL}\n" in told
    assert "would remove studies/small/tokens/" in told
    assert main(["takedown", URL, "--reason", WHY]) == 0
    told = capsys.readouterr().out
    for line in (
        "removed 9 rows of the generation ledger", "MLflow run 0123abcd", "make again: Dag study_small",
        f"has the same text or nearly (--copies takes it down too): {COPY_URL}", "not removed: source file ",
    ):  # fmt: skip
        assert line in told
    assert main(["takedown"]) == 0
    assert "nothing else of it is in the lake" in capsys.readouterr().out
    assert main(["takedown", "https://nowhere.example/", "--reason", WHY]) == 1
    assert traces(Lake(world.lake.root)) == {}
