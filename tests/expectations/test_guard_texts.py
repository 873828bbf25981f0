"""What the guard makes of texts: those of a word trigram that samples, and of one that seeks its mode."""

from __future__ import annotations

import datetime as dt
import json
import re

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from expectations.guard.found import Found
from expectations.guard.history import KEPT, publish_history
from expectations.guard.probes import Probes
from expectations.guard.texts import judge_texts
from expectations.guard.trends import trends
from expectations.guard.waivers import Waived
from palimpsest import warehouse
from palimpsest.config import ConfigError, Engine, Judging, NeuralProbe, load_study
from palimpsest.guard.corpus import cpython_documents
from palimpsest.guard.learned import learned
from palimpsest.guard.texts import Texts
from palimpsest.guard.thresholds import DEFAULTS
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


def opened(real, test, written, origin="real", mix=None, dropped=()):
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
    own |= {"generation_id": [f"g{n}" for n in range(len(written))], "verdict": "accepted"}
    drops = {"document_id": [ids[n % len(ids)] for n in range(len(dropped))], "text": list(dropped), "g": 0}
    held_out = {"document_id": [f"v{n}" for n in range(len(test))], "text": test}
    tables = {
        "train": train,
        "validation": held_out | {"origin": "real", "site": "b.example", "corpus": "c"},
        "generations": own,
        "generation_drops": drops | {"strategy": "rephrase"},
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


def with_limits(**limits):
    study = study_of()
    guard = study.guard.model_copy(update={"thresholds": study.guard.thresholds.override(limits)})
    return study.model_copy(update={"guard": guard})


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
    far, near = (
        next(v for v in found.verdicts if v.measure == "entropy" and "in domain" in v.subject) for found in (mode, pure)
    )
    assert far.severity == "warning" and far.value > near.value and far.details["domain"] in far.subject
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
    null = {row["metric"]: (row["real_mean"], row["real_sd"]) for row in pure.measures}
    for metric in ("auc", "mmd", "vendi", "entropy", "self_bleu", "novel_5grams", "tail_mass"):
        assert metric in figures and null[metric][0] > 0 and null[metric][1] > 0, metric
    assert null["novel_13grams"] == (1.0, 0.0), "no half of the real texts holds 13 words of the other"
    assert (
        abs(figures["tail_mass"] / null["tail_mass"][0] - 1) < 0.2 < abs(other["tail_mass"] / figures["tail_mass"] - 1)
    )


def test_text_that_is_declared_to_be_like_real_text_stops_where_it_is_told_apart(texts):
    own = Texts(opened(texts["real"], texts["test"], texts["mode"]), study_of())

    def said(**guard):
        limits = {"thresholds": DEFAULTS.override({"classifier_auc_max": 0.6})}
        own.study = study_of().model_copy(update={"guard": own.study.guard.model_copy(update=limits | guard)})
        return next(trends(own, "rephrase/aligned", texts["mode"], "texts", Found(), "m"))

    free, declared = said(), said(in_distribution=["rephrase"])
    assert (free.outcome, declared.outcome) == ("passed", "failed")
    assert said(in_distribution="all").outcome == "failed"
    raw, null = declared.details["auc"], declared.details["null"]
    assert declared.value == pytest.approx(0.5 + raw - null)
    assert f"with an AUC of {raw:.2f}, halves of that from each other with {null:.2f}" in declared.sentence


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
        monkeypatch.setattr("palimpsest.guard.texts.SAMPLE", sample)
        connection = opened(texts["real"], texts["test"], texts["pure"], mix=uri)
        found = judge_texts(connection, study_of(kind=kind), lake)
        return outcomes(found)

    whole = outcomes_at(12_000_000, mix.uri)
    assert whole["G7"] == {"passed"} and "not_judged" not in whole["G8"]
    part = outcomes_at(sum(map(len, texts["real"])) // 2, mix.uri)
    assert part["G7"] == {"not_judged"}
    assert (part["G8"] == {"not_judged"}) == (kind == "self")
    assert outcomes_at(12_000_000, "file:///gone/mix")["G7"] == {"not_judged"}


def test_what_the_generators_before_a_generator_learned_from_is_part_of_the_real_text(texts, lake):
    half = len(texts["real"]) // 2

    def mix_of(name: str, real: list[str], learned_of: str | None):
        train = pa.table({"text": real, "origin": ["unknown"] * len(real)})
        split = lake.publish(
            f"studies/{name}/split", lambda folder: pq.write_table(train, folder / "train.parquet") or Facts()
        )
        told = {"provenance": {"rephrase": {"generator_mix": learned_of}}}
        written = lake.publish(f"studies/{name}/generations", lambda folder: Facts(), config=told)
        return lake.publish(f"studies/{name}/mixes", lambda folder: Facts(), parents=[split, written])

    first = mix_of("first", texts["real"][half:], None)
    second = mix_of("second", texts["real"][:5], first.uri)
    orphan = mix_of("orphan", texts["real"][:5], "studies/gone/mixes/0")

    def probed(uri: str):
        connection = opened(texts["real"][:half], texts["test"], texts["pure"], mix=uri)
        taught, lacking = learned(connection, lake, "rephrase")
        probes = Probes(Texts(connection, study_of()), "rephrase", "m", taught, lacking, None)
        return next(probes.additive(texts["pure"], Found()))

    own, both = probed(mix_of("third", texts["real"][:5], None).uri), probed(second.uri)
    encode = Vocabulary().encode
    assert both.details["real_tokens"] == sum(len(encode(text)) for text in dict.fromkeys(texts["real"]))
    assert both.details["real_tokens"] > own.details["real_tokens"]
    assert own.value < both.value, "what the first generator knew passed for a gain"
    lost = probed(orphan.uri)
    assert lost.outcome == "not_judged"
    assert "what a generator before theirs learned from (studies/gone/mixes/0) is no longer" in lost.sentence


def g7(texts, study, neural=None):
    connection = opened(texts["real"], texts["test"], texts["mode"])
    return list(Probes(Texts(connection, study), "rephrase", "m", [], "", neural).additive(texts["mode"], Found()))


def test_a_breach_of_g7_says_what_half_the_text_comes_to(texts):
    (failed,) = g7(texts, with_limits(probe_ngram_max=0.5, probe_domain_max=2.0))
    assert failed.outcome == "failed"
    half = failed.details["half"]
    assert half["ratio"] < failed.value and half["tokens"] == failed.details["synthetic_tokens"] // 2
    assert "with half as much of it that model is" in failed.sentence and not half["passes"]
    assert "which does not pass either" in failed.sentence and "kind: augment" in failed.details["response"]
    (passing,) = g7(texts, with_limits(probe_ngram_max=(half["ratio"] + failed.value) / 2, probe_domain_max=2.0))
    assert passing.details["half"]["passes"] and "which passes" in passing.sentence
    assert passing.details["response"] == "halve the synthetic share: f 0.375 in mix simple, f 0.375 in mix stitched"


def test_the_neural_probe_is_judged_by_its_own_limit_and_asked_for_where_it_has_not_run(texts):
    study = with_limits(probe_ngram_max=9.0)
    asked = NeuralProbe.model_validate({"model": {"layers": 1, "width": 8, "mlp": 8, "heads": 1}, "steps": 1})
    study = study.model_copy(update={"guard": study.guard.model_copy(update={"probe": asked})})
    figures = {"real_tokens": 9, "synthetic_tokens": 9, "test_tokens": 9, "alone": 50.0, "domains": {}}
    neural = {"probe": figures | {"ratios": [1.06, 1.07, 1.08]}, "half": figures | {"ratios": [1.03] * 3}}
    trigram, judged = g7(texts, study, neural)
    assert (trigram.measure, trigram.outcome) == ("probe", "passed")
    assert (judged.measure, judged.outcome, judged.limit) == ("probe_lm", "failed", 1.05)
    assert judged.sentence.startswith("a neural model that also learns synthetic rephrases of strategy rephrase is 7% ")
    assert "with half as much of it that model is 3% worse, which passes" in judged.sentence
    assert "python -m training probe demo" in g7(texts, study)[1].sentence
    assert g7(texts, study, {"why": "too few steps"})[1].outcome == "not_judged"


def test_a_review_is_held_to_a_random_choice_and_to_its_audit(texts):
    noise = [" ".join(f"{word}{n}" for word in text.split()[:60]) for n, text in enumerate(texts["mode"][:80])]

    def verdicts(dropped, audited=(), neural=None):
        connection = opened(texts["real"], texts["test"], texts["pure"][:100], dropped=dropped)
        probes = Probes(Texts(connection, study_of()), "rephrase", "m", [], "", neural)
        return {v.measure: v for v in probes.verifier(dict(audited))}

    useful = verdicts(noise, neural={"gains": [0.1, 0.2, 0.15]})
    assert useful["gain"].outcome == useful["gain_lm"].outcome == "passed"
    assert min(useful["gain"].details["gains"]) > 0
    assert "from the choices of the review of strategy rephrase than from random ones" in useful["gain"].sentence
    assert useful["precision"].outcome == "not_judged"
    assert "python -m palimpsest guard audit demo --strategy rephrase" in useful["precision"].sentence
    few = verdicts(noise[:1])["gain"]
    assert few.outcome == "not_judged" and "of the text it was shown" in few.sentence
    assert list(verdicts([])) == ["gain"]
    audited = {f"g{n}": n >= 20 for n in range(100)} | {"of another version": True}
    precise = verdicts([], audited)["precision"]
    assert precise.outcome == "not_judged" and precise.sentence.startswith("100 accepted texts")


def test_a_review_that_drops_what_teaches_more_than_it_keeps_fails(texts):
    connection = opened(texts["real"], texts["test"], texts["mode"][:120], dropped=texts["test"])
    probes = Probes(Texts(connection, study_of()), "rephrase", "m", [], "", None)
    gain = next(probes.verifier({}))
    assert gain.outcome == "failed" and max(gain.details["gains"]) < 0


def test_a_run_of_a_held_out_text_fails_beyond_the_sample_too(texts, monkeypatch):
    monkeypatch.setattr("palimpsest.guard.texts.AT_A_TIME", 7)
    quoted = " ".join(max(texts["test"], key=len).split()[:40])
    monkeypatch.setattr("palimpsest.guard.texts.SAMPLE", sum(map(len, texts["real"][:50])))
    found = judged(texts, "pure", documents=50, extra=(quoted,))
    (verdict,) = [v for v in found.verdicts if v.measure == "held_out_runs"]
    assert verdict.outcome == "failed"
    assert verdict.details["held_out"] == len(texts["test"])
    assert "share 13 words in a row with held-out text" in verdict.sentence


def test_text_that_people_will_be_measured_on_is_not_quoted_whoever_wrote_it(texts, tmp_path):
    quoted = " ".join(max(texts["test"], key=len).split()[:40])
    question = "which of the many words that stand in this question will a model be asked about"
    file = tmp_path / "quiz.jsonl"
    file.write_text(json.dumps({"query": question, "choices": ["the first one", "the last"], "answer": 0}))
    connection = opened(texts["real"][:20], texts["test"], [quoted, f"so: {question}! The first one.", "other words"])
    held = connection.execute("select * from validation").df().assign(origin="unknown")
    connection.register("validation", held)
    judging = {"tasks": {"quiz": {"file": str(file)}}}
    study = study_of().model_copy(update={"judging": Judging.model_validate(judging)})
    told = {v.measure: v for v in judge_texts(connection, study, Lake("/nowhere")).verdicts if v.gate == "G10"}
    assert (told["held_out_runs"].outcome, told["held_out_runs"].value) == ("failed", 1)
    assert (told["task_questions"].outcome, told["task_questions"].value) == ("failed", 1)
    assert "recite a question of the downstream tasks (quiz) (the first: 'quiz.jsonl, line 1: which of the many" in (
        told["task_questions"].sentence
    )
    file.unlink()
    with pytest.raises(ConfigError, match="judging.tasks.quiz.file: no file"):
        judge_texts(connection, study, Lake("/nowhere"))


@pytest.mark.parametrize(
    "written", [[""], ["one"], ["the same words again and again"] * 40], ids=["empty", "one", "equal"]
)
def test_bad_input_gives_a_named_verdict(texts, written):
    found = judge_texts(opened(texts["real"][:50], texts["test"][:5], written), study_of(), Lake("/nowhere"))
    assert {"G7", "G8", "G9", "G10"} <= outcomes(found).keys()
    assert all(v.sentence and (v.value is None or np.isfinite(v.value)) for v in found.verdicts)


def test_a_domain_in_which_a_generator_repeats_itself_is_named(texts):
    """Half of one domain's texts are one text: a quarter of all."""
    written = [texts["pure"][0] if n % 4 == 0 else text for n, text in enumerate(texts["pure"][:100])]
    found = judge_texts(opened(texts["real"][:100], texts["test"], written), study_of(), Lake("/nowhere"))
    told = [v for v in found.verdicts if v.measure == "near_duplicates"]
    whole, worst = sorted(told, key=lambda v: "in domain" in v.subject)
    assert worst.details["domain"] == "x.example" and worst.value > 1.8 * whole.value > 0.4
    assert "of synthetic rephrases of strategy rephrase in domain x.example nearly equal" in worst.sentence


def test_documents_of_unknown_origin_are_told_by_a_detector(texts, monkeypatch):
    connection = opened(texts["real"][:90], texts["test"], texts["mode"][:90])
    rows = connection.execute("select * from train").df()
    unknown = pd.DataFrame(
        {"document_id": ["u1", "u2"], "text": [texts["mode"][-1], texts["real"][-1]], "origin": "unknown"}
    )
    connection.register("train", pd.concat([rows, unknown.assign(is_reserve=False, site="a.example", corpus="c")]))
    monkeypatch.setattr("palimpsest.guard.texts.AT_A_TIME", 1)
    found = judge_texts(connection, study_of(), Lake("/nowhere"))
    scores = found.detector.set_index("document_id")["generated"]
    assert scores["u1"] > scores["u2"]
    (told,) = [v for v in found.verdicts if v.gate == "ORIGIN"]
    assert told.value == (scores > 0.5).mean() and "count as synthetic in every share" in told.sentence
    assert {"looks_generated"} == {r["metric"] for r in found.measures if r["strategy"] == told.subject}
    (untold,) = judge_texts(connection, study_of(kind="augment"), Lake("/nowhere")).verdicts
    assert (untold.gate, untold.outcome) == ("ORIGIN", "not_judged")
    assert untold.sentence.startswith("how many of 2 documents of unknown origin look generated cannot be judged: ")


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
    (repeated,) = [v for v in some.verdicts if v.measure == "near_duplicates" and "in domain" not in v.subject]
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
