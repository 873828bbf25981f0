"""The extraction profiles: what structure survives, which text is chosen when, and what the pages say of the choice."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import logging
from collections import Counter

import pyarrow.parquet as pq
import pytest
from resiliparse.parse.html import HTMLTree

from palimpsest.config import Corpus, DocumentRules, Extraction, Source
from palimpsest.documents import build_documents
from palimpsest.ingest import datatrove, extract, markdown, pages, scores
from palimpsest.ingest.profiles import Candidates, choose
from palimpsest.ingest.stage import extract_days

DAY = dt.date(2026, 10, 1)
SENTENCE = "The harbour wall was finished in the spring of that year, and the boats came in one by one. "
STRUCTURED = f"""<html><head><title>Ports</title></head><body><nav><a href="/">Home</a></nav><main><article>
<h1>Harbours &amp; walls</h1><p>{SENTENCE * 3}</p><h2>What it took</h2>
<ol><li>{SENTENCE}</li><li>Stones from the quarry, and {SENTENCE}</li></ol>
<ul><li>The bell of the old wall: {SENTENCE}<ul><li>rung for each boat, because {SENTENCE}</li></ul></li></ul>
<pre><code>def depth(tide):
    return tide &lt; 2
</code></pre>
<table><tr><th>Star</th><th>Magnitude</th></tr><tr><td>Vega</td><td>0.0</td></tr></table><p>{SENTENCE * 2}</p>
</article></main></body></html>"""


PARAGRAPHS = {
    "Arden": "Farmers who lost their fields to the sea built the first wall of stone.",
    "Brill": "A second one was paid for by monks, and nobody knows how much it cost them.",
    "Corby": "Iron rings that smiths have hammered into these rocks still hold small boats.",
    "Dunmore": "When the pilots moved south, their houses were taken down and sold to be rebuilt.",
    "Eastry": "The lamp on this pier burned oil until somebody thought of gas in 1871.",
    "Fowey": "Nets dry here from May to August with weights of lead along every edge.",
    "Girvan": "Its basin fills at high water and lies empty for half of each day.",
    "Hythe": "Coopers made barrels in long sheds behind it, and salt came by cart.",
    "Inver": "What remains is a row of posts that divers count again each spring.",
}
HEADED = "".join(
    f"<h{level}>{town}</h{level}><p>{text}</p>"
    for level, (town, text) in zip([2, 3, 4] * 3, PARAGRAPHS.items(), strict=True)
)
MARKED = f"""<html><head><title>Ports</title></head><body><main><article><h1>Ports</h1>{HEADED}
<ol><li>Stones from the old quarry behind the church.</li><li>Ropes from the long shed.</li></ol>
<pre><code># how deep it is
def depth(tide):
    return tide
</code></pre><p>{SENTENCE}</p>
<table><tr><th>Port</th><th>Boats</th></tr><tr><td>Arden</td><td>#12</td></tr></table></article></main></body></html>"""
SAID = (
    "Ports\n\n"
    + "\n\n".join(f"{town}\n\n{text}" for town, text in PARAGRAPHS.items())
    + "\n\nStones from the old quarry behind the church.\nRopes from the long shed.\n\n"
    + f"# how deep it is\ndef depth(tide):\n    return tide\n\n{SENTENCE.strip()}\n\nPort\t\tBoats\nArden\t\t#12"
)
"""What the page says, without the marks of a profile."""


def found_on(page: str, profile: str):
    return choose(Candidates(page, HTMLTree.parse(page)), profile)


@pytest.mark.parametrize("extractor", ["resiliparse", "whole_page", "trafilatura"])
def test_headings_lists_code_and_tables_keep_their_form(extractor):
    text, words = Candidates(STRUCTURED, HTMLTree.parse(STRUCTURED))[extractor]
    lines = extract.table_cells(text).split("\n")
    assert "# Harbours & walls" in lines
    assert "## What it took" in lines
    assert lines.index("Star | Magnitude") + 1 == lines.index("Vega | 0.0")
    code = lines.index("def depth(tide):")
    assert (lines[code - 1], lines[code + 1], lines[code + 2]) == ("```", "    return tide < 2", "```")
    assert any(line.startswith("1. The harbour") for line in lines)
    assert any(line.startswith("2. Stones") for line in lines)
    if extractor != "resiliparse":  # which takes a list in a list for a menu
        assert any(line.startswith("- The bell") for line in lines)
        assert any(line.startswith("  - rung for each") for line in lines)
    assert words == len(text.split())


def test_justext_marks_headings_and_items():
    text, _ = Candidates(STRUCTURED, HTMLTree.parse(STRUCTURED))["justext"]
    assert f"- {('The bell of the old wall: ' + SENTENCE).strip()}" in text.split("\n")
    assert "Home" not in text


def test_an_article_without_much_around_it_is_resiliparses_and_nobody_else_is_asked():
    page = f"<html><body><main><article><p>{'</p><p>'.join([SENTENCE * 4] * 8)}</p></article></main></body></html>"
    for profile, asked in (("fast", {"resiliparse"}), ("best", {"resiliparse", "whole_page"})):
        found = found_on(page, profile)
        assert (found.extractor, set(found.words)) == ("resiliparse", asked)
        assert found.text.count("harbour wall") == 32


def test_where_resiliparse_finds_nothing_usable_the_others_do():
    # a page whose whole text stands in what looks like a sidebar
    page = f"<html><body><div class='sidebar'><p>{'</p><p>'.join([SENTENCE * 4] * 8)}</p></div></body></html>"
    fast, best = found_on(page, "fast"), found_on(page, "best")
    assert fast.words["resiliparse"] == 0
    assert fast.extractor == "whole_page"
    assert fast.text.count("harbour wall") == 32
    assert best.extractor in ("trafilatura", "justext", "whole_page")
    assert best.text.count("harbour wall") == 32
    assert set(best.words) == {"resiliparse", "whole_page", "trafilatura", "justext"}


def test_what_a_forum_hides_in_noscript_is_found():
    page = (
        f"<html><body><div id='app'></div><noscript><div>{f'<p>{SENTENCE * 4}</p>' * 5}</div></noscript></body></html>"
    )
    for profile in ("fast", "best"):
        assert found_on(page, profile).text.count("harbour wall") == 20


def test_an_empty_page_is_empty_in_every_profile():
    for page in ("", "<html></html>", "<html><body><script>var a = 1</script></body></html>"):
        for profile in ("fast", "best"):
            assert found_on(page, profile).text == ""


def test_columns_say_who_was_chosen_and_what_the_others_found(lake, write_warc, make_corpus, response):
    pages = {"https://a.example/structured": STRUCTURED, "https://a.example/plain": f"<p>{SENTENCE * 9}</p>"}
    warc = write_warc([response(url, page.encode()) for url, page in pages.items()])
    plain = make_corpus(warc)
    versions = {}
    for profile in ("resiliparse", "fast", "best"):
        corpus = plain.model_copy(update={"extraction": Extraction(profile=profile)})
        (versions[profile],) = extract_days(corpus, [DAY], lake)
    assert len({version.uri for version in versions.values()}) == 3
    assert "extractor" not in pq.read_schema(versions["resiliparse"].file("pages.parquet")).names
    assert "extraction" not in versions["resiliparse"].manifest["config"]
    for profile in ("fast", "best"):
        rows = pq.read_table(versions[profile].file("pages.parquet")).to_pylist()
        assert [row["url"] for row in rows] == list(pages)
        for row in rows:
            assert row[f"{row['extractor']}_words"] is not None
            assert row["resiliparse_words"] is not None
        assert "Vega | 0.0" in rows[0]["text"]
        assert rows[0]["table_rows"] == 2
    logging.getLogger("trafilatura").setLevel(logging.NOTSET)


def test_rules_measure_a_text_without_the_marks_of_its_profile():
    found = pages.examine(MARKED.encode(), "utf-8", 5, profile="fast", definitions="datatrove")
    lines = found["text"].split("\n")
    assert {"# Ports", "## Arden", "### Brill", "#### Corby", "2. Ropes from the long shed.", "```"} <= set(lines)
    figures = scores.score(SAID) | datatrove.measure(extract.table_cells(SAID))
    assert {name: found[name] for name in figures} == figures


def test_marks_are_taken_where_the_profiles_write_them_and_nowhere_else():
    text = "## Costs\n\nIssue #4 - 2. of 3\n  - nested\n-\n-5 degrees\n1.5 m\n#tag\n\n```\n# a\n- b\n```\n\n#\tTeam"
    said = "Costs\n\nIssue #4 - 2. of 3\nnested\n-5 degrees\n1.5 m\n#tag\n\n# a\n- b\n\n#\tTeam"
    assert markdown.unmarked(text) == said
    assert markdown.unmarked(said.replace("# a\n- b\n\n", "")) == said.replace("# a\n- b\n\n", "")
    assert markdown.unmarked("1.\n-") == "1.\n-"


@pytest.mark.parametrize("definitions", ["palimpsest", "datatrove"])
def test_a_page_with_a_heading_for_each_paragraph_is_kept_in_every_profile(
    definitions, lake, write_warc, make_corpus, response
):
    # the three marks of an h3 for some fourteen words: more symbols than Gopher's rule allows, were they counted
    blocks = "".join(f"<h3>{town}</h3><p>{text}</p>" for town, text in PARAGRAPHS.items())
    page = f"<html><body><main><article>{blocks}<p>{SENTENCE}</p></article></main></body></html>"
    rules = DocumentRules(definitions=definitions)
    plain = make_corpus(write_warc([response("https://a.example/ports", page.encode())]))
    for profile in ("resiliparse", "fast", "best"):
        corpus = plain.model_copy(update={"documents": rules, "extraction": Extraction(profile=profile)})
        extract_days(corpus, [DAY], lake)
        drops = pq.read_table(build_documents(corpus, lake).file("document_drops.parquet")).to_pylist()
        assert [(row["rule"], row["value"]) for row in drops] == []


def of_crawl(records: str) -> Source:
    crawl = {"crawls": ["CC-MAIN-2024-22"], "segments": {"count": 1}, "records": records}
    return Source(kind="commoncrawl", commoncrawl=crawl)


@pytest.mark.parametrize("source", [Source(kind="table", files=["a.jsonl"]), of_crawl("wet")], ids=["table", "wet"])
def test_texts_take_no_profile(source):
    asked = {"name": "rows", "description": "x", "start": DAY, "end": DAY, "extraction": Extraction(profile="best")}
    with pytest.raises(
        ValueError, match=rf"extraction\.profile is 'best', but the texts of source kind '{source.kind}'"
    ):
        Corpus(source=source, **asked)
    assert Corpus(source=of_crawl("warc"), **asked).extraction.profile == "best"


def test_profiles_beat_resiliparse_on_real_pages(shared):
    """A sample of every kind; `make bench` measures all 528 pages, beside trafilatura and jusText."""
    folder = shared / "data" / "html" / "wcxb_dev"
    if not (folder / "gold.jsonl.gz").exists():
        pytest.skip("no pages with a gold text in the shared data")
    lines = gzip.decompress((folder / "gold.jsonl.gz").read_bytes()).splitlines()
    golds = [json.loads(line) for line in lines[::40]]
    means: Counter[str] = Counter()
    for gold in golds:
        payload = gzip.decompress((folder / gold["file"]).read_bytes())
        wanted = Counter(gold["main_content"].lower().split())
        for profile in ("resiliparse", "fast", "best"):
            got = Counter(extract.extract(payload, "", profile).text.lower().split())
            means[profile] += 2 * (got & wanted).total() / (got.total() + wanted.total()) / len(golds)
    assert means["best"] > means["fast"] > means["resiliparse"]
