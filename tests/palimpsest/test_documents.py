"""The sample's pages end as its gold decisions say, and no page is ever lost."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter

import pyarrow.parquet as pq
import pytest

from palimpsest import comparisons, decontamination, warehouse
from palimpsest.config import DocumentRules, load_corpus
from palimpsest.documents import CHANGES, SELECT, build_documents
from palimpsest.ingest.stage import extract_days
from palimpsest.lake import Lake, LakeError, NotPublished

DAYS = [dt.date(2026, 10, d) for d in range(1, 29)]


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """The sample corpus, extracted and built once: lake, corpus, published documents."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PALIMPSEST_STATE", str(tmp_path_factory.mktemp("state")))
        lake = Lake(tmp_path_factory.mktemp("sample-lake"))
        corpus = load_corpus("sample")
        extract_days(corpus, DAYS, lake)
        yield lake, corpus, build_documents(corpus, lake)


@pytest.fixture(scope="module")
def documents(sample):
    return {r["url"]: r for r in pq.read_table(sample[2].file("documents.parquet")).to_pylist()}


@pytest.fixture(scope="module")
def drops(sample):
    return {r["url"]: r for r in pq.read_table(sample[2].file("document_drops.parquet")).to_pylist()}


@pytest.fixture(scope="module")
def gold(shared):
    lines = (shared / "sample" / "pages.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["url"]: row for row in map(json.loads, lines)}


def page(documents, ending):
    return next(row["text"] for url, row in documents.items() if url.endswith(ending))


def f1(ours: str, theirs: str) -> float:
    a, b = Counter(ours.split()), Counter(theirs.split())
    return 2 * sum((a & b).values()) / (a.total() + b.total())


def test_all_92_pages_end_as_expected(documents, drops, gold):
    assert len(gold) == 92
    decided = {url: "kept" if url in documents else drops[url]["reason"] for url in gold}
    expected = {url: "kept" if row["expected"].startswith("kept") else row["expected"] for url, row in gold.items()}
    assert decided == expected
    splits = Counter(gold[url]["split"] for url in documents)
    assert splits == {"train": 60, "val": 20, "bad": 3}


def test_duplicates_name_the_page_kept_in_their_place(drops, gold):
    named = {url: row["duplicate_of"] for url, row in drops.items() if row["duplicate_of"]}
    assert named == {url: row["of"] for url, row in gold.items() if row["of"]}


def test_every_drop_says_which_rule_what_was_measured_and_what_was_asked(drops):
    assert {row["rule"] for row in drops.values()} == {
        "gopher_quality.min_words",
        "gopher_quality.symbol_ratio",
        "gopher_repetition.top_2gram",
        "c4.lorem_ipsum",
        "c4.policy_lines",
        "fineweb.lines_punctuated",
        "language.expected",
        "duplicates.exact",
        "duplicates.near",
    }
    near = next(row for row in drops.values() if row["reason"] == "near_duplicate")
    assert near["value"] == pytest.approx(0.77, abs=0.005)
    assert near["threshold"] == DocumentRules().near_duplicate_jaccard
    assert all(row["value"] is not None and row["threshold"] is not None for row in drops.values())


def test_the_text_is_the_gold_text(documents, gold):
    altered = {"kept_repaired", "kept_redacted"}
    scores = {
        url: f1(row["text"], gold[url]["text"])
        for url, row in documents.items()
        if gold[url]["expected"] not in altered
    }
    assert min(scores.values()) > 0.97, min(scores, key=scores.get)
    assert sum(scores.values()) / len(scores) > 0.995


def test_furniture_is_gone(documents):
    for text in (row["text"] for row in documents.values()):
        assert "Comments are" not in text
        assert not text.startswith("Home")


def test_the_broken_page_is_repaired_and_a_page_about_mojibake_is_not(documents, gold):
    fixed = page(documents, "/fog-drinkers")
    assert fixed.startswith("The Naturalist’s Café: Fog on the Cape")
    assert "15 °C" in fixed
    assert not {"Ã", "Â", "â"} & set(fixed)
    assert "you see Ã©" in page(documents, "/field-guide-mojibake")


def test_personal_data_is_redacted_and_nothing_else(documents):
    text = page(documents, "/volunteer-shore-survey")
    assert [text.count(mark) for mark in ("<EMAIL>", "<PHONE>", "<IP>")] == [3, 2, 2]
    assert not [mark for mark in ("@", "960571", "555-0143", "203.0.113", "198.51.100") if mark in text]
    others = "".join(row["text"] for url, row in documents.items() if not url.endswith("/volunteer-shore-survey"))
    assert not [mark for mark in ("<EMAIL>", "<PHONE>", "<IP>") if mark in others]


def test_the_table_is_kept_row_by_row(documents):
    lines = page(documents, "/forty-bright-stars").split("\n")
    assert sum(" | " in line for line in lines) == 41
    assert "Rigil Kentaurus | Centaurus | −0.3" in lines


def test_rows_add_up_and_the_funnel_is_in_the_manifest(sample):
    _, _, published = sample
    rows = published.manifest["rows"]
    assert (rows["input"], rows["kept"], sum(rows["dropped"].values())) == (92, 83, 9)
    funnel = published.extra["funnel"]
    assert (funnel["days"], funnel["responses"], funnel["pages"], funnel["documents"]) == (28, 92, 92, 83)
    assert (funnel["sites"], sum(funnel["dropped"].values()), funnel["quarantined"]) == (5, 9, {})
    assert len(published.manifest["parents"]) == 28


def test_the_funnel_of_each_day_is_a_table(sample, documents, drops):
    lake, _, published = sample
    rows = pq.read_table(published.file("document_funnel.parquet")).to_pylist()
    for day in lake.children("corpora/sample/pages"):
        counted = sum(row["pages"] for row in rows if row["day"].isoformat() == day.extra["day"])
        assert counted == day.manifest["rows"]["input"], day.dataset
    of = Counter()
    for row in rows:
        of[row["outcome"], row["reason"], row["rule"]] += row["pages"]
    dropped = Counter(("dropped", row["reason"], row["rule"]) for row in drops.values())
    assert of == dropped + Counter({("document", "", ""): len(documents)})
    kept = [row for row in rows if row["outcome"] == "document"]
    assert sum(row["words"] for row in kept) == published.extra["funnel"]["words"]
    assert sum(row["characters"] for row in kept) == sum(len(row["text"]) for row in documents.values())


def test_unchanged_days_are_a_no_op_and_a_new_threshold_is_a_new_version(sample):
    lake, corpus, published = sample
    assert build_documents(corpus, lake).uri == published.uri
    strict = corpus.model_copy(update={"documents": DocumentRules(min_words=300, disabled=["duplicates.near"])})
    changed = build_documents(strict, lake)
    assert changed.uri != published.uri
    reasons = changed.manifest["rows"]["dropped"]
    assert reasons["too_short"] > 1
    assert "near_duplicate" not in reasons
    assert changed.manifest["rows"]["input"] == 92


def test_intervals_in_any_order_give_the_same_bytes(sample, tmp_path):
    """Also with a build in between, whose later days had superseded and duplicated what comes after it."""
    lake, corpus, published = sample
    again = Lake(tmp_path / "again")
    for days in (DAYS[20:], DAYS[7:14], DAYS[:7] + DAYS[14:20]):
        extract_days(corpus, days, again)
        between = build_documents(corpus, again) if days[0] == DAYS[20] else None
        assert between is None or between.digest != published.digest
    assert build_documents(corpus, again).digest == published.digest


@pytest.mark.parametrize("language", ["en", "de"])
def test_an_unknown_rule_to_disable_is_refused(sample, language):
    lake, corpus, _ = sample
    rules = DocumentRules(language=language, disabled=["c4.sentences", "gopher.lines"])
    wrong = corpus.model_copy(update={"documents": rules})
    with pytest.raises(LakeError, match="documents.disabled: 'gopher.lines' is no rule; the rules are gopher_quality"):
        build_documents(wrong, lake)


def test_no_published_day_is_an_error_with_the_command_to_run(lake):
    with pytest.raises(NotPublished, match="no published day .* python -m palimpsest ingest sample"):
        build_documents(load_corpus("sample"), lake)


def test_the_unit_tests_of_the_corpus_models_pass(sample, tmp_path):
    lake, corpus, _ = sample
    inputs = {"pages": [day.file("pages.parquet") for day in lake.children("corpora/sample/pages")]}
    inputs["quarantine"] = [day.file("quarantine.parquet") for day in lake.children("corpora/sample/pages")]
    inputs["overlaps"] = decontamination.none_found(tmp_path)
    inputs["comparisons"] = comparisons.none_known(tmp_path)
    rules = {"rules": DocumentRules().model_dump(), "corpus": corpus.name, "origin": corpus.origin}
    select = f"{SELECT} +{CHANGES}"
    results = warehouse.build(select, inputs=inputs, variables=rules, out=tmp_path, unit_tests=True)
    tested = [result for result in results if result.kind == "unit_test"]
    assert len(tested) >= 10
    assert all(result.status == "pass" for result in tested)
