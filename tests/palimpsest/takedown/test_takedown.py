"""A page is taken down: what leaves the lake, what stays, and that nothing brings the page back."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from palimpsest.cli import main
from palimpsest.generate.ledger import Ledger
from palimpsest.ingest.stage import extract_days
from palimpsest.lake import LakeError, NotPublished, Rows
from palimpsest.takedown import order, tombstones
from palimpsest.takedown.find import document_id
from tests.palimpsest.conftest import document
from tests.palimpsest.takedown.conftest import COPY, COPY_URL, DAYS, URL, VICTIM, page, texts_of

WHY = "its author asked for it"


def take_down(world, name=URL, **options):
    return order.take_down(world.lake, world.catalog, name, **{"reason": WHY, **options})


def contents(world):
    return {file: file.read_bytes() for file in world.folder.joinpath("lake").rglob("*") if file.is_file()}


def test_the_page_and_all_that_was_made_of_it_leave_the_lake(world):
    before = world.traces()
    places = ("pages/2026-10-01", "pages/2026-10-02", "documents", "split", "plan", "generations", "mixes", "tokens")
    for place in places:
        assert any(f"/{place}/" in name for name in before), place
    assert any(name.startswith("ledger/") for name in before)
    assert any(name.endswith(".bin") for name in before)
    done = take_down(world)
    assert world.traces() == {}
    assert world.datasets() == [
        "corpora/sample/pages/2026-10-01", "corpora/sample/pages/2026-10-02",
        "studies/small/audits", "studies/small/report", "studies/small/runs/real-s0",
    ]  # fmt: skip
    listed = {row["uri"].rsplit("/", 1)[0] for row in done.plan.removed}
    assert listed == {
        "corpora/sample/documents", "corpora/sample/gate", "studies/small/split", "studies/small/plan",
        "studies/small/generations", "studies/small/mixes", "studies/small/tokens",
    }  # fmt: skip
    assert tombstones.details(world.lake.open(done.receipt))["removed"] == done.plan.removed
    with pytest.raises(NotPublished, match="run the stage that makes it first"):
        world.lake.latest("studies/small/split")


def test_the_other_pages_and_what_the_ledger_has_of_them_stay(world):
    def held():
        names = {row["url"] for day in DAYS for row in rows(world, day, "pages")}
        texts = Ledger(world.lake).read()
        return names, dict(zip(texts["key"].to_pylist(), texts["text"].to_pylist(), strict=True))

    (names, texts) = held()
    done = take_down(world)
    (left, kept) = held()
    assert left == names - {URL}
    assert kept == {key: text for key, text in texts.items() if key not in done.plan.keys}
    assert done.rows == len(texts) - len(kept) == len(done.plan.keys) == 9


def test_its_records_stay_counted(world):
    take_down(world)
    for day in DAYS:
        published = world.lake.latest(f"corpora/sample/pages/{day}")
        world.lake.verify(published)
        counted = published.manifest["rows"]
        Rows(**counted).check(published.dataset)
        withheld = [row for row in rows(world, day, "quarantine") if row["cause"] == "taken_down"]
        assert counted["quarantined"]["taken_down"] == len(withheld)
        assert all(row["url"] is None and row["payload"] is None for row in withheld)
        assert all(world.lake.open(row["detail"].split()[1]).extra["reason"] == WHY for row in withheld)


def test_what_cannot_unlearn_is_listed_and_removed_if_asked(world):
    done = take_down(world)
    assert [(row["uri"].rsplit("/", 1)[0], row.get("mlflow_run_id")) for row in done.plan.trained] == [
        ("studies/small/runs/real-s0", "0123abcd"), ("studies/small/report", None)
    ]  # fmt: skip


def test_models_are_removed_if_asked(world):
    done = take_down(world, models=True)
    assert done.plan.trained == []
    assert world.datasets() == [
        "corpora/sample/pages/2026-10-01", "corpora/sample/pages/2026-10-02", "studies/small/audits"
    ]  # fmt: skip


def test_an_audit_loses_only_its_answers_about_the_page(world):
    def answered():
        return pq.read_table(world.lake.latest("studies/small/audits").file("audit.parquet"))[
            "generation_id"
        ].to_pylist()

    before = answered()
    done = take_down(world)
    gone = set(before) & set(done.plan.keys)
    assert gone
    assert answered() == [name for name in before if name not in gone]
    told = world.lake.latest("studies/small/audits").extra
    assert sum(told["audited"].values()) == len(before) - len(gone)
    assert told["by"] == "Ada Lovelace"


def test_a_dry_run_lists_the_same_and_changes_nothing(world):
    before = contents(world)
    tried = take_down(world, dry_run=True)
    assert contents(world) == before
    done = take_down(world)
    assert (tried.plan.removed, tried.plan.rewritten) == (done.plan.removed, done.plan.rewritten)
    assert set(tried.plan.keys) == set(done.plan.keys)


def test_a_page_that_nobody_knows_is_an_error_and_leaves_no_trace(world):
    before = contents(world)
    for name in ("https://site0.example/page/33", "https://site0.example/page/", "0123456789abcdef"):
        with pytest.raises(LakeError, match="address"):
            take_down(world, name)
    with pytest.raises(LakeError, match="say why it is taken down"):
        take_down(world, reason=" ")
    assert contents(world) == before


def test_taking_it_down_twice_does_nothing_more(world):
    take_down(world)
    before = contents(world)
    done = take_down(world, reason="asked again")
    assert done.plan.is_empty
    assert not done.receipt
    assert contents(world) == before
    assert order.sweep(world.lake, world.catalog).plan.is_empty
    assert contents(world) == before


@pytest.mark.parametrize("kind", ["page_id", "document_id", "generation_id"])
def test_a_page_goes_by_any_of_its_ids(world, kind):
    if kind == "page_id":
        (name,) = {row["page_id"] for row in rows(world, DAYS[1], "pages") if row["url"] == URL}
    elif kind == "document_id":
        name = document_id(URL)
    else:
        table = pq.read_table(world.lake.latest("studies/small/generations").file("generations.parquet")).to_pylist()
        name = next(row["generation_id"] for row in table if row["document_id"] == document_id(URL))
    assert take_down(world, name, dry_run=True).urls == [URL]
    take_down(world, name)
    assert world.traces() == {}
    assert take_down(world, name).plan.is_empty


def test_a_later_capture_does_not_bring_it_back(world):
    take_down(world)
    world.warc(page(VICTIM, 1, " Changed since."), page(VICTIM + 1, 1, " New."), name="later.warc.gz")
    for day in extract_days(world.corpus, DAYS, world.lake):
        pages = pq.read_table(day.file("pages.parquet"))["url"].to_pylist()
        assert URL not in pages
        assert document(VICTIM + 1)["url"] in pages or day.dataset.endswith(str(DAYS[0]))
    assert world.traces() == {}
    assert day.manifest["rows"]["quarantined"]["taken_down"] == 3


def test_a_day_without_the_page_is_the_day_extracted_anew(world):
    take_down(world)
    rewritten = [world.lake.latest(f"corpora/sample/pages/{day}").manifest for day in DAYS]
    for manifest in rewritten:
        world.lake.fs.rm(f"{world.lake.base}/{manifest['dataset']}", recursive=True)
    assert [day.manifest for day in extract_days(world.corpus, DAYS, world.lake)] == rewritten


def test_a_page_that_is_taken_down_while_it_is_extracted_is_not_published(world):
    for day in DAYS:
        world.lake.fs.rm(f"{world.lake.base}/corpora/sample/pages/{day}", recursive=True)

    def meanwhile(done: int, total: int) -> None:
        tombstones.put(world.lake, [URL], WHY, {})

    with pytest.raises(ConnectionError, match="taken down meanwhile"):
        extract_days(world.corpus, DAYS, world.lake, meanwhile)
    with pytest.raises(NotPublished):
        world.lake.latest(f"corpora/sample/pages/{DAYS[0]}")


def test_copies_of_it_are_named_and_go_if_asked(world):
    assert take_down(world, dry_run=True).plan.copies == [COPY_URL]
    done = take_down(world, copies=True)
    assert done.urls == sorted([URL, COPY_URL])
    assert not any(f"page/{COPY}" in text for name, text in texts_of(world.folder / "lake") if "takedowns" not in name)


def test_a_page_that_no_document_was_made_of_touches_no_study(world):
    done = take_down(world, COPY_URL)
    assert {row["uri"].split("/")[2] for row in done.plan.removed} == {"documents", "gate"}
    assert done.plan.trained == []
    assert "studies/small/tokens" in world.datasets()


def test_the_catalog_forgets_it_too(world):
    catalog = world.catalog
    catalog.migrate()
    catalog.sync(world.lake)
    asked = {"study": "small", "strategy": "rephrase", "shard": 0, "g": 0, "part": 0, "cause": "x", "detail": ""}
    catalog.record_failures([asked | {"key": "of it", "url": URL}, asked | {"key": "of another", "url": COPY_URL}])
    assert catalog.quarantined(URL)
    take_down(world)
    assert catalog.quarantined(URL) == []
    assert [row["key"] for row in catalog.failed_requests()] == ["of another"]
    assert len(catalog.training_runs("small")) == 1


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


def rows(world, day, table):
    return pq.read_table(world.lake.latest(f"corpora/sample/pages/{day}").file(f"{table}.parquet")).to_pylist()
