from __future__ import annotations

import datetime as dt
import json
import uuid

import pyarrow.parquet as pq
import pytest

from palimpsest import cli
from palimpsest import tokenizer as tok
from palimpsest.catalog import Catalog
from palimpsest.generate.estimate import estimate
from palimpsest.generate.ledger import Ledger
from palimpsest.generate.plan import plan
from palimpsest.generate.prompts import SHIPPED
from palimpsest.generate.requests import Outcome
from palimpsest.split import split

G = 5
MOST = 40
BEGAN = dt.datetime(2026, 10, 1, 12, tzinfo=dt.UTC)


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "x"}))
    tok.train([file.read_text() for file in SHIPPED.rglob("*.yaml")] * 3, 1000).save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def make(make_study, model):
    def make(**server: object):
        asked = {"kind": "rephrase", "generations": G, "engine": {"kind": "vllm", "server": "main"}}
        return make_study(
            servers={"main": {"model": str(model), "context": 2048, **server}},
            strategies={
                "asked": {**asked, "sampling": {"max_tokens": MOST}},
                "augment": {"kind": "augment", "generations": 2, "engine": {"kind": "augment"}},
            },
            layouts={"real": {"kind": "real"}},
            mixes={"real": {"layout": "real", "epochs": 1}},
            budget_gpu_hours=0.01,
        )

    return make


@pytest.fixture
def planned(lake, make, documents):
    return plan(make(), lake, split=split(make(), lake, documents=[documents]))


def rows_of(planned) -> list[dict]:
    rows = pq.read_table(planned.file("requests.parquet")).to_pylist()
    return [row for row in rows if row["strategy"] == "asked"]


def answers(rows: list[dict], tokens: int | None = 10, cause: str | None = None) -> list[Outcome]:
    text = None if cause else "Told anew."
    common = {"engine": "vllm", "seed": 0, "output_tokens": tokens, "text": text, "cause": cause}
    return [Outcome(key=row["key"], model=row["model"], **common) for row in rows]


def cost(found, name: str = "asked"):
    return next(c for c in found.costs if c.strategy == name)


def test_a_prompt_is_counted_once_for_all_its_samples(lake, make, planned):
    rows = rows_of(planned)
    found = estimate(make(), planned, Ledger(lake))
    asked = cost(found)
    assert (asked.requests, asked.held, asked.left) == (len(rows), 0, len(rows)) == (20 * G, 0, 20 * G)
    assert asked.input_tokens == sum(row["input_tokens"] for row in rows) / G
    assert asked.output_tokens_max == MOST * len(rows) * 3, "each may be asked for twice more"
    assert asked.output_tokens == sum(row["expected_tokens"] for row in rows) <= asked.output_tokens_max
    assert found.requests == 20 * G + 40 and cost(found, "augment").gpu_hours == 0
    assert found.servers == ["main"]


def test_what_the_ledger_holds_is_not_paid_again(lake, make, planned):
    rows, ledger = rows_of(planned), Ledger(lake)
    whole, some = rows[: 3 * G], rows[3 * G : 3 * G + 2]
    ledger.append(answers(whole))
    ledger.append(answers(some[:1]) + answers(some[1:], None, "too_long"))
    asked = cost(estimate(make(), planned, ledger))
    assert (asked.held, asked.left) == (3 * G + 2, 17 * G - 2)
    assert asked.input_tokens == sum(row["input_tokens"] for row in rows[3 * G :]) / G, "the fourth still has samples"
    ledger.append(answers(rows[3 * G + 1 :]))
    found = estimate(make(), planned, ledger)
    assert cost(found).left == 0 and found.servers == [] and found.gpu_hours == 0
    assert not found.over_budget(make())


def test_what_failed_for_good_is_shown_as_such_and_left_where_it_is_to_be_replayed(lake, make, planned):
    rows, ledger = rows_of(planned), Ledger(lake)
    ledger.append(answers(rows[:-2]) + answers(rows[-2:], None, "too_long"))
    found = estimate(make(), planned, ledger)
    assert (cost(found).left, cost(found).failures, found.servers) == (0, 2, [])
    head, _, asked, *_ = ([cell.strip() for cell in line.split("|")[1:-1]] for line in found.table().splitlines())
    shown = dict(zip(head, asked, strict=True))
    assert (shown["held"], shown["failed"], shown["left"]) == (str(20 * G - 2), "2", "0")
    again = estimate(make(), planned, ledger, replay=True)
    assert (cost(again).left, cost(again).failures, again.servers) == (2, 0, ["main"])
    assert cost(again).input_tokens > 0 and again.over_budget(make())


def test_lengths_so_far_are_expected_of_the_rest(lake, make, planned):
    rows, ledger = rows_of(planned), Ledger(lake)
    guessed = cost(estimate(make(), planned, ledger)).output_tokens / len(rows)
    ledger.append(answers(rows[:19], tokens=7))
    assert cost(estimate(make(), planned, ledger)).output_tokens / (len(rows) - 19) == pytest.approx(guessed, 0.1)
    ledger.append(answers(rows[19:20], tokens=7))
    assert cost(estimate(make(), planned, ledger)).output_tokens == 7 * (len(rows) - 20)


def test_hours_of_a_model_of_unknown_speed_are_unknown_and_ask_for_approval(lake, make, planned):
    found = estimate(make(), planned, Ledger(lake))
    assert found.gpu_hours is None and found.over_budget(make())
    assert "nothing is known of the speed of server main" in found.reason(make())
    assert "unknown" in found.table()
    on_cpu = estimate(make(gpus=0), planned, Ledger(lake))
    assert on_cpu.gpu_hours == 0 and not on_cpu.over_budget(make(gpus=0))


def test_the_study_says_how_fast_until_it_was_measured(lake, make, planned):
    slow, fast = make(tokens_per_second=1.0), make(tokens_per_second=1e6)
    said = estimate(slow, planned, Ledger(lake))
    assert said.gpu_hours == pytest.approx(cost(said).output_tokens / 3600)
    assert said.over_budget(slow) and "above the budget of 0.01" in said.reason(slow)
    within = estimate(fast, planned, Ledger(lake))
    assert not within.over_budget(fast) and "within the budget of 0.01" in within.reason(fast)
    use(rows_of(planned)[0]["model"], tokens=5000, paid=10.0)
    use("another model", tokens=10**9, paid=1.0)
    assert cost(estimate(slow, planned, Ledger(lake))).tokens_per_second == 500
    two = make(gpus=2)
    assert cost(estimate(two, planned, Ledger(lake))).tokens_per_second == 250, "of each GPU"
    named = make(endpoints=["http://one.example:8000", "http://two.example:8000"])
    assert cost(estimate(named, planned, Ledger(lake))).tokens_per_second == 250, "of each server that runs already"
    use(rows_of(planned)[0]["model"], tokens=5000, paid=10.0)
    assert cost(estimate(slow, planned, Ledger(lake))).tokens_per_second == 1000, "side by side"


def use(model: str, *, tokens: int, paid: float) -> None:
    catalog = Catalog.from_env()
    catalog.ready()
    seconds = {"wall": paid, "paid": paid, "useful": paid, "repaid": 0.0, "failed": 0.0, "idle": 0.0}
    catalog.record_usage(
        str(uuid.uuid4()),
        study="other",
        shard=0,
        engine="vllm",
        model=model,
        worker="worker",
        state="done",
        started_at=BEGAN,
        requests=1,
        input_tokens=1,
        output_tokens=tokens,
        **{f"{name}_seconds": value for name, value in seconds.items()},
    )


def test_the_table_is_markdown_and_reads_well_in_a_terminal(lake, make, planned):
    lines = estimate(make(tokens_per_second=100.0), planned, Ledger(lake)).table().splitlines()
    assert len({len(line) for line in lines[:5]}) == 1 and lines[5] == ""
    assert all(line.startswith("|") and line.endswith("|") and line.count("|") == 10 for line in lines[:5])
    assert set(lines[1]) <= set("|-:")
    assert lines[2].split("|")[1].strip() == "asked" and lines[4].split("|")[1].strip() == "all"
    assert lines[6].startswith("- asked: weights:") and lines[6].endswith("on server main, 100 tokens/s per GPU")
    assert lines[7] == "- augment: augment:1"


def test_the_command_line_prints_what_it_will_cost(lake, make, planned, documents, capsys):
    study = make(tokens_per_second=1.0)
    assert cli.main(["plan", str(study.path)]) == 0
    said = capsys.readouterr().out
    assert "studies/small/plan" in said and "| asked" in said and "GPU hours, above the budget of 0.01" in said
