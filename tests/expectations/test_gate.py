from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from expectations.gate import gate_documents, gate_study
from expectations.measure import SQL
from expectations.overlap import source_overlaps
from expectations.verdicts import GateFailed, data_docs_dir
from palimpsest import lake as lakes
from palimpsest.generate.review import DEFECTS
from palimpsest.generate.review.facts import NEAR_COPY_WORDS, Facts, overlap
from palimpsest.lake import REPOSITORY, Lake, LakeError, NotPublished
from tests.conftest import GARDEN
from tests.expectations.defects import DOCUMENT_DEFECTS, STUDY_DEFECTS, change, put, validation_words


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
    assert pq.read_table(verdict.file("profiles/tables.parquet")).num_rows == (2 if what == "documents" else 8)


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
        ({"min_faithfulness": 0.76}, {"generations_are_faithful_to_their_source"}),
        ({"min_faithfulness": 0.75}, set()),
        ({"max_dropped_share": 0.052}, {"generations_are_rarely_dropped"}),
        ({"max_dropped_share": 0.053}, set()),
    ],
    ids=str,
)
def test_thresholds_come_from_the_study(world, gates, expected):
    """The stitched mix takes 3/4 of its sequences from a stream that is 152/253 synthetic: 45.06%; 909 real tokens.

    Every generation is 0.75 faithful; one of 19 is dropped for a refusal, and none for being cut off.
    """
    world.study = world.study.model_copy(update={"gates": world.study.gates.model_copy(update=gates)})
    found = world.publish()
    if expected:
        with pytest.raises(GateFailed) as failure:
            study_gate(world, found)
        assert broken(world.lake.latest("studies/toy/gate_failed")) == expected
        assert f"  gates.{next(iter(gates))}  " in str(failure.value)
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
        (
            change("generations", lambda rows: put(rows, [3], input_truncated=True)),
            "sources_are_shown_whole",
        ),
    ],
    ids=["an extra column", "one-word generations", "a source that did not fit"],
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


def test_every_threshold_of_the_study_names_a_key_that_the_study_has(world):
    from expectations import suites

    named = {rule.setting for rules in suites.study(world.study).values() for rule in rules if rule.setting}
    own = {f"gates.{key}" for key in type(world.study.gates).model_fields}
    assert named == own - {"gates.near_copy_overlap", "gates.validation_ngram"}  # how to measure, not how much


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
    assert "(none: correct the data)  No megadoc part shares a long run" in message
    assert "'gates' and 'guard' in dags/studies/toy.yaml" in flat
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


def test_the_command_line_keeps_what_the_guard_measured_over_time(world, tmp_path, monkeypatch):
    from expectations.__main__ import main

    def earlier(directory):
        row = {"strategy": "rephrase", "generator": "m", "metric": "entropy", "value": 8.8}
        (directory / "profiles").mkdir()
        table = pa.Table.from_pylist([row | {"real_mean": 8.8, "real_sd": 0.1}])
        pq.write_table(table, directory / "profiles" / "guard_measures.parquet")
        return lakes.Facts(extra={"data_until": "2026-10-01"})

    content = world.study.model_dump(mode="json", exclude={"path"}, exclude_defaults=True)
    for kind, name, text in (("STUDIES", "toy", yaml.safe_dump(content)), ("CORPORA", "garden", GARDEN)):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / f"{name}.yaml").write_text(text)
        monkeypatch.setenv(f"PALIMPSEST_{kind}", str(tmp_path / kind))
    world.publish()
    world.lake.publish("studies/toy/gate", earlier)
    assert main(["study", "toy"]) == 0
    assert pq.read_table(world.lake.latest("studies/toy/guard_metrics").file("guard_metrics.parquet")).num_rows


def test_the_profile_of_defects_says_what_became_of_each(world):
    verdict = study_gate(world, world.publish())
    rows = {row["defect"]: row for row in pq.read_table(verdict.file("profiles/defects.parquet")).to_pylist()}
    assert len(rows) == len(DEFECTS)
    counts = ("reviewed", "found", "kept", "dropped_for_it")
    assert [rows["rephrase: preamble"][name] for name in counts] == [19, 9, 9, 0]
    assert [rows["rephrase: refusal"][name] for name in counts] == [19, 1, 0, 1]
    assert [rows["rephrase: truncated"][name] for name in counts] == [19, 1, 0, 0]
    assert [rows["rephrase: loop"][name] for name in counts] == [19, 0, 0, 0]


AWKWARD = [
    "The tide rises twice a day, and the harbour_master's log-book (no. 12) says: the tide rises twice a day.",
    "Ein Zug fährt über die BRÜCKE, spät, aber er fährt; ein Zug fährt über die Brücke immer spät.",
    "日本語の文もあります。もう一つの文です。三つ目、四つ目、五つ目、六つ目の句。",
    "½ ² Ⅷ x_y 👩‍👩‍👧 e\u0301tude naïve ПРИВЕТ мир снова и снова ١٢٣ ok",
    "four words are short",
    "",
]


def test_the_review_and_the_gate_mean_the_same_by_a_near_copy(world):
    """The gate counts in SQL, the review in Python: the share of runs must be one figure."""
    source = " ".join(AWKWARD)
    texts = [*AWKWARD, source, source.upper(), source[len(source) // 3 :] + " and five words of its own"]
    connection = duckdb.connect()
    connection.execute((SQL / "macros.sql").read_text())
    connection.register("train", pd.DataFrame({"document_id": ["d"], "text": [source]}))
    connection.register("generations", pd.DataFrame({"strategy": "s", "document_id": "d", "text": texts}))
    ours = [overlap(Facts(text), Facts(source)) for text in texts]
    assert sorted(source_overlaps(connection, NEAR_COPY_WORDS)["overlap"]) == pytest.approx(sorted(ours))
    assert len(set(ours)) >= 3
