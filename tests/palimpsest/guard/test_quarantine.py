"""A generator whose text lost its variety: on the list until somebody lifts it, and asked about until then."""

from __future__ import annotations

import datetime as dt

import pytest

from expectations.guard.ladder import put_in_quarantine
from palimpsest.cli import main
from palimpsest.config import Waiver, load_study
from palimpsest.guard import quarantine
from palimpsest.lake import Facts, LakeError

TODAY = dt.date(2026, 11, 1)
MODEL = "org/model@1234"


def failed(lake, *verdicts: tuple[str, str]):
    """A gate that stopped for these verdicts: gate, outcome."""
    told = {"strategy": "rephrase", "generator": MODEL}
    found = [
        {"gate": gate, "outcome": outcome, "sentence": f"{gate} {outcome}", "details": told}
        for gate, outcome in verdicts
    ]
    return lake.publish(
        "studies/demo/gate_failed", lambda folder: Facts(extra={"guard": found}), config={"of": [*verdicts]}
    )


def asked(study, lake):
    return quarantine.asked(study, {"rephrase": MODEL}, lake, TODAY)


@pytest.fixture
def study():
    return load_study("demo")


def test_lost_words_put_a_generator_on_the_list_until_it_is_lifted(lake, study):
    assert put_in_quarantine(study, lake, failed(lake, ("G7", "failed"), ("G8", "warned"))) == []
    assert asked(study, lake) == []
    stopped = failed(lake, ("G8", "failed"), ("G9", "failed"))
    (entry,) = put_in_quarantine(study, lake, stopped)
    assert entry.sentence.startswith(f"generator {MODEL} is in quarantine since ")
    assert entry.sentence.endswith("for strategy rephrase of study demo: G8 failed; G9 failed")
    assert put_in_quarantine(study, lake, stopped) == [], "said once"
    assert asked(study, lake) == [entry]
    with pytest.raises(LakeError, match="in a sentence"):
        quarantine.lift(lake, MODEL, by="Ada", why="ok")
    with pytest.raises(LakeError, match=f"there are: {MODEL}"):
        quarantine.lift(lake, "another", by="Ada", why="its prompts were wrong")
    assert quarantine.lift(lake, MODEL, by="Ada", why="its prompts were wrong") == entry
    assert asked(study, lake) == [] and quarantine.standing(lake) == {}
    assert put_in_quarantine(study, lake, stopped), "found again"
    assert [event["event"] for event in quarantine.history(lake)] == ["put", "lifted", "put"]


def test_a_waiver_answers_for_its_strategy_and_an_experiment_asks_nobody(lake, study):
    put_in_quarantine(study, lake, failed(lake, ("G9", "failed")))

    def guarded(**changes):
        return study.model_copy(update={"guard": study.guard.model_copy(update=changes)})

    def waiver(subject, until=TODAY, gate="G8"):
        return Waiver(gate=gate, subject=subject, why="we compare temperatures", by="Ada", until=until)

    assert asked(guarded(waivers=[waiver("rephrase")]), lake) == []
    assert asked(guarded(waivers=[waiver(None)]), lake) == []
    assert asked(guarded(waivers=[waiver("rationale")]), lake)
    assert asked(guarded(waivers=[waiver("rephrase", TODAY - dt.timedelta(days=1))]), lake)
    assert asked(guarded(waivers=[waiver("rephrase", gate="G7")]), lake)
    assert asked(guarded(experiment=True), lake) == []


def test_the_list_is_printed_and_lifted_on_the_command_line(lake, study, capsys, monkeypatch):
    monkeypatch.setenv("PALIMPSEST_LAKE", str(lake.root))
    put_in_quarantine(study, lake, failed(lake, ("G8", "failed")))
    quarantine.approve(lake, MODEL, study="demo", by="Grace")
    assert main(["guard", "quarantine", "list"]) == 0
    assert "study demo: G8 failed\n1 in quarantine" in capsys.readouterr().out
    assert (
        main(["guard", "quarantine", "lift", MODEL, "--by", "Ada", "--why", "drawn at temperature 1 from now on"]) == 0
    )
    assert main(["guard", "quarantine", "list"]) == 0
    assert capsys.readouterr().out.endswith("0 in quarantine\n")
