"""What the guard makes of texts: those of a word trigram that samples, and of one that seeks its mode."""

from __future__ import annotations

import datetime as dt
import re

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from expectations.guard.history import KEPT, publish_history
from expectations.guard.texts import judge_texts
from expectations.guard.waivers import Waived
from palimpsest import warehouse
from palimpsest.config import Engine, load_study
from palimpsest.guard.corpus import cpython_documents
from palimpsest.guard.tokens import Vocabulary
from palimpsest.guard.trigram import Trigram
from palimpsest.lake import Facts, Lake

DOCUMENTS = 260


@pytest.fixture(scope="module")
def texts():
    """Real and held-out documents of CPython, and as much text of a trigram of the real ones, drawn in two ways."""
    chosen = cpython_documents()[::9][:DOCUMENTS]
    vocabulary = Vocabulary()
    encoded = [vocabulary.encode(text) for text in chosen]
    real, test = encoded[: DOCUMENTS * 4 // 5], encoded[DOCUMENTS * 4 // 5 :]
    model = Trigram(real, len(vocabulary))
    tokens = sum(map(len, real))
    written = {
        name: [vocabulary.decode(d) for d in model.sample(tokens, np.random.default_rng(0), mode_seeking=seeking)]
        for name, seeking in (("pure", False), ("mode", True))
    }
    return {name: [vocabulary.decode(d) for d in own] for name, own in (("real", real), ("test", test))} | written


def opened(real, test, written, origin="real", mix=None):
    """A database as the gate's, of these texts; the written ones go round the documents."""
    connection = duckdb.connect()
    ids = [f"{n:016x}" for n in range(len(real))]
    train = {
        "document_id": ids,
        "text": real,
        "is_reserve": False,
        "origin": origin,
        "site": "a.example",
        "corpus": "c",
    }
    own = {"document_id": [ids[n % len(ids)] for n in range(len(written))], "text": written, "strategy": "rephrase"}
    own |= {"g": [n // len(ids) for n in range(len(written))], "depth": 1, "model": "m", "generator_mix": mix}
    held_out = {"document_id": [f"v{n}" for n in range(len(test))], "text": test}
    tables = {
        "train": train,
        "validation": held_out | {"origin": "real", "site": "b.example", "corpus": "c"},
        "generations": own,
        "megadoc_parts": {"document_id": ids, "domain": [("x.example", "y.example")[n % 2] for n in range(len(ids))]},
    }
    for name, columns in tables.items():
        connection.register(name, pd.DataFrame(columns))
    return connection


def study_of(engine: str = "vllm", kind: str = "rephrase"):
    study = load_study("demo")
    made = {"kind": kind, "engine": Engine.model_construct(kind=engine, server="s")}
    strategies = {"rephrase": study.strategies["rephrase"].model_copy(update=made)}
    return study.model_copy(update={"strategies": strategies})


def judged(texts, kind: str, engine: str = "vllm", documents: int = DOCUMENTS, extra: tuple[str, ...] = ()):
    connection = opened(texts["real"][:documents], texts["test"], [*texts[kind][:documents], *extra])
    return judge_texts(connection, study_of(engine), Lake("/nowhere"))


def outcomes(found) -> dict[str, set[str]]:
    told: dict[str, set[str]] = {}
    for verdict in found.verdicts:
        told.setdefault(verdict.gate, set()).add(verdict.outcome)
    return told


def test_sampled_text_passes_and_text_of_the_mode_fails(texts):
    pure, mode = judged(texts, "pure"), judged(texts, "mode")
    assert outcomes(pure)["G7"] == {"passed"}
    assert [v.outcome for v in pure.verdicts if v.gate == "G8" and "in domain" not in v.subject] == ["passed"]
    assert "failed" in outcomes(mode)["G8"]
    (worst,) = [v for v in mode.verdicts if v.gate == "G8" and "in domain" in v.subject]
    assert Waived("G8", worst.details["domain"], None, "Ada", "we compare", dt.date(2099, 1, 1)).covers(worst)
    assert Waived("G8", "rephrase", None, "Ada", "we compare", dt.date(2099, 1, 1)).covers(worst)
    assert worst.sentence.startswith("synthetic rephrases of strategy rephrase in domain ")
    assert re.search(
        "keep ..% of the rare words that (sampling alone|real text of the same size) would", worst.sentence
    )
    figures = {row["metric"]: row["value"] for row in pure.measures}
    other = {row["metric"]: row["value"] for row in mode.measures}
    assert other["entropy"] < figures["entropy"]
    assert other["rare_recall"] < figures["rare_recall"]
    assert other["probe_ratio"] > figures["probe_ratio"] > 1
    assert {"auc", "mmd", "vendi", "self_bleu", "novel_5grams", "tail_mass"} <= figures.keys()


def test_recorded_text_is_warned_of_and_augmentation_is_not_judged(texts):
    assert "failed" in outcomes(judged(texts, "mode", documents=90))["G8"]
    assert "failed" not in outcomes(judged(texts, "mode", "recorded", documents=90))["G8"]
    connection = opened(texts["real"], texts["test"], texts["mode"])
    assert judge_texts(connection, study_of(kind="augment"), Lake("/nowhere")).verdicts == []


@pytest.mark.parametrize("kind", ["rephrase", "self"])
def test_text_of_a_generator_that_learned_from_more_than_the_sample_is_not_taken_for_a_gain(
    texts, kind, lake, monkeypatch
):
    train = pa.table({"text": texts["real"], "origin": ["real"] * len(texts["real"])})
    split = lake.publish("studies/t/split", lambda folder: pq.write_table(train, folder / "train.parquet") or Facts())
    mix = lake.publish("studies/t/mixes", lambda folder: Facts(), parents=[split])

    def outcomes_at(sample: int, uri: str) -> dict[str, set[str]]:
        monkeypatch.setattr("expectations.guard.texts.SAMPLE", sample)
        connection = opened(texts["real"], texts["test"], texts["pure"], mix=uri)
        found = judge_texts(connection, study_of(kind=kind), lake)
        return outcomes(found)

    whole = outcomes_at(12_000_000, mix.uri)
    assert whole["G7"] == {"passed"} and "not_judged" not in whole["G8"]
    part = outcomes_at(sum(map(len, texts["real"])) // 2, mix.uri)
    assert part["G7"] == {"not_judged"}
    assert (part["G8"] == {"not_judged"}) == (kind == "self")
    assert outcomes_at(12_000_000, "file:///gone/mix")["G7"] == {"not_judged"}


def test_a_run_of_a_held_out_text_fails_beyond_the_sample_too(texts, monkeypatch):
    monkeypatch.setattr("expectations.guard.texts.AT_A_TIME", 7)
    quoted = " ".join(max(texts["test"], key=len).split()[:40])
    monkeypatch.setattr("expectations.guard.texts.SAMPLE", sum(map(len, texts["real"][:50])))
    found = judged(texts, "pure", documents=50, extra=(quoted,))
    (verdict,) = [v for v in found.verdicts if v.measure == "held_out_runs"]
    assert verdict.outcome == "failed"
    assert verdict.details["held_out"] == len(texts["test"])
    assert "share 13 words in a row with held-out text" in verdict.sentence


@pytest.mark.parametrize(
    "written", [[""], ["one"], ["the same words again and again"] * 40], ids=["empty", "one", "equal"]
)
def test_bad_input_gives_a_named_verdict(texts, written):
    found = judge_texts(opened(texts["real"][:50], texts["test"][:5], written), study_of(), Lake("/nowhere"))
    assert {"G7", "G8", "G9", "G10"} <= outcomes(found).keys()
    assert all(v.sentence and (v.value is None or np.isfinite(v.value)) for v in found.verdicts)


def test_documents_of_unknown_origin_are_told_by_a_detector(texts, monkeypatch):
    connection = opened(texts["real"][:90], texts["test"], texts["mode"][:90])
    rows = connection.execute("select * from train").df()
    unknown = pd.DataFrame(
        {"document_id": ["u1", "u2"], "text": [texts["mode"][-1], texts["real"][-1]], "origin": "unknown"}
    )
    connection.register("train", pd.concat([rows, unknown.assign(is_reserve=False, site="a.example", corpus="c")]))
    monkeypatch.setattr("expectations.guard.texts.AT_A_TIME", 1)
    scores = judge_texts(connection, study_of(), Lake("/nowhere")).detector.set_index("document_id")["generated"]
    assert scores["u1"] > scores["u2"]


def test_text_over_documents_of_unknown_origin_is_judged_for_what_it_repeats_and_the_rest_is_named(texts):
    copies = [texts["pure"][0]] * 30
    alone = judge_texts(opened(texts["real"][:90], texts["test"], copies, origin="unknown"), study_of(), Lake("/none"))
    told = {(v.gate, v.measure): v.outcome for v in alone.verdicts}
    assert outcomes(alone)["G7"] == outcomes(alone)["G8"] == {"not_judged"}
    assert told["G9", "entropy"] == told["G10", "near_duplicates_of_real"] == "not_judged"
    assert told["G10", "near_duplicates"] == "failed"
    assert any("origin: unknown" in v.sentence for v in alone.verdicts if v.gate == "G8")
    both = opened(texts["real"][:90], texts["test"], [*texts["pure"][:80], *copies])
    rows = both.execute("select * from train").df()
    rows.loc[rows.index >= 80, "origin"] = "unknown"
    both.register("train", rows)
    some = judge_texts(both, study_of(), Lake("/none"))
    (repeated,) = [v for v in some.verdicts if v.measure == "near_duplicates"]
    assert repeated.details["documents"] > 100, "those over unknown documents too"


def test_the_history_tells_what_moved_from_interval_to_interval(world):
    def publish(day: str, entropy: float) -> None:
        row = {"strategy": "rephrase", "generator": "m", "metric": "entropy", "value": entropy}

        def write(directory):
            (directory / "profiles").mkdir()
            table = pa.Table.from_pylist([row | {"real_mean": 8.8, "real_sd": 0.1}])
            pq.write_table(table, directory / "profiles" / "guard_measures.parquet")
            return Facts(extra={"data_until": day})

        world.lake.publish("studies/toy/gate", write, config={"day": day})

    publish("2026-10-01", 8.8)
    assert publish_history(world.study, world.lake).extra["drifts"] == []
    publish("2026-10-02", 7.9)
    history = publish_history(world.study, world.lake)
    (said,) = history.extra["drifts"]
    assert said == "entropy of strategy rephrase moved from 8.8 to 7.9 by 2026-10-02, 9.0 deviations of real text"
    rows = pq.read_table(history.file("guard_metrics.parquet")).to_pylist()
    assert [(row["data_until"], row["drifts"]) for row in rows] == [
        (dt.date(2026, 10, 1), False),
        (dt.date(2026, 10, 2), True),
    ]


def test_the_unit_tests_of_the_guards_models_pass(state, tmp_path):
    row = {"strategy": "r", "generator": "m", "metric": "entropy", "value": 8.8, "real_mean": 8.8, "real_sd": 0.1}
    rows = [row | {"data_until": dt.date(2026, 10, 1), "version": "a", "version_number": 0}]
    pq.write_table(pa.Table.from_pylist(rows, KEPT), tmp_path / "measures.parquet")
    inputs, guard = {"guard_measures": tmp_path / "measures.parquet"}, {"guard": {"drift_max": 6.0}}
    results = warehouse.build("path:models/guard", inputs=inputs, variables=guard, out=tmp_path, unit_tests=True)
    assert [result.status for result in results if result.kind == "unit_test"] == ["pass"] * 2
