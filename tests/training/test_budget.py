"""The paper's study costs what the paper's runs cost, and a budget is what will be trained."""

from __future__ import annotations

import json
import re
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palimpsest.config import Model, Study, load_study
from palimpsest.lake import REPOSITORY, Facts
from palimpsest.mixes import RECIPES, recipe_rows, stream_rows
from tests.training.conftest import study_content
from training import bill, budget, points
from training.__main__ import main
from training.model import Decoder

REAL = 203_867_748
STREAMS = {2: 398_936_730, 4: 556_032_327, 8: 967_660_703, 16: 1_958_289_599, 32: 3_713_048_352}
"""Tokens of the simple and of the stitched stream at each G (digest, section 3.1); those of thoughts are not known."""
TABLE = """
real         16  0     3e-3  1.6   12,432   3.26  -
simple_2      4  0.75  3e-3  0.8   12,432   3.26  6.1
simple_4      8  0.75  3e-3  0.8   24,864   6.52  8.8
simple_8      8  0.75  3e-3  0.8   24,864   6.52  5.1
simple_16    16  0.75  3e-3  0.4   49,728  13.0   5.0
simple_32    16  0.75  3e-3  0.4   49,728  13.0   2.6
stitched_2    8  0.75  3e-3  0.8   24,864   6.52  12.3
stitched_4    8  0.75  3e-3  0.4   24,864   6.52  8.8
stitched_8   16  0.75  3e-3  0.4   49,728  13.0   10.1
stitched_16  16  0.75  3e-3  0.4   49,728  13.0   5.0
stitched_32  32  0.90  1e-3  0.4  248,640  65.2   15.8
stretched_2   4  0.75  3e-3  0.8   12,432   3.26  -
stretched_4   8  0.75  3e-3  0.8   24,864   6.52  -
stretched_8   8  0.75  3e-3  0.4   24,864   6.52  -
stretched_16 16  0.75  3e-3  0.4   49,728  13.0   -
stretched_32 32  0.90  1e-3  0.4  248,640  65.2   -
real_150m    16  0     3e-3  0.8   12,432   3.26  -
real_600m     8  0     1e-3  3.2    6,216   1.63  -
real_1b5      8  0     1e-3  3.2    6,216   1.63  -
"""
"""Digest, section 4: real epochs, f, lr, weight decay, steps, tokens in thousand millions, passes over the synthetic
stream. The digest calls 'latent' what a layout here calls 'stretched'. Below the table the other baselines at 200M
tokens, whose steps and tokens follow from its rule.
"""
TABLE_ROWS = [line.split() for line in TABLE.strip().splitlines()]


@pytest.fixture(scope="module")
def paper():
    return load_study("megadocs_paper")


def streams(paper, recipe: str) -> list[dict]:
    """Its rows of mixes.parquet as far as a plan reads them, with the tokens the authors' streams have."""
    layout = paper.mixes[recipe].layout
    made = STREAMS[int(layout.rsplit("_", 1)[1])] if layout != "real" else None
    row = {"recipe": recipe, "role": "mix", "share": 1.0}
    sizes = [("real", REAL, 0)] + ([(layout, made, made)] if made else [])
    return [
        {**row, "layout": name, "stream_tokens": size, "stream_synthetic_tokens": part, "windows": -(-size // 4096)}
        for name, size, part in sizes
    ]


@pytest.mark.parametrize("expected", TABLE_ROWS, ids=lambda row: row[0])
def test_the_papers_plan_has_the_papers_steps_tokens_and_passes(paper, expected):
    recipe, epochs, f, lr, decay, steps, tokens, passes = expected
    point = points.own(paper, recipe)
    assert point == (float(lr), float(decay), float(epochs), float(f))
    (row,) = budget.budget(paper, {recipe: streams(paper, recipe)}, paper.tokenizer.vocab_size)
    assert row["steps"] == int(steps.replace(",", ""))
    digits = 3 if float(tokens) < 10 else len(tokens.replace(".", ""))
    assert float(f"{row['tokens'] / 1e9:.{digits}g}") == float(tokens)
    if passes != "-":
        assert round(row["passes"][paper.mixes[recipe].layout], 1) == float(passes)


def test_each_point_of_a_search_costs_its_own_steps(paper):
    """simple_2 at 4 epochs and f = 0.75: two learning rates and two weight decays beside it cost what it does, 2 and 8
    epochs half and twice that, f = 0.5 and 0.9 half and two and a half times (real text is 1 - f of what is trained).
    """
    (row,) = budget.budget(paper, {"simple_2": streams(paper, "simple_2")}, paper.tokenizer.vocab_size)
    assert row["searched"] == 9
    assert row["searched_tokens"] == pytest.approx((4 + 0.5 + 2 + 0.5 + 2.5) * row["tokens"], rel=1e-3)
    assert budget.flops_of([row]) == (row["seeds"] * row["tokens"] + row["searched_tokens"]) * row["flops_per_token"]


@pytest.mark.parametrize("layout", ["stitched_2", "simple_2", "stretched_2"])
def test_without_a_separate_real_stream_a_pass_has_the_papers_steps(paper, layout):
    """Section 6.3: stitched, G = 2, alone, 1,521 steps per pass; the same is to be had of the other layouts."""
    only = paper.mixes["stitched_2_only"].model_copy(update={"layout": layout})
    study = paper.model_copy(update={"mixes": {**paper.mixes, "stitched_2_only": only}})
    (row,) = budget.budget(study, {"stitched_2_only": streams(study, "stitched_2_only")}, paper.tokenizer.vocab_size)
    assert row["steps"] == 4 * 1521
    assert row["passes"] == {"real": 0, layout: pytest.approx(4, rel=1e-3)}


def test_the_mix_manifest_plans_the_same_steps_and_passes(paper):
    """The dbt model itself, over streams of the paper's sizes."""
    sql = (REPOSITORY / "dbt_project" / "models" / "study" / "marts" / "mixes.sql").read_text()
    sql = re.sub(r"\{\{ ref\('\w+?__?(recipes|streams_measured|windows_packed)'\) \}\}", r"\1", sql)
    recipes = [row for row in recipe_rows(paper) if row["recipe"] in {row[0] for row in TABLE_ROWS}]
    places = {(row["recipe"], row["layout"]): row for row in stream_rows(paper)}
    measured = []
    for row in recipes:
        for stream in streams(paper, row["recipe"]):
            extra = {"stream_megadocs": 1, "stream_real_tokens": 0} | places[row["recipe"], stream["layout"]]
            measured.append({**stream, **extra})
    connection = duckdb.connect()
    connection.register("recipes", pa.Table.from_pylist(recipes, RECIPES))
    connection.register("streams_measured", pa.Table.from_pylist(measured))
    connection.sql("create table windows_packed (recipe varchar, layout varchar, windows bigint)")
    rows = connection.sql(sql).to_arrow_table().to_pylist()
    found = {row["recipe"]: row for row in rows if row["is_synthetic"] or row["recipe"].startswith("real")}
    for recipe, *_, steps, tokens, passes in TABLE_ROWS:
        row = found[recipe]
        assert row["steps"] == int(steps.replace(",", "")), recipe
        assert row["sequences"] * 4096 / 1e9 == pytest.approx(float(tokens), rel=0.005), recipe
        if passes != "-":
            assert round(row["passes"], 1) == float(passes), recipe


def test_the_papers_student_has_the_papers_parameters(paper):
    vocabulary = paper.tokenizer.vocab_size
    counts = {"real": 299_649_792, "real_150m": 154_147_328, "real_600m": 602_457_088, "real_1b5": 1_540_732_416}
    for recipe, total in counts.items():
        model = paper.training_of(recipe).model
        flops = budget.flops_per_token(model, vocabulary, 4096)
        attention = 6 * model.layers * 4096 * model.width
        assert (flops - attention) // 6 + vocabulary * model.width == total, recipe


@pytest.mark.parametrize("kv_heads", [None, 1])
def test_flops_per_token_are_the_trainers_own(kv_heads):
    model = Model(layers=2, width=32, mlp=48, heads=4, kv_heads=kv_heads)
    assert budget.flops_per_token(model, 300, 64) == Decoder(model, vocab=300, context=64).flops_per_token()


def test_the_members_of_the_ensembles_have_their_own_settings(paper):
    """Section 4: real text 32 epochs at 0.8; simple 16, stitched 32 epochs at f = 0.75, lr 3e-3, weight decay 0.4."""
    settings = {"real_member": (3e-3, 0.8, 32, 0), "simple_32_member": (3e-3, 0.4, 16, 0.75)}
    settings |= {"stitched_32_member": (3e-3, 0.4, 32, 0.75), "stretched_16_member": (3e-3, 0.4, 16, 0.75)}
    assert set(paper.judging.ensembles) == settings.keys()
    for recipe, point in settings.items():
        assert points.own(paper, recipe) == point
        assert len(paper.training_of(recipe).seeds) == 5 and not paper.is_searched(recipe)


def test_the_large_student_is_swept_over_the_papers_grid_and_no_other_mix_is(paper):
    """Section 4: epochs 4 to 16, two learning rates, weight decay up to 3.2, f 0.5 and 0.75; from inside that grid."""
    for kind in ("simple", "stitched", "stretched"):
        found = paper.search_of(f"{kind}_32_1b5")
        assert (found.lr, found.epochs, found.f) == ([1e-3, 3e-3], [4, 8, 16], [0.5, 0.75])
        assert found.weight_decay == [0.1, 0.4, 0.8, 1.6, 3.2]
        assert paper.training_of(f"{kind}_32_1b5").model == paper.training_of("real_1b5").model
    usual = paper.search_of("stitched_32")
    assert (usual.lr, usual.weight_decay) == ([1e-3, 3e-3, 1e-2], [0.1, 0.4, 0.8, 1.6])
    assert (usual.epochs, usual.f) == ([1, 2, 4, 8, 16, 32], [0.5, 0.75, 0.9])


def test_the_reference_law_has_the_predecessors_tokens_and_its_optima_lie_on_the_grid(paper):
    """200M, 400M, 800M and 1.6B real tokens; regularised optima of the 300M model (2509.14786)."""
    optima = {
        "real": (16, 3e-3, 1.6),
        "real_0p25": (16, 3e-3, 0.8),
        "real_0p5": (16, 3e-3, 0.4),
        "real_1": (32, 1e-3, 0.4),
    }
    rows = budget.imagined(paper, documents=8 * 164_000, real=8 * REAL, written=paper.assumed.written)
    for factor, (recipe, (epochs, lr, decay)) in zip((1, 2, 4, 8), optima.items(), strict=True):
        assert rows[recipe][0]["stream_tokens"] == factor * REAL
        found = paper.search_of(recipe)
        assert epochs in found.epochs and lr in found.lr and decay in found.weight_decay
        assert points.possible(paper, recipe, points.Point(lr, decay, epochs, 0))
    assert 3.2 in paper.search_of("real_1").weight_decay, "both neighbours of its own optimum"


@pytest.mark.parametrize(
    ("kind", "generations", "swept"),
    [("simple", 2, {2, 4, 8, 16}), ("simple", 16, {1, 2, 4, 8, 16, 32}), ("simple", 32, {8, 16, 32}),
     ("stitched", 32, {16, 32, 64})],
)  # fmt: skip
def test_the_epoch_sweeps_are_there_and_differ_in_epochs_alone(paper, kind, generations, swept):
    layout = f"{kind}_{generations}"
    names = [n for n in paper.mixes if re.fullmatch(rf"{layout}(_epochs_\d+|_member)?", n)]
    found = [points.own(paper, name) for name in names]
    same = [point for point in found if point.f == 0.75]
    assert {point.epochs for point in same} == swept
    assert len({(point.lr, point.weight_decay) for point in same}) == 1


def test_contexts_keep_the_tokens_of_a_step_and_only_thoughts_have_the_longest(paper):
    found = {kind: {4096} for kind in ("simple", "stitched", "stretched")}
    for name in paper.mixes:
        if "_context_" in name:
            training = paper.training_of(name)
            assert training.context * training.batch == 4096 * 64
            found[name.partition("_")[0]].add(training.context)
    short = {256, 512, 1024, 2048, 4096}
    assert found == {"simple": short, "stitched": short, "stretched": short | {8192}}


def test_nothing_that_the_writer_said_is_filtered(paper):
    for strategy in paper.strategies.values():
        actions = {value for key, value in strategy.review if key not in ("attempts", "benchmarks")}
        assert actions == {"keep"} and strategy.review.attempts == 0
        assert (strategy.sampling.temperature, strategy.sampling.top_p, strategy.sampling.top_k) == (1, 1, 0)


COMPARED = [*(row[0] for row in TABLE_ROWS), "real_0p25", "real_0p5", "real_1", "first_2", "first_8", "simple_8_alone",
            "stitched_8_alone", "stitched_2_only", "real_masked", "simple_16_masked"]  # fmt: skip


@pytest.mark.parametrize("recipe", COMPARED)
def test_what_is_compared_has_three_paired_seeds(paper, recipe):
    """Section 4 has three where orders are compared; one seed tells nothing from seed noise (section 9.9)."""
    assert paper.training_of(recipe).seeds == [0, 1, 2]


def test_real_text_alone_is_tuned_at_every_model_size(paper):
    """Each from the certified optimum of its size (2509.14786), with both neighbours of it on the grid."""
    for recipe in ("real", "real_150m", "real_600m", "real_1b5"):
        assert paper.is_searched(recipe) and paper.search_of(recipe) == paper.search_of("real")
        search, start = paper.search_of(recipe), points.own(paper, recipe)
        for axis in ("lr", "weight_decay", "epochs"):
            assert getattr(start, axis) in getattr(search, axis)[1:-1], (recipe, axis)


def cost(capsys, *arguments: str) -> str:
    assert main(["cost", *arguments]) == 0
    return capsys.readouterr().out


def test_the_papers_cost_is_printed_without_any_data(lake, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PALIMPSEST_DATA", str(tmp_path))
    printed = cost(capsys, "megadocs_paper")
    assert re.search(r"^rephrase +5,248,000 +3,510\.9M +2,000 +487\.6$", printed, re.MULTILINE)
    assert f"{164_000 * (32 + 62):,} requests" in printed
    assert re.search(r"^stitched_16 +49,728 +13,035\.9M +16\.0 \+ 5\.0 +9 \+ 3 +1\.8\de\+19$", printed, re.MULTILINE)
    flops = float(re.search(r"^\d+ runs, [\d,.]+M tokens, (\S+) FLOPs$", printed, re.MULTILINE)[1])
    total = float(re.search(r"In all ([\d,.]+) GPU hours, within", printed)[1].replace(",", ""))
    assert total == pytest.approx(7_527.3e6 / 2_000 / 3600 + flops / 400e12 / 3600, rel=1e-2)
    assert "assumed.tflops of the study" in printed


def test_what_is_assumed_can_be_said_otherwise_and_what_is_unknown_is_not_made_up(lake, capsys):
    said = ["--written", "rephrase=700", "--tokens-per-second", "1000", "--tflops", "1"]
    printed = cost(capsys, "megadocs_paper", *said)
    assert re.search(r"^rephrase +5,248,000 +3,673\.6M +1,000 +1,020\.4$", printed, re.MULTILINE)
    assert re.search(r"In all [\d,.]+ GPU hours, above budget_gpu_hours of 8,000\.", printed)
    on_cpu = cost(capsys, "megadocs_paper", "--tflops", "1", "--device", "cpu")
    assert re.search(r"1,045\.5 to generate, 0\.0 to train\n.*1 TFLOP/s a CPU \(--tflops\)", on_cpu)
    assert main(["cost", "megadocs_paper", "--written", "rehprase=1"]) == 1
    assert "no such strategy, only rephrase" in capsys.readouterr().err
    sizes = ["--documents", "100", "--real", "20000000", "--written", "200"]
    unknown = cost(capsys, "demo", *sizes)
    assert "0.0 to generate, unknown to train" in unknown and "give --tflops, or assumed.tflops" in unknown
    assert "In all: unknown" in unknown


def test_without_data_or_sizes_the_cost_says_what_to_give(lake, capsys):
    assert main(["cost", "demo"]) == 1
    assert "or give --documents, --real and --written" in capsys.readouterr().err
    assert main(["cost", "demo", "--documents", "9", "--real", "900"]) == 1
    assert "assumed.written" in capsys.readouterr().err


ASKED = {"kind": "rephrase", "generations": 8, "engine": {"kind": "vllm", "server": "one"}}


def test_generations_that_two_strategies_share_are_paid_once():
    """The smaller asks for the first of the larger's; other words, seeds and slices are asked on their own.

    A strategy without candidates has the first of one with them.
    """
    server = {"model": "org/name", "revision": "0" * 40, "tokens_per_second": 100.0}
    thought = {**ASKED, "kind": "rationale"}
    strategies = {
        "few": {**ASKED, "generations": 2}, "many": ASKED, "fewer": {**ASKED, "generations": 1},
        "seeded": {**ASKED, "seed": 1}, "thoughts": thought, "halves": {**thought, "generations": 4},
        "better": {**thought, "candidates": 3},
    }  # fmt: skip
    study = Study.model_validate({**study_content(), "servers": {"one": server}, "strategies": strategies, "layouts": {
        "real": {"kind": "real"}, "simple": {"kind": "simple", "strategy": "many"}}})  # fmt: skip
    counts = bill.expected(study, 100, dict.fromkeys(strategies, 10))
    found = {row.strategy: row for row in bill.written(study, counts)}
    assert {name: row.requests for name, row in found.items()} == {
        "few": 200, "many": 600, "fewer": 0, "seeded": 800, "thoughts": 800, "halves": 400, "better": 1600,
    }  # fmt: skip
    assert found["many"].shared == 200 and found["fewer"].shared == 100
    assert found["many"].gpu_hours == pytest.approx(6000 / 100 / 3600)
    assert "200 more requests are those of an earlier strategy" in bill.table([*found.values()])


def publish(lake, stage: str, extra: dict, **tables: list[dict]) -> None:
    def write(directory: Path) -> Facts:
        for name, rows in tables.items():
            pq.write_table(pa.Table.from_pylist(rows), directory / f"{name}.parquet")
        return Facts(extra=extra)

    lake.publish(f"studies/demo/{stage}", write)


def test_sizes_come_from_the_plan_then_from_what_was_made_and_the_speed_from_what_was_trained(lake, capsys):
    """A study on a CPU, before anything is generated, before anything is trained, and after."""
    study = load_study("demo")
    planned = {name: {"requests": 1000 * s.generations, "expected_tokens": 0} for name, s in study.strategies.items()}
    publish(lake, "split", {"train_documents": 1000, "train_tokens": 500_000, "vocabulary": 4096})
    publish(lake, "plan", {"strategies": planned})
    printed = cost(capsys, "demo")
    assert "Sizes are expected by studies/demo/plan/" in printed
    name, strategy = next(iter(study.strategies.items()))
    requests = 1000 * strategy.generations
    assert re.search(rf"^{name} +{requests:,} +{requests * 500 / 1e6:,.1f}M +no GPU +0\.0$", printed, re.MULTILINE)
    assert "0.0 to generate, unknown to train" in printed

    rows = budget.imagined(study, documents=1000, real=600_000, written=dict.fromkeys(study.strategies, 100))
    found = [
        {"strategy": name, "tokens": 7, "output_tokens": None},
        {"strategy": name, "tokens": 9, "output_tokens": 5},
    ]
    publish(lake, "generations", {}, generations=found, generation_drops=[{"strategy": name}])
    publish(lake, "mixes", {}, mixes=[row for rows in rows.values() for row in rows])
    printed = cost(capsys, "demo")
    assert "Sizes are those of studies/demo/mixes/" in printed
    assert re.search(rf"^{name} +3 +0\.0M ", printed, re.MULTILINE)
    assert bill.made(lake.latest("studies/demo/generations")) == {name: (3, 18)}, "7 + 5, and as long for the dropped"

    def run(directory: Path) -> Facts:
        (directory / "evaluation.json").write_text(json.dumps({"device": "cpu", "flops": 4e12, "seconds": 2.0}))
        return Facts()

    reference = points.at(study, rows["real"], points.own(study, "real"), study.training.seeds[0])["run"]
    lake.publish(f"studies/demo/runs/{reference}", run)
    printed = cost(capsys, "demo")
    flops = float(re.search(r"tokens, (\S+) FLOPs$", printed, re.MULTILINE)[1])
    said = re.search(r"Training at 2 TFLOP/s a CPU \(measured in this study's runs\): (\S+) hours", printed)
    assert float(said[1]) == pytest.approx(flops / 2e12 / 3600, rel=0.1)
    assert re.search(r"In all 0\.0 GPU hours, within budget_gpu_hours", printed)
