"""Figures and decisions are datatrove's: those recorded of its filters, and those its rules say of any words.

``datatrove.jsonl`` holds texts that each rule drops and texts that tempt it otherwise; tests/benchmarks/filters.py
(``record``) has written what datatrove itself decides of them, and figures that it confirmed to the last bit.
"""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palimpsest.config import Corpus, DocumentRules, Source
from palimpsest.documents import build_documents
from palimpsest.ingest import datatrove
from palimpsest.ingest.stage import extract_days
from palimpsest.lake import LakeError
from tests.benchmarks import filters

RECORDED = [
    json.loads(line) for line in Path(__file__).with_name("datatrove.jsonl").read_text(encoding="utf-8").splitlines()
]
DAY = dt.date(2026, 10, 1)


@pytest.fixture(scope="module")
def decided(tmp_path_factory):
    """The rules that drop each recorded text, by the tables of the dbt project."""
    folder = tmp_path_factory.mktemp("decided")
    texts = [row["text"] * row["times"] for row in RECORDED]
    file = filters.written(folder / "pages.parquet", texts, [datatrove.measure(text) for text in texts])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PALIMPSEST_STATE", str(folder / "state"))
        return filters.decided(file, folder)


@pytest.mark.parametrize("row", RECORDED, ids=lambda row: row["name"])
def test_figures_are_those_recorded_of_datatrove(row):
    assert datatrove.measure(row["text"] * row["times"]) == row["figures"]


@pytest.mark.parametrize(("place", "row"), enumerate(RECORDED), ids=[row["name"] for row in RECORDED])
def test_rules_in_sql_decide_as_datatrove(decided, place, row):
    assert decided[place] == set(row["dropped"])


def test_every_rule_drops_a_recorded_text():
    rules = {"gopher_quality.hashes, ellipses"} | {f"fineweb.{name}" for name in ("short_lines", "newlines_per_word")}
    rules |= {f"gopher_repetition.top_{n}gram" for n in (2, 3, 4)}
    rules |= {f"gopher_repetition.duplicate_{n}grams" for n in range(5, 11)}
    rules |= {f"gopher_repetition.duplicate_{what}" for what in ("lines", "line_characters", "paragraphs")}
    rules |= {"gopher_repetition.duplicate_paragraph_characters", "fineweb.lines_punctuated"}
    rules |= {"fineweb.duplicate_characters", "c4.lorem_ipsum", "c4.curly_brackets", "c4.sentences"}
    rules |= {f"gopher_quality.{bound}_{what}" for bound in ("min", "max") for what in ("words", "mean_word_length")}
    rules |= {f"gopher_quality.{what}" for what in ("bullet_lines", "ellipsis_lines", "alphabetic_words", "stop_words")}
    assert {rule for row in RECORDED for rule in row["dropped"]} == rules


@settings(max_examples=200)
@given(words=st.lists(st.sampled_from(["a", "aa", "b", "ab", "ba", "aba"]), min_size=1, max_size=60))
def test_shares_of_ngrams_are_those_of_gopher(words):
    """n-grams are told apart as text: with blanks between the words for the commonest, without for those repeated."""
    text = " ".join(words)
    found = datatrove.measure(text)
    for n in (2, 3, 4):
        grams = [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
        top = max(grams, key=grams.count, default="")  # the first of the commonest
        assert found[f"datatrove_top_{n}gram"] == len(top) * grams.count(top) / len(text)
    for n in range(5, 11):
        seen, place, characters = set(), 0, 0
        while place + n <= len(words):
            gram = "".join(words[place : place + n])
            characters += len(gram) * (gram in seen)
            place += n if gram in seen else 1
            seen.add(gram)
        assert found[f"datatrove_duplicate_{n}grams"] == characters / len(text)


PROSE = next(row["text"] for row in RECORDED if row["name"] == "clean prose")
TEXTS = {
    "kept": PROSE,
    "brackets": PROSE + "\nThe function { returns nothing at all }.",
    "two": "\n".join(PROSE.split("\n")[:5]) + "\nand nothing more was said of it",
}


@pytest.fixture
def corpus(tmp_path):
    file = tmp_path / "pages.jsonl"
    rows = [{"name": name, "text": text, "date": DAY.isoformat()} for name, text in TEXTS.items()]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {"url": "https://{name}.example/", "text": "text", "date": "date"}
    return Corpus(
        name="harbour",
        description="Made for a test.",
        source=Source(kind="table", files=[str(file)], columns=columns),
        start=DAY,
        end=DAY,
        documents=DocumentRules(disabled=["duplicates.near"]),
        path=tmp_path / "harbour.yaml",
    )


def asking(corpus: Corpus, **rules) -> Corpus:
    rules = DocumentRules(definitions="datatrove", disabled=["duplicates.near"], **rules)
    return corpus.model_copy(update={"documents": rules})


def dropped(published) -> dict[str, tuple]:
    rows = pq.read_table(published.file("document_drops.parquet")).to_pylist()
    return {row["url"].split("/")[2][: -len(".example")]: (row["rule"], row["value"], row["threshold"]) for row in rows}


def test_a_corpus_that_asks_for_them_is_decided_by_datatroves_figures(corpus, lake):
    extract_days(corpus, [DAY], lake)
    assert dropped(build_documents(corpus, lake)) == {}
    asked = asking(corpus, min_sentences=6)
    with pytest.raises(LakeError, match=r"2026-10-01 has no datatrove_alphabetic_words, .* asked for it \(documents"):
        build_documents(asked, lake)

    [day] = extract_days(asked, [DAY], lake)
    rows = {row["url"]: row for row in pq.read_table(day.file("pages.parquet")).to_pylist()}
    page = rows["https://brackets.example/"]
    assert {name: page[name] for name in datatrove.COLUMNS.names} == datatrove.measure(page["text"])
    assert dropped(build_documents(asked, lake)) == {
        "brackets": ("c4.curly_brackets", 1, 0),
        "two": ("c4.sentences", 5, 6),
    }
    assert dropped(build_documents(asking(corpus, min_sentences=5, max_curly_bracket_lines=1), lake)) == {}


def test_a_rule_that_datatroves_filters_do_not_have_cannot_be_switched_off(corpus, lake):
    rules = DocumentRules(definitions="datatrove", disabled=["c4.policy_lines"])
    asked = corpus.model_copy(update={"documents": rules})
    extract_days(asked, [DAY], lake)
    with pytest.raises(LakeError, match="documents.disabled: 'c4.policy_lines' is no rule; the rules are"):
        build_documents(asked, lake)


def test_without_the_key_no_page_is_measured_so(corpus, lake):
    [day] = extract_days(corpus, [DAY], lake)
    assert not {name for name in pq.read_schema(day.file("pages.parquet")).names if name.startswith("datatrove_")}
    assert "definitions" not in day.manifest["config"]


def test_what_cannot_be_decided_so_is_refused(corpus):
    with pytest.raises(ValueError, match="definitions 'datatrove' are of English, but language is 'de'"):
        DocumentRules(definitions="datatrove", language="de")
    asked = {**corpus.model_dump(), "documents": {"definitions": "datatrove"}, "limits": {"page_memory_mb": 256}}
    with pytest.raises(ValueError, match="limits.page_memory_mb must be at least 512"):
        Corpus(**asked)
    assert DocumentRules(definitions="datatrove").min_sentences == 5
    assert DocumentRules(definitions="datatrove", min_sentences=3).min_sentences == 3
