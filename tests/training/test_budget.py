"""The paper's study costs what the paper's runs cost, and a budget is what will be trained."""

from __future__ import annotations

import re

import duckdb
import pyarrow as pa
import pytest

from palimpsest.config import Model, load_study
from palimpsest.lake import REPOSITORY
from palimpsest.mixes import RECIPES, recipe_rows, stream_rows
from training import budget, points
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
"""
"""Digest, section 4: real epochs, f, lr, weight decay, steps, tokens in thousand millions, passes over the synthetic
stream. The digest calls 'latent' what a layout here calls 'stretched'.
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


def test_without_a_separate_real_stream_a_pass_has_the_papers_steps(paper):
    """Section 6.3: stitched, G = 2, alone, 1,521 steps per pass."""
    (row,) = budget.budget(paper, {"stitched_2_only": streams(paper, "stitched_2_only")}, paper.tokenizer.vocab_size)
    assert row["steps"] == 4 * 1521
    assert row["passes"] == {"real": 0, "stitched_2": pytest.approx(4, rel=1e-3)}


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
    found = {row["recipe"]: row for row in rows if row["is_synthetic"] or row["recipe"] == "real"}
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


def test_the_budget_is_printed_before_there_is_any_data(capsys):
    sizes = ["--documents", "164000", "--real", str(REAL), "--written", "rephrase=669", "--written", "395"]
    assert budget.main(["megadocs_paper", *sizes]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^stitched_16 +49,728 +13,035\.9M +16\.0 \+ 5\.0 +9 \+ 3 +1\.8\de\+19$", printed, re.MULTILINE)
    assert re.search(r"^\d+ runs, [\d,.]+M tokens, \d\.\d\de\+2\d FLOPs$", printed, re.MULTILINE)
    assert budget.main(["megadocs_paper", *sizes[:-2]]) == 1
    assert "how many tokens a generation of 'thought_16' has is missing" in capsys.readouterr().err


def test_without_data_or_sizes_the_budget_says_what_to_give(lake, capsys):
    assert budget.main(["demo"]) == 1
    assert "or give --documents, --real and --written" in capsys.readouterr().err
