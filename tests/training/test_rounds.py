"""A loop's report: what became of each arm, round by round."""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palimpsest.config import Loop
from palimpsest.lake import Facts, LakeError
from tests.training.conftest import study_content
from training import rounds, track
from training.analysis import loop_results

WORDS = [f"word{number}" for number in range(4000)]


@pytest.fixture
def loop() -> Loop:
    content = study_content(seeds=[0, 1])
    shared = {key: content[key] for key in ("description", "corpora", "validation", "training")}
    arms = {"replace": {"policy": "replace"}, "half": {"policy": "replace", "real": 0.5}}
    server = {"context": 64, "gpus": 0}
    return Loop.model_validate(
        shared
        | {"name": "ring", "rounds": 2, "passes": 2, "arms": arms, "server": server, "sampling": {"max_tokens": 32}}
    )


def texts(seed: int, words: int) -> list[str]:
    """60 texts over so many words, the first ones more frequent; a third of 4,000 come up three times at most."""
    random = np.random.default_rng(seed)
    places = (words * random.random((60, 120)) ** 2).astype(int)
    return [" ".join(WORDS[place] for place in row) for row in places]


def planted(lake, loop, number, losses, unknown=0):
    """A round that has run: ``losses`` by arm and seed; arm 'replace' writes with an eighth of the words."""

    def publish(name, write):
        return lake.publish(
            f"studies/{loop.studies[number]}/{name}",
            lambda d: write(d) or Facts(),
            config={"n": number, "unknown": unknown},
        )

    def evaluation(directory, loss, real):
        found = {
            "losses": {"iid": loss, "long": None},
            "tokens": {"real": 900 * real, "synthetic": 900 - 900 * real, "padding": 100, "total": 1000},
            "device": "cpu",
            "precision": "fp32",
            "seconds": 30,
        }
        (directory / "evaluation.json").write_text(json.dumps(found))

    origins = ["unknown"] * unknown + ["real"] * (60 - unknown)
    real = pa.table({"text": texts(0, 4000), "is_reserve": [False] * 60, "words": [120] * 60, "origin": origins})
    written = [
        (f"{arm}_{number}", text) for arm, words in (("replace", 500), ("half", 4000)) for text in texts(5, words)
    ]
    return rounds.Round(
        number,
        publish("split", lambda d: pq.write_table(real, d / "train.parquet")),
        publish(
            "generations",
            lambda d: pq.write_table(
                pa.table({"strategy": [s for s, _ in written], "text": [t for _, t in written]}),
                d / "generations.parquet",
            ),
        ),
        {
            f"{arm}-s{seed}": publish(
                f"runs/{arm}-s{seed}",
                lambda d, loss=loss, arm=arm: evaluation(d, loss, {"real": 1, "replace": 0, "half": 0.5}[arm]),
            )
            for arm, found in losses.items()
            for seed, loss in enumerate(found)
        },
    )


@pytest.fixture
def found(lake, loop):
    return [
        planted(lake, loop, 0, {"real": [4.0, 4.2]}),
        planted(lake, loop, 1, {"real": [4.1, 4.1], "replace": [4.6, 4.8], "half": [4.2, 4.2]}),
        planted(lake, loop, 2, {"real": [4.1, 4.1], "replace": [5.6, 5.8], "half": [4.2, 4.4]}),
    ]


def test_each_arm_is_compared_with_round_0_over_its_seeds(lake, loop, found):
    table = rounds.compare(loop, found)
    rows = {(row["round"], row["arm"]): row for row in table["rows"]}
    assert list(rows) == [(0, "real"), *((k, arm) for k in (1, 2) for arm in ("real", "replace", "half"))]
    assert rows[2, "replace"]["perplexity"] == pytest.approx(math.exp(5.7))
    assert rows[2, "replace"]["times_base"] == pytest.approx(math.exp(5.7 - 4.1))
    assert [rows[1, arm]["real_share"] for arm in ("real", "replace", "half")] == [1, 0, 0.5]
    assert rows[2, "replace"]["perplexities"] == pytest.approx([math.exp(5.6), math.exp(5.8)])
    assert f"{math.exp(5.6):,.1f} to {math.exp(5.8):,.1f}" in rounds.render(table)
    assert "loss_long" not in rows[1, "half"]  # no document is that long
    assert table["headline"] == (
        "After 2 rounds perplexity on real text is 4.95 times that of round 0 in arm ‘replace’, 1.22 times in ‘half’."
    )
    crawled = planted(lake, loop, 1, {"real": [4.1, 4.1], "replace": [4.6, 4.8], "half": [4.2, 4.2]}, unknown=15)
    shares = {row["arm"]: row["real_share"] for row in rounds.compare(loop, [found[0], crawled])["rows"][1:]}
    assert shares == {"real": 0.75, "replace": 0, "half": 0.375}  # text of unknown origin counts as synthetic
    assert rounds.compare(loop, found[:2])["headline"].startswith("After 1 of 2 rounds ")
    assert "2 more are to come" in rounds.compare(loop, found[:1])["headline"]


def test_what_an_arm_wrote_is_measured_beside_the_real_text(loop, found):
    rows = {(row["round"], row["arm"]): row for row in rounds.compare(loop, found)["rows"]}
    few, all_ = rows[1, "replace"], rows[1, "half"]
    assert few["texts"] == all_["texts"] == 60
    assert few["rare_kept"] < 0.3 < 0.7 < all_["rare_kept"]
    assert few["entropy"] < all_["entropy"] - 1
    assert few["distinct_3"] < all_["distinct_3"] and few["compression"] > all_["compression"]
    assert rows[1, "real"]["texts"] is None and rows[0, "real"]["rare_kept"] is None


def test_the_report_is_a_page_with_figures_and_a_table(lake, loop, found):
    published = rounds.report(loop, lake, found=found)
    page = published.file("report.html").read_text()
    assert published.extra == {"headline": rounds.compare(loop, found)["headline"], "rounds": 2}
    assert "4.95 times that of round 0" in page and "Rare words kept" in page and "Perplexity on real text" in page
    assert published.file("perplexity.svg").exists() and published.file("rare_kept.png").exists()
    assert pq.read_table(published.file("table.parquet")).num_rows == 7
    assert "replace" in rounds.render(json.loads(published.file("table.json").read_text()))


def test_in_a_continual_loop_an_arm_is_compared_with_its_rounds_own_real_text(loop, found):
    loop = Loop.model_validate(loop.model_dump() | {"continual": {"replay": 0.25}})
    table = rounds.compare(loop, found)
    rows = {(row["round"], row["arm"]): row for row in table["rows"]}
    assert rows[2, "replace"]["times_base"] == pytest.approx(math.exp(5.7 - 4.1))
    assert rows[1, "replace"]["times_base"] == pytest.approx(math.exp(4.7 - 4.1))
    assert rows[2, "real"]["times_base"] == rows[1, "real"]["times_base"] == 1
    assert "times that of its real text alone in arm ‘replace’" in table["headline"]
    assert all(row["rare_kept"] is None for row in table["rows"]) and rows[1, "half"]["entropy"] > 0


def test_the_results_page_says_what_became_of_each_arm_and_what_it_cost(lake, store, loop, found, tmp_path):
    published = rounds.report(loop, lake, found=found)
    with pytest.raises(
        LakeError, match="made by no finished run in MLflow .* clear task report of the newest run of Dag"
    ):
        loop_results.write(loop, lake, published, tmp_path)

    sentence = "mix replace: 0% of what is trained on was written by people; at least 50% is asked"
    broken = {"gate": "G2", "outcome": "warned", "sentence": sentence}
    verdicts = [broken, broken | {"sentence": "mix half: so too"}, {"gate": "G5", "outcome": "passed"}]
    lake.publish("studies/ring_round_1/gate", lambda directory: Facts(extra={"guard": verdicts}))
    parent = track.open_parent(loop)
    rounds.report(loop, lake, found=found, parent_run_id=parent)
    page = loop_results.write(loop, lake, published, tmp_path)
    text = page.read_text(encoding="utf-8")
    assert page.name == "loop_ring.md" and published.extra["headline"] in text and parent in text
    assert "- `half`: the newest model's text, 50% real" in text
    assert "| 2 | replace | 298.9 | 270.4 to 330.3 | 4.95x | 0% |" in text
    assert f"- round 1, G2: {sentence} (and 1 more like it)" in text and "G5" not in text
    assert "- Models trained: 14, 7 min 0 s of training together" in text and "Wall clock" in text
    drawn = [line.split("](")[1].rstrip(")") for line in text.splitlines() if line.startswith("![")]
    assert len(drawn) == 4 and all((tmp_path / file).stat().st_size > 10_000 for file in drawn)


def test_before_round_0_there_is_nothing_to_report(lake, loop):
    with pytest.raises(LakeError, match="round 0 has not run to its end; trigger the Dag loop_ring"):
        rounds.report(loop, lake)
