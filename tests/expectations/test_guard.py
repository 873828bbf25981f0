"""The guard's word on a study: what breaks each of its gates, what is said of it, and who may answer for it."""

from __future__ import annotations

import datetime as dt
import json
import re
from dataclasses import asdict, replace

import duckdb
import pytest

from expectations import measure, suites
from expectations.contracts import STUDY
from expectations.guard import judge, lineage, waivers
from expectations.guard.judge import today
from expectations.guard.limits import calibrated
from expectations.verdicts import GateFailed
from palimpsest.config import Engine
from palimpsest.config.generation import Sampling
from palimpsest.guard.calibration import Calibration
from palimpsest.guard.thresholds import DEFAULTS
from palimpsest.guard.verdict import bounded
from palimpsest.lake import Facts, LakeError
from tests.expectations.conftest import document
from tests.expectations.defects import change, put
from tests.expectations.test_gate import broken, study_gate

VIEWS = ("train", "validation", "generations", "megadoc_parts", "megadocs", "mixes", "mix_shares")


def guarded(world, **changes) -> None:
    guard = world.study.guard.model_dump() | changes
    world.study = world.study.model_copy(update={"guard": type(world.study.guard).model_validate(guard)})


def said(verdict, gate: str, measure: str = "") -> list[str]:
    return [v["sentence"] for v in verdict.extra["guard"] if v["gate"] == gate and measure in ("", v["measure"])]


def judged(world, found) -> list:
    """The verdicts alone, without Great Expectations' pages."""
    data = {name: found[name] for name in ("split", "generations", "mixes")}
    of = {"train": "split", "validation": "split", "generations": "generations"}
    connection = measure.connect({name: data[of.get(name, "mixes")] for name in VIEWS})
    waived = waivers.in_force(world.study, world.lake, list(data.values()), today())
    return judge.verdicts(connection, world.study, world.lake, split=data["split"], mixes=data["mixes"], waived=waived)


def blocked(world, found, gate: str) -> list[str]:
    """What is said of the breaches the gate stops at."""
    return [v.sentence for v in judged(world, found) if v.gate == gate and judge.blocks(v)]


def deep(rows):
    """The stitched mix's synthetic tokens, of a generator trained here on such text."""
    put(rows, [2], depth=2, self_consuming=True)


def test_good_data_says_so_of_every_gate_in_sentences(world):
    verdict = study_gate(world, world.publish())
    outcomes = {v["gate"]: v["outcome"] for v in verdict.extra["guard"]}
    small = {gate: outcomes.pop(gate) for gate in ("G7", "G8", "G9", "C2ST")}
    assert set(small.values()) == {"not_judged"}, "nine pages are too few to judge their words by"
    assert outcomes == {
        "G1": "passed",
        "G2": "passed",
        "G3": "not_judged",
        "G4": "passed",
        "G5": "passed",
        "G6": "not_judged",
        "G10": "passed",
        "G11": "not_judged",
    }
    assert "the review of strategy" in said(verdict, "G11")[0], "it drops nothing here"
    assert "100% of the 18 generations say where they come from; 100% is asked" in said(verdict, "G1")
    share = 0.75 * 152 / 253
    assert said(verdict, "G2", "grounded_share") == [
        f"mix stitched: {100 * share:.0f}% of what is trained on is rewritten from real documents by a generator from "
        "outside; at most 50% is asked"
    ]
    assert (
        "G4 passed: mix stitched draws real and synthetic text apart: 25% of its"
        in verdict.file("guard.txt").read_text()
    )


@pytest.mark.parametrize(
    ("spoil", "gate", "words"),
    [
        (
            change("generations", lambda rows: put(rows, [4], verifier="")),
            "G1",
            "94.44% of the 18 generations .* 1 lack verifier",
        ),
        (
            change("train", lambda rows: put(rows, [0], origin="")),
            "G1",
            "88.89% of the 9 training documents .* 1 lack origin",
        ),
        (
            change("mix_shares", lambda rows: put(rows, [0], origin="unknown")),
            "G2",
            "mix real: 0% of what is trained on was written by people",
        ),
        (
            change("mix_shares", lambda rows: put(rows, [2], grounded=False)),
            "G2",
            "45% of what is trained on is made up by a generator",
        ),
        (
            change("mix_shares", deep),
            "G5",
            "up to 2 models lie between the text of mix stitched and people; at most 1",
        ),
        (
            change("mixes", lambda rows: put(rows, [1], realised_fraction=0.1)),
            "G4",
            "15 points from the plan; at most 1 are asked",
        ),
    ],
    ids=["no verifier", "no origin", "unknown origin", "made up", "depth 2", "not as planned"],
)
def test_a_breach_blocks_and_is_said(world, spoil, gate, words):
    sentences = blocked(world, world.publish(spoil), gate)
    assert any(re.search(words, sentence) for sentence in sentences), sentences


def test_an_unknown_depth_is_said_by_the_guard_and_is_no_lack_of_a_key(world):
    found = world.publish(change("mix_shares", lambda rows: put(rows, [2], depth=None)))
    assert "mix stitched holds text whose depth nobody knows" in blocked(world, found, "G5")[0]
    published = {"mix_shares": found["mixes"]}
    table = measure.tables(measure.connect(published), {"mix_shares": STUDY["mix_shares"]}, published)
    assert table["repeated_keys"].tolist() == [0]


def test_a_text_that_is_its_own_ancestor_is_found(world):
    def circle(rows):
        put(rows, [0], seed_document_ids=[rows[0]["document_id"], rows[1]["generation_id"]])

    assert "1 lines of descent run in a circle" in blocked(world, world.publish(change("generations", circle)), "G1")[0]


@pytest.mark.parametrize(("last", "circles"), [("one", 1), ("elsewhere", 0)])
def test_a_circle_is_found_behind_whichever_generator_it_lies(world, monkeypatch, last, circles):
    """A mix's address is a digest of what it was made of, so that no lake has one: here the second line runs back."""
    older = {"one": ["end", "two"], "two": ["end", "three"], "three": [last]}
    monkeypatch.setattr(lineage, "_generators_of", lambda lake, mix: older.get(mix, []))
    connection = duckdb.connect()
    columns = "'one' as generator_mix, ['d'] as seed_document_ids, 'g' as generation_id"
    connection.execute(f"create table generations as select {columns}")
    mixes = world.lake.publish("studies/ring/mixes", lambda directory: Facts())
    (found,) = lineage.acyclic(connection, world.lake, mixes)
    assert found.value == circles
    assert ("one → two → three → one" in found.sentence) == bool(circles)


def test_half_must_be_real_beside_text_of_a_generator_trained_here(world):
    """The stitched mix is 45% synthetic, so 55% real: enough beside its own text at 50%, not at 60%."""
    guarded(world, thresholds={"depth_max": 2})
    assert not blocked(world, world.publish(change("mix_shares", deep)), "G2")
    guarded(world, thresholds={"depth_max": 2, "real_self_consuming_min": 0.6})
    (sentence,) = blocked(world, world.publish(change("mix_shares", deep)), "G2")
    assert "55% of what is trained on was written by people, and some by a model that learned from" in sentence
    assert sentence.endswith("at least 60% is asked")


def test_more_rewritten_text_is_allowed_with_a_sweep_that_was_run(world):
    guarded(world, thresholds={}, format_sweep="formats")
    (before,) = [v for v in judged(world, world.publish()) if v.measure == "grounded_share"]
    assert before.outcome == "warned"
    world.lake.publish("studies/formats/report", lambda directory: Facts())
    (after,) = [v for v in judged(world, world.publish()) if v.measure == "grounded_share"]
    assert after.outcome == "passed"
    assert "with the sweep of study formats; at most 70% is asked" in after.sentence


def test_the_studys_severity_turns_a_warning_into_a_stop(world):
    guarded(world, thresholds={}, severity={"G2": "critical"})
    with pytest.raises(GateFailed) as failure:
        study_gate(world, world.publish())
    assert [c["gate"] for c in failure.value.waivable] == ["G2"]


def test_a_domain_is_judged_for_itself(world):
    """Overall 45% is rewritten; in one of two domains it is all of it."""

    def split_domains(rows):
        put(rows, [2], domain="tide.example")

    guarded(world, thresholds={"synthetic_grounded_max": 0.5})
    (sentence,) = blocked(world, world.publish(change("mix_shares", split_domains)), "G2")
    assert "in its worst domain, tide.example, 0% of what is trained on was written by people" in sentence
    found = world.publish(change("mix_shares", split_domains))
    sentences = [v.sentence for v in judged(world, found) if v.outcome == "warned"]
    assert any("in its worst domain, tide.example, 100% of what is trained on is rewritten" in s for s in sentences)


def test_what_nobody_could_judge_is_lowered_like_a_breach_and_gets_no_figure(world):
    lost = change("mix_shares", lambda rows: put(rows, [2], depth=None))
    guarded(world, severity={"G5": "warning"})
    assert not blocked(world, world.publish(lost), "G5")
    guarded(world, severity={}, waivers=[waiver()])
    (told,) = [v for v in judged(world, world.publish(lost)) if "depth nobody knows" in v.sentence]
    assert (told.outcome, told.value, told.details["waived_by"]) == ("not_judged", None, "Ada")
    assert "waived by Ada until" in told.sentence and not judge.blocks(told)


def test_the_severity_of_what_cannot_be_waived_is_refused(world):
    with pytest.raises(ValueError, match="severity.G1"):
        guarded(world, severity={"G1": "off"})
    content = json.loads(world.study.model_dump_json(exclude={"path"}, exclude_defaults=True))
    content |= {"guard": {"in_distribution": ["rephrases"]}}
    with pytest.raises(ValueError, match="guard.in_distribution: 'rephrases' is unknown; did you mean 'rephrase'"):
        type(world.study).model_validate(content)


@pytest.mark.parametrize("gate", ["C2ST", "MMD", "ALIGN"])
def test_a_trend_is_in_data_docs_and_stops_where_it_is_to(gate):
    found = judge.table([bounded(gate, "m", 2.0, "they lie far away", at_most=1)])
    (stops, warns) = suites.guard({gate})
    told = stops._validate({"table.profile": found})
    assert not told["success"] and told["result"]["observed_value"] == "they lie far away"
    assert warns._validate({"table.profile": found})["success"], "it is said once"


# ---------------------------------------------------------------- G3


def fewer(table, rows):
    return rows[1:] if table == "documents" else rows


def test_real_text_may_grow_and_not_shrink(world):
    study_gate(world, world.publish())
    (sentence,) = blocked(world, world.publish(fewer), "G3")
    assert sentence.startswith("corpus garden lost 8.3% of its real words since the version before")
    more = document("page-new")
    found = world.publish(change("documents", lambda rows: [*rows, more]))
    (told,) = [v for v in judged(world, found) if v.gate == "G3"]
    assert (told.outcome, told.value) == ("passed", 0)
    assert told.sentence.startswith("corpus garden lost 0% of its real words")


def test_a_corpus_that_is_taken_out_is_a_loss(world):
    found = world.publish()
    study_gate(world, found)
    world.study = world.study.model_copy(update={"corpora": ["meadow"]})
    (sentence,) = blocked(world, found, "G3")
    assert sentence.startswith("corpus garden was taken out of the study: all its real words are gone")


def test_tombstones_are_no_loss(world, tmp_path):
    study_gate(world, world.publish())
    graves = tmp_path / "gone.txt"
    graves.write_text("# taken down\nhttps://garden.example/page-0\n")
    guarded(world, tombstones=str(graves))
    assert not blocked(world, world.publish(fewer), "G3")


def test_a_gate_judges_again_when_what_it_read_beside_the_data_is_other(world, tmp_path):
    graves = tmp_path / "gone.txt"
    graves.write_text("https://garden.example/page-0\n")
    guarded(world, tombstones=str(graves), format_sweep="formats")
    found = world.publish()
    keys = [study_gate(world, found).manifest["key"]]
    world.lake.publish("studies/formats/report", lambda directory: Facts())
    keys.append(study_gate(world, found).manifest["key"])
    graves.write_text("https://garden.example/page-1\n")
    keys += [study_gate(world, found).manifest["key"] for _ in range(2)]
    assert len(set(keys)) == 3 and keys[2] == keys[3]


# ---------------------------------------------------------------- G6


@pytest.mark.parametrize(
    ("sampling", "words"),
    [
        ({"top_k": 1}, "draws its texts greedily; at least 640 is asked"),
        ({"top_k": 40}, "at top_k 40; at least 640"),
        ({"min_p": 0.3}, "at min_p 0.3; at most 0.05"),
        ({"temperature": 0}, "draws its texts greedily; at least 0.9 is asked"),
        ({"top_k": 1000, "min_p": 0.01}, None),
    ],
)
def test_text_is_drawn_near_the_models_own_distribution(world, sampling, words):
    made = {"engine": Engine.model_construct(kind="vllm", server="s"), "sampling": Sampling(**sampling)}
    strategy = world.study.strategies["rephrase"].model_copy(update=made)
    study = world.study.model_copy(update={"strategies": {"rephrase": strategy}})
    connection = duckdb.connect()
    connection.execute("create table generations as select 'rephrase' as strategy")
    failed = [v.sentence for v in lineage.decoding(connection, study, DEFAULTS) if v.outcome == "failed"]
    assert len(failed) == (words is not None)
    assert all(words in sentence for sentence in failed)


# ---------------------------------------------------------------- waivers


def waiver(**changes) -> dict:
    return {
        "gate": "G5",
        "why": "measures what depth two costs",
        "by": "Ada",
        "until": today() + dt.timedelta(days=1),
    } | changes


def test_a_waiver_of_the_study_file_names_who_and_why(world, caplog):
    guarded(world, waivers=[waiver()])
    verdict = study_gate(world, world.publish(change("mix_shares", deep)))
    assert verdict.extra["success"] and "covers nothing" not in caplog.text
    assert any("waived by Ada until" in s and "what depth two costs" in s for s in said(verdict, "G5"))
    assert {"few_models_lie_between_text_and_people"} <= broken(verdict)


@pytest.mark.parametrize(
    "changes",
    [{"until": today() - dt.timedelta(days=1)}, {"subject": "another"}, {"gate": "G2"}],
    ids=["expired", "of another recipe", "of another gate"],
)
def test_a_waiver_covers_what_it_says_and_no_more(world, changes):
    guarded(world, waivers=[waiver(**changes)])
    found = world.publish(change("mix_shares", deep))
    assert blocked(world, found, "G5")
    (told,) = waivers.idle(world.study, judged(world, found), today())
    why = "held until .*; it covers nothing any more" if "until" in changes else "covers nothing that was found here"
    assert re.match(f"the waiver of G[25].* by Ada {why}", told)


@pytest.mark.parametrize(
    ("subject", "left"),
    [("garden.example", ["stitched"]), ("stitched", []), ("rephrase", ["stitched", "stitched in garden.example"])],
)
def test_a_waiver_of_the_study_file_is_for_a_recipe_or_a_domain_of_it(world, subject, left):
    def rows_of(rows):
        rows.append(rows[1] | {"domain": "tide.example", "trained_tokens": 1.0})

    waivers = [waiver(gate="G2", subject=subject)]
    guarded(world, thresholds={}, severity={"G2": "critical"}, waivers=waivers)
    found = judged(world, world.publish(change("mix_shares", rows_of)))
    assert [v.subject for v in found if v.gate == "G2" and judge.blocks(v)] == left


def test_a_waiver_for_a_strategy_covers_its_generator_and_no_others(world):
    rows = "('one', 'file:///gone/mixes'), ('two', 'file:///gone/mixes'), ('three', null)"
    connection = duckdb.connect()
    connection.execute(f"create table generations as select * from (values {rows}) as t(strategy, generator_mix)")
    found = list(lineage.generators(connection, world.lake))
    assert [v.outcome for v in found] == ["failed", "failed"] and len({v.subject for v in found}) == 2
    ada = waivers.Waived("G5", "one", None, "Ada", "measures what depth two costs", today())
    assert [ada.covers(v) for v in found] == [True, False]


def test_an_answer_covers_no_more_than_it_was_asked(world):
    answered = waivers.Waived("G2", "stitched", None, "Ada", "we compare", today(), uri="file:///lake/waiver")
    asked = bounded("G2", "m", 1.0, "s", at_most=0, subject="stitched", details={"recipe": "stitched"})
    assert answered.covers(asked)
    assert not answered.covers(replace(asked, subject="stitched in tide.example"))


def test_a_tenth_of_real_text_and_a_third_model_cannot_be_waived(world):
    guarded(world, waivers=[waiver(), waiver(gate="G2")])
    deeper = change("mix_shares", lambda rows: put(rows, [2], depth=3, self_consuming=True))
    with pytest.raises(GateFailed) as failure:
        study_gate(world, world.publish(deeper))
    assert failure.value.waivable == []
    unreal = change("mix_shares", lambda rows: put(rows, [0], origin="unknown"))
    assert blocked(world, world.publish(unreal), "G2")[0].endswith("at least 10% is asked")


def test_an_answer_is_kept_in_the_lake_and_holds_for_that_very_data(world):
    found = world.publish(change("mix_shares", deep))
    with pytest.raises(GateFailed) as failure:
        study_gate(world, found)
    data = [found[name] for name in ("split", "generations", "mixes")]
    at = f"{today().isoformat()}T12:00:00+00:00"
    kept = waivers.record(
        world.study, world.lake, data=data, covers=failure.value.waivable, by="Ada", why="we measure depth two", at=at
    )
    assert kept.extra["covers"][0]["gate"] == "G5"
    verdict = study_gate(world, found)
    assert verdict.extra["success"]
    assert any("waived by Ada" in s for s in said(verdict, "G5"))
    other = change("mix_shares", lambda rows: put(rows, [2], depth=2, self_consuming=True, trained_tokens=1000.0))
    assert blocked(world, world.publish(other), "G5")


def test_an_answer_without_a_reason_is_none(world):
    with pytest.raises(LakeError, match="needs its reason in a sentence, this one says 'ok'"):
        waivers.record(world.study, world.lake, data=[], covers=[{"gate": "G5"}], by="Ada", why="ok", at="2026-01-01")


def test_a_calibration_of_the_corpus_sets_the_limits_that_the_study_does_not(world, caplog):
    limits = {"tail_full_min": 0.7, "entropy_z_max": 9.0}
    found = Calibration("garden", 1, 1, 1, {}, [], limits, [])

    def write(directory):
        (directory / "calibration.json").write_text(json.dumps(asdict(found)))
        return Facts()

    guarded(world, thresholds={"entropy_z_max": 8.0})
    caplog.set_level("INFO", "expectations.guard.limits")
    assert calibrated(world.study, world.lake) is world.study
    assert "another corpus than garden; its own: python -m palimpsest guard calibrate garden" in caplog.text
    world.lake.publish("guard/garden/calibration", write)
    thresholds = calibrated(world.study, world.lake).guard.thresholds
    assert (thresholds.tail_full_min, thresholds.entropy_z_max, thresholds.depth_max) == (0.7, 8.0, 1)
