"""What a corpus has taken out of its documents beyond the usual, and that every word of it is accounted for."""

from __future__ import annotations

import datetime as dt
import json
from types import SimpleNamespace

import duckdb
import pyarrow.parquet as pq
import pytest
from jinja2 import Environment

from palimpsest import warehouse
from palimpsest.config import Cleaning, ConfigError, Corpus, DocumentRules, Source, load_corpus
from palimpsest.documents import build_documents
from palimpsest.ingest.paragraphs import languages
from palimpsest.ingest.stage import extract_days
from palimpsest.lake import LakeError

DAYS = [dt.date(2026, 10, 1), dt.date(2026, 10, 2)]
ENGLISH = "The harbour wall was finished in the spring, and the boats that had waited came in one by one, number {}."
GERMAN = "Die Hafenmauer wurde im Frühjahr fertig, und die Boote, die gewartet hatten, liefen nacheinander ein."
NOTICE = "Read all our stories about the harbour and its people in the weekly letter."
IBAN = "GB82 WEST 1234 5698 7654 32"
TEXTS = [
    f"{ENGLISH.format(1)}\n\n{NOTICE}\n\n{GERMAN}\n\nShips: Müller",
    f"{NOTICE}\n\n{ENGLISH.format(2)}\nPay {IBAN} or write to ada@harbour.example; card 4111 1111 1111 1111.",
    f"{ENGLISH.format(3)}\n{GERMAN}\n{NOTICE}",  # no blank line: every line is a paragraph
    f"{GERMAN}",
]


@pytest.fixture
def corpus(tmp_path):
    rows = [
        {"url": f"https://harbour.example/{n}", "text": text, "date": f"2026-10-0{2 - n % 2}"}
        for n, text in enumerate(TEXTS)
    ]
    file = tmp_path / "pages.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Corpus(
        name="harbour",
        description="Made for a test.",
        source=Source(kind="table", files=[str(file)], columns={"url": "{url}", "text": "text", "date": "date"}),
        start=DAYS[0],
        end=DAYS[1],
        documents=DocumentRules(disabled=["all"]),
        path=tmp_path / "harbour.yaml",
    )


def changed(corpus: Corpus, cleaning: dict, **rules) -> Corpus:
    rules = {**corpus.documents.model_dump(exclude_unset=True), **rules}
    return Corpus(**{**corpus.model_dump(), "cleaning": cleaning, "documents": rules, "path": corpus.path})


def rows_of(published, name):
    return {row["url"][-1]: row for row in pq.read_table(published.file(f"{name}.parquet")).to_pylist()}


def test_cuts_and_placeholders_are_counted_in_each_documents_row(corpus, lake):
    extract_days(corpus, DAYS, lake)
    plain = build_documents(corpus, lake)
    assert {file.name for file in plain.path.glob("*.parquet")} == {
        "document_comparisons.parquet", "document_drops.parquet", "document_funnel.parquet", "documents.parquet"
    }  # fmt: skip
    cleaning = {"personal": ["iban"], "paragraph_languages": True}
    asked = changed(corpus, cleaning, site_repeat_pages=3, drop_other_language=True)
    with pytest.raises(LakeError, match=r"2026-10-01 has no paragraph_languages, pii_iban: .* ingest harbour"):
        build_documents(asked, lake)

    extract_days(asked, DAYS, lake)
    published = build_documents(asked, lake)
    texts = {name: row["text"] for name, row in rows_of(published, "documents").items()}
    assert texts == {
        "0": f"{ENGLISH.format(1)}\n\nShips: Müller",
        # the earliest page keeps the notice
        "1": f"{NOTICE}\n\n{ENGLISH.format(2)}\nPay <IBAN> or write to <EMAIL>; card 4111 1111 1111 1111.",
        "2": ENGLISH.format(3),
        "3": "",
    }
    changes = rows_of(published, "document_changes")
    cuts = ("other_language_paragraphs_cut", "repeat_lines_cut", "site_lines_cut", "pii_iban", "pii_email", "pii_card")
    assert {name: tuple(row[cut] for cut in cuts) for name, row in changes.items()} == {
        "0": (1, 1, 0, 0, 0, None),
        "1": (0, 0, 0, 1, 1, None),
        "2": (1, 1, 0, 0, 0, None),
        "3": (1, 0, 0, 0, 0, None),
    }
    for name, row in changes.items():
        cut = row["other_language_words_cut"] + row["repeat_words_cut"]
        assert row["words_extracted"] == len(texts[name].split()) + cut == row["words"] + cut
    assert [found["language"] for found in changes["2"]["paragraph_languages"]] == ["en", "de", "en"]
    assert (changes["1"]["other_language_share"], changes["3"]["other_language_share"]) == (0, 1)
    total = published.extra["funnel"]["changes"]
    assert (total["repeat_lines_cut"], total["repeat_lines_lost"]) == (2, 0)
    assert (total["other_language_paragraphs_cut"], total["pii_iban"]) == (3, 1)
    assert "pii_card" not in total

    told = changed(corpus, {"changes": True})
    extract_days(told, DAYS, lake)
    same = build_documents(told, lake)
    assert same.file("documents.parquet").read_bytes() == plain.file("documents.parquet").read_bytes()
    assert same.extra["funnel"]["changes"]["pii_email"] == 1


def test_sql_reads_the_languages_of_a_days_pages(corpus, lake):
    days = extract_days(changed(corpus, {"paragraph_languages": True}), DAYS, lake)
    pages = [str(day.file("pages.parquet")) for day in days]
    shares = duckdb.sql(
        "select p.language, sum(p.characters)::bigint from (select unnest(paragraph_languages) as p "
        f"from read_parquet({pages})) group by all order by all"
    ).fetchall()
    assert dict(shares)["de"] == 3 * len(GERMAN)


@pytest.mark.parametrize(
    "text",
    ["", "\n", "one", "one\ntwo\n", "one\n\ntwo\nthree", "\n\n\none\n\n\n\ntwo\n\n", "é\n\n日本\n \n", "a\r\n\r\nb"],
)
def test_paragraphs_are_parted_in_sql_as_in_python_and_joined_again(text):
    """Of each the rule for the n-th is taken from the n-th of the other."""
    jinja = Environment()
    adapter = SimpleNamespace(dispatch=lambda name: getattr(macros, f"duckdb__{name}"))
    jinja.globals |= {"adapter": adapter, "return": lambda sql: sql}
    macros = jinja.from_string((warehouse.PROJECT / "macros" / "text.sql").read_text(encoding="utf-8")).module
    parted, joined = macros.paragraphs_of("$text"), macros.join_paragraphs("p", "n", macros.has_blank_lines("$text"))
    [(characters, again)] = duckdb.sql(
        f"select list(len(p) order by n), {joined} from "
        f"(select unnest({parted}) as p, generate_subscripts({parted}, 1) as n)",
        params={"text": text},
    ).fetchall()
    assert characters == [found["characters"] for found in languages(text)]
    assert again == text


def test_a_text_without_letters_is_in_no_language():
    assert [(f["language"], f["characters"]) for f in languages(f"{ENGLISH}\n\n12.5 | 13\n\n{GERMAN}\nzwei")] == [
        ("en", len(ENGLISH)),
        ("und", 9),
        ("de", len(GERMAN) + 5),
    ]
    assert [f["language"] for f in languages(f"{ENGLISH}\n{GERMAN}")] == ["en", "de"]


def test_a_rule_without_what_it_measures_is_refused(tmp_path):
    file = tmp_path / "harbour.yaml"
    text = "name: harbour\ndescription: x\nsource: {files: [a.warc.gz]}\nstart: 2026-10-01\nend: 2026-10-01\n"
    file.write_text(text + "documents: {drop_other_language: true}\n")
    with pytest.raises(ConfigError, match="drop_other_language needs .* set cleaning.paragraph_languages: true"):
        load_corpus(file)
    file.write_text(text + "cleaning: {personal: [ibann]}\n")
    with pytest.raises(ConfigError, match="cleaning.personal"):
        load_corpus(file)
    assert load_corpus("sample").cleaning == Cleaning()
