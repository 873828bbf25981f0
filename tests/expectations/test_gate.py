from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pyarrow.parquet as pq
import pytest

from expectations.gate import gate_documents, gate_study
from expectations.verdicts import GateFailed, data_docs_dir
from palimpsest.lake import REPOSITORY, Lake, LakeError, NotPublished
from tests.expectations.conftest import TRAIN, VALIDATION


def study_gate(world, found):
    return gate_study(world.study, world.lake, **{k: found[k] for k in ("split", "generations", "mixes")})


def gate(world, found, what: str):
    return (
        study_gate(world, found)
        if what == "study"
        else gate_documents(world.corpus, world.lake, documents=found["documents"])
    )


def broken(verdict) -> set[str]:
    content = json.loads(verdict.file("verdict.json").read_text())
    return {v["expectation"] for v in content["verdicts"] if not v["success"]}


def change(table: str, spoil):
    """Spoil one table in place: ``spoil`` gets its rows, and may return others."""
    return lambda name, rows: (spoil(rows) or rows) if name == table else rows


def put(rows: list[dict], numbers, **values):
    """Set columns of some rows; a callable value is called with the row."""
    for i in numbers:
        rows[i].update({k: v(rows[i]) if callable(v) else v for k, v in values.items()})


def validation_words(count: int, start: int = 5) -> str:
    return " ".join(VALIDATION[0]["text"].split()[start : start + count])


def without_its_real_stream(rows: list[dict]) -> list[dict]:
    """The stitched recipe, trained on its synthetic stream alone."""
    put(rows, [2], sequences=168)
    return [rows[0], rows[2]]


DOCUMENT_DEFECTS = {
    "a page is neither kept nor dropped": (change("documents", lambda rows: rows[1:]), {"row_balances_add_up"}),
    "a column is gone": (
        change("documents", lambda rows: [{k: v for k, v in r.items() if k != "language"} for r in rows]),
        {"tables_have_their_columns"},
    ),
    "a column has another type": (
        change("documents", lambda rows: put(rows, range(12), words=lambda r: str(r["words"]))),
        {"tables_have_their_columns"},
    ),
    "a document is empty": (change("documents", lambda rows: put(rows, [0], text=" \n")), {"documents_have_text"}),
    "documents are too short": (
        change("documents", lambda rows: put(rows, [0, 1], words=9)),
        {"few_documents_are_short"},
    ),
    "documents are too long": (
        change("documents", lambda rows: put(rows, [0, 1], words=10**6)),
        {"few_documents_are_long"},
    ),
    "a document is in another language": (
        change("documents", lambda rows: put(rows, [3], language="fr")),
        {"documents_are_in_the_corpus_language"},
    ),
    "a document repeats another": (
        change("documents", lambda rows: put(rows, [3], text_sha256=rows[4]["text_sha256"])),
        {"documents_differ_from_each_other"},
    ),
    "a drop has no reason": (
        change("document_drops", lambda rows: put(rows, [0], reason=None)),
        {"drops_have_reasons"},
    ),
}

STUDY_DEFECTS = {
    "a generation was lost": (
        change("generations", lambda rows: rows[1:]),
        {"row_balances_add_up", "layouts_hold_every_generation"},
    ),
    "a generation has another's key": (
        change("generations", lambda rows: put(rows, [1], g=0)),
        {"every_row_has_its_own_key"},
    ),
    "tokens are text": (
        change("generations", lambda rows: put(rows, range(18), tokens="75")),
        {"tables_have_their_columns"},
    ),
    "a generation is of a validation document": (
        change("generations", lambda rows: put(rows, [0], document_id=_validation_id())),
        {"generations_are_not_of_validation_documents"},
    ),
    "a generation is of an unknown document": (
        change("generations", lambda rows: put(rows, [0], document_id="0" * 16)),
        {"generations_are_planned"},
    ),
    "a generation is empty": (change("generations", lambda rows: put(rows, [0], text="")), {"generations_have_text"}),
    "generations were cut off": (
        change("generations", lambda rows: put(rows, [0, 1], truncated=True)),
        {"generations_are_rarely_cut_off"},
    ),
    "a generation repeats another in capitals": (
        change("generations", lambda rows: put(rows, [0], text="  " + rows[1]["text"].upper().replace(" ", "\n"))),
        {"generations_rarely_repeat_each_other"},
    ),
    "generations copy their source": (
        change("generations", lambda rows: put(rows, [0, 2, 4], text=lambda r: _source(r) + " And so on, and on.")),
        {"generations_are_rarely_copies_of_their_source"},
    ),
    "a megadoc holds a run of a validation document": (
        change("megadoc_parts", lambda rows: put(rows, [9], text=lambda r: r["text"] + " " + validation_words(13))),
        {"megadocs_share_no_text_with_validation"},
    ),
    "the run is disguised by capitals and commas": (
        change(
            "megadoc_parts",
            lambda rows: put(rows, [9], text=lambda r: r["text"] + validation_words(13).title().replace(" ", ",\n")),
        ),
        {"megadocs_share_no_text_with_validation"},
    ),
    "a megadoc part belongs to a validation document": (
        change("megadoc_parts", lambda rows: put(rows, [9], document_id=_validation_id())),
        {"megadocs_hold_no_validation_document"},
    ),
    "a megadoc part belongs to nobody": (
        change("megadoc_parts", lambda rows: put(rows, [9], document_id="0" * 16)),
        {"megadocs_are_of_training_documents"},
    ),
    "a megadoc counts its tokens wrong": (
        change("megadocs", lambda rows: put(rows, [9], real_tokens=0)),
        {"megadocs_equal_their_parts"},
    ),
    "a layout is absent": (
        lambda table, rows: [r for r in rows if r["layout"] != "stitched"] if table.startswith("megadoc") else rows,
        {
            "layouts_have_megadocs",
            "layouts_hold_every_generation",
            "layouts_hold_every_document",
            "streams_hold_the_tokens_the_mix_states",
        },
    ),
    "a mix has no real stream": (
        change("mixes", without_its_real_stream),
        {"recipes_have_real_text", "mixes_have_enough_real_text"},
    ),
    "a mix is absent": (
        change("mixes", lambda rows: rows[:1]),
        {"recipes_have_real_text", "mixes_have_enough_real_text"},
    ),
    "a stream goes unused": (
        change("mixes", lambda rows: put(rows, [1, 2], stream_sequences=lambda r: 224 * (r["layout"] == "real"))),
        {"streams_are_used"},
    ),
    "a mix states too many tokens": (
        change("mixes", lambda rows: put(rows, [2], stream_tokens=10**6)),
        {"streams_hold_the_tokens_the_mix_states"},
    ),
}


def _validation_id() -> str:
    return VALIDATION[0]["document_id"]


def _source(generation: dict) -> str:
    return next(d["text"] for d in TRAIN if d["document_id"] == generation["document_id"])


@pytest.mark.parametrize("what", ["documents", "study"])
def test_good_data_passes_and_its_verdict_is_published(world, what):
    found = world.publish()
    verdict = gate(world, found, what)
    assert verdict.extra["success"]
    assert verdict.extra["warnings"] == []
    assert broken(verdict) == set()
    assert found["documents" if what == "documents" else "mixes"].digest in {
        p["digest"] for p in verdict.manifest["parents"]
    }
    assert pq.read_table(verdict.file("verdicts.parquet")).num_rows >= 10
    assert pq.read_table(verdict.file("profiles/tables.parquet")).num_rows == (2 if what == "documents" else 6)


@pytest.mark.parametrize(
    ("what", "spoil", "expected"),
    [("documents", *d) for d in DOCUMENT_DEFECTS.values()] + [("study", *d) for d in STUDY_DEFECTS.values()],
    ids=[*DOCUMENT_DEFECTS, *STUDY_DEFECTS],
)
def test_a_defect_fails_its_own_expectations_and_blocks(world, what, spoil, expected):
    found = world.publish(spoil)
    with pytest.raises(GateFailed):
        gate(world, found, what)
    dataset = "corpora/garden/gate" if what == "documents" else "studies/toy/gate"
    assert broken(world.lake.latest(f"{dataset}_failed")) == expected
    with pytest.raises(NotPublished):
        world.lake.latest(dataset)


def test_a_run_shorter_than_the_studys_is_no_leak(world):
    spoil = change("megadoc_parts", lambda rows: put(rows, [9], text=lambda r: r["text"] + " " + validation_words(12)))
    assert study_gate(world, world.publish(spoil)).extra["success"]


@pytest.mark.parametrize(
    ("gates", "expected"),
    [
        ({"max_synthetic_share": 0.45}, {"mixes_are_not_too_synthetic"}),
        ({"max_synthetic_share": 0.46}, set()),
        ({"min_real_tokens": 910}, {"mixes_have_enough_real_text"}),
        ({"min_real_tokens": 909}, set()),
    ],
    ids=str,
)
def test_thresholds_come_from_the_study(world, gates, expected):
    """The stitched mix takes 3/4 of its sequences from a stream that is 152/253 synthetic: 45.06%; 909 real tokens."""
    world.study = world.study.model_copy(update={"gates": world.study.gates.model_copy(update=gates)})
    found = world.publish()
    if expected:
        with pytest.raises(GateFailed):
            study_gate(world, found)
        assert broken(world.lake.latest("studies/toy/gate_failed")) == expected
    else:
        assert study_gate(world, found).extra["success"]


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (change("generations", lambda rows: put(rows, range(18), note="x")), "tables_have_no_other_columns"),
        (
            change(
                "generations", lambda rows: put(rows, range(18), text=lambda r: r["generation_id"].replace("-", ""))
            ),
            "few_generations_are_much_shorter_than_their_source",
        ),
    ],
    ids=["an extra column", "one-word generations"],
)
def test_a_warning_is_shown_and_does_not_block(world, caplog, spoil, expected):
    verdict = study_gate(world, world.publish(spoil))
    assert verdict.extra["success"]
    assert broken(verdict) == {expected}
    assert [w["expectation"] for w in verdict.extra["warnings"]] == [expected]
    assert verdict.extra["warnings"][0]["sentence"] in caplog.text


def test_a_rule_switched_off_for_the_corpus_is_not_asked_for(world):
    rules = world.corpus.documents.model_copy(update={"disabled": ["language.expected"]})
    world.corpus = world.corpus.model_copy(update={"documents": rules})
    found = world.publish(change("documents", lambda rows: put(rows, [3], language="fr")))
    assert gate(world, found, "documents").extra["success"]


def test_a_file_that_lost_rows_after_publishing_is_found(world):
    found = world.publish()
    file = found["split"].file("train.parquet")
    pq.write_table(pq.read_table(file).slice(1), file)
    with pytest.raises(GateFailed, match="8 rows found, 9 stated"):
        study_gate(world, found)


def test_a_dataset_without_its_table_is_named(world):
    found = world.publish()
    with pytest.raises(LakeError, match=r"studies/toy/split/\w+ holds no generations.parquet; run the stage"):
        gate_study(world.study, world.lake, split=found["split"], generations=found["split"], mixes=found["mixes"])


def test_the_message_is_a_table_that_names_the_offender_and_what_to_do(world):
    defect, _ = STUDY_DEFECTS["a megadoc holds a run of a validation document"]
    with pytest.raises(GateFailed) as failure:
        study_gate(world, world.publish(defect))
    message = str(failure.value)
    flat = " ".join(message.split())
    assert "1 critical expectation does not hold" in message
    assert "suite" in message
    assert "observed" in message
    assert "megadocs" in message
    assert "garden.example/page-9" in message
    assert "'gates' in dags/studies/toy.yaml" in flat
    assert max(map(len, message.splitlines()[:-3])) <= 130
    page = next(line for line in message.splitlines() if line.startswith("Data Docs: ")).removeprefix("Data Docs: ")
    content = (data_docs_dir() / page).read_text()
    assert "No megadoc part shares a long run of words with a validation document" in content


def test_data_docs_link_pages_by_suite_and_need_no_network(world):
    verdict = study_gate(world, world.publish())
    for suite in ("tables", "balances", "generations", "megadocs", "mixes"):
        page = data_docs_dir() / verdict.extra["pages"][suite]
        assert f"studies.toy.gate.{suite}" in page.read_text()
        assert "://" not in page.read_text().replace("https://garden.example", "")
    index = (data_docs_dir() / "index.html").read_text()
    assert "://" not in index
    assert verdict.extra["data_docs"] in index


def test_a_served_site_is_linked_by_its_url(world, monkeypatch):
    monkeypatch.setenv("PALIMPSEST_DATA_DOCS_URL", "http://docs.example/gates/")
    with pytest.raises(GateFailed, match="Data Docs: http://docs.example/gates/validations/"):
        study_gate(world, world.publish(change("generations", lambda rows: put(rows, [0], text=""))))


def test_an_unchanged_gate_is_not_run_again(world):
    found = world.publish()
    first = study_gate(world, found)
    (data_docs_dir() / "index.html").unlink()
    assert study_gate(world, found).uri == first.uri
    assert not (data_docs_dir() / "index.html").exists()


def test_two_gates_at_once_both_pass_and_are_both_in_the_index(world):
    found = world.publish()
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        runs = [pool.submit(_extra, world, found, what) for what in ("documents", "study")]
        extras = [run.result(timeout=200) for run in runs]
    index = (data_docs_dir() / "index.html").read_text()
    assert all(page in index for extra in extras for page in extra["pages"].values())


def _extra(world, found, what: str) -> dict:
    return dict(gate(world, found, what).extra)


def test_importing_the_gate_does_not_import_great_expectations():
    code = "import sys, expectations.gate; sys.exit('great_expectations' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, env={"PYTHONPATH": "plugins:."}).returncode == 0


def test_the_command_line_gates_the_latest_version(lake: Lake, capsys):
    from expectations.__main__ import main

    assert main(["documents", "sample"]) == 1
    assert "corpora/sample/documents has never been published" in capsys.readouterr().err
