from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from transformers import LlamaForCausalLM

from palimpsest.lake import Lake, LakeError, NotPublished
from tests.training.conftest import make_study
from training import live, loop, pretrain
from training import run as inside
from training.__main__ import main

CURVE = Path(__file__).parent / "curves" / "tiny.json"


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch):
    """Bit-for-bit tests are about the CPU, also on a machine with a GPU."""
    monkeypatch.setattr(inside, "choose_device", lambda rank: torch.device("cpu"))


def plan(small, study=None):
    return {run["run"]: run for run in pretrain.plan_runs(study or small.study, small.mixes)}


def train(small, lake, name, study=None, **options):
    study = study or small.study
    run = plan(small, study)[name]
    return pretrain.train(study, lake, tokens=small.tokens, mixes=small.mixes, run=run, **options)


def curve(published):
    return pq.read_table(published.file("curve.parquet")).to_pydict()


class Recorder:
    def __init__(self):
        self.points = []

    def log_metrics(self, metrics, step):
        self.points.append((step, dict(metrics)))


def test_the_plan_has_one_run_per_recipe_and_seed_longest_first(small):
    runs = pretrain.plan_runs(small.study, small.mixes)
    assert [run["run"] for run in runs] == ["simple-s0", "simple-s1", "real-s0", "real-s1"]
    assert json.loads(json.dumps(runs)) == runs
    assert [stream["layout"] for stream in runs[0]["streams"]] == ["real", "simple"]
    assert (runs[0]["f"], runs[2]["f"]) == (0.75, 0.0)


def test_a_run_publishes_its_evaluation_curve_positions_and_model(small, lake):
    published = train(small, lake, "simple-s0")
    run, training = plan(small)["simple-s0"], small.study.training
    found = json.loads(published.file("evaluation.json").read_text())
    assert published.dataset == "studies/small/runs/simple-s0"
    assert found["losses"] == published.extra["losses"]
    assert all(0 < found["losses"][name] < math.log(320) for name in ("iid", "short", "long"))
    assert found["tokens"]["total"] == run["steps"] * training.batch * training.context
    synthetic = run["streams"][1]
    assert 0 < synthetic["synthetic_share"] < 1, "the simple stream holds a real copy of each document"
    trained = synthetic["sequences"] * training.context * synthetic["synthetic_share"]
    assert found["tokens"]["synthetic"] == pytest.approx(trained, rel=0.05)  # the windows dealt are no whole passes
    assert found["tokens"]["real"] == sum(seen["real"] for seen in found["exposures"].values())
    assert found["tokens"]["real"] + found["tokens"]["synthetic"] == found["tokens"]["total"]
    assert found["tokens"]["padding"] == 0
    assert found["precision"] == "float32"
    assert found["parameters"]["total"] > found["parameters"]["non_embedding"] > 0
    assert pq.read_table(published.file("position.parquet")).to_pylist() == found["by_position"]
    documents = pq.read_table(published.file("documents.parquet")).to_pylist()
    held_out = pq.read_table(small.tokens.file("validation.index.parquet"))
    assert [row["document_id"] for row in documents] == held_out["document_id"].to_pylist()
    assert found["losses"]["iid"] == pytest.approx(
        sum(row["nats"] for row in documents) / sum(row["tokens"] for row in documents), rel=1e-9
    )
    points = curve(published)
    assert points["step"] == list(range(1, run["steps"] + 1))
    assert points["iid"][-1] == found["losses"]["iid"]
    assert sum(value is not None for value in points["iid"]) == training.evaluations
    assert points["train_loss"][0] > points["train_loss"][-1]
    model = LlamaForCausalLM.from_pretrained(published.file("model"))
    assert model.config.vocab_size == small.tokens.extra["vocabulary"]


def test_the_same_seed_gives_the_same_bits_and_another_seed_other_losses(small, lake):
    first = train(small, lake, "real-s0")
    again = train(small, lake, "real-s0", study=make_study(evaluations=3))
    other = train(small, lake, "real-s1")
    assert first.uri != again.uri
    assert curve(first)["train_loss"] == curve(again)["train_loss"]
    assert first.file("model/model.safetensors").read_bytes() == again.file("model/model.safetensors").read_bytes()
    assert curve(first)["train_loss"] != curve(other)["train_loss"]


def test_losses_follow_the_recorded_curve(small, lake):
    """Guards the numbers of the whole loop; after a meant change, write the new values to the file."""
    found = curve(train(small, lake, "simple-s0"))
    recorded = json.loads(CURVE.read_text())
    assert found["train_loss"] == pytest.approx(recorded["train_loss"], rel=2e-3)
    assert found["iid"][-1] == pytest.approx(recorded["iid"], rel=2e-3)


def machine() -> str:
    """What a run's bits depend on besides its code and data."""
    keys = ("cpu family", "model", "model name")
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    found = [value.strip() for key, _, value in (line.partition(":") for line in lines) if key.strip() in keys]
    capability = torch.backends.cpu.get_cpu_capability()
    return f"torch {torch.__version__}, {capability}, processor {' '.join(found[:3])}"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_todays_settings_keep_their_bits(small, lake, precision):
    """Recorded before the trainer learned masks, dropout, checkpoints and processes; none of them may shift a bit.

    Another processor or torch rounds otherwise; there the curve above is the guard. After a meant change of numbers,
    delete the file's entries and record them again.
    """
    recorded = json.loads((CURVE.parent / "exact.json").read_text())
    if machine() != recorded["machine"]:
        pytest.skip(f"recorded on {recorded['machine']}; this is {machine()}")
    study = make_study(precision=precision)
    for name in plan(small, study):
        published = train(small, lake, name, study)
        losses = [float(loss).hex() for loss in curve(published)["train_loss"]]
        assert recorded["runs"][f"{name} {precision}"] == {
            "train_loss": losses[-1],
            "iid": published.extra["losses"]["iid"].hex(),
            "losses": hashlib.sha256(json.dumps(losses).encode()).hexdigest(),
            "weights": hashlib.sha256(published.file("model/model.safetensors").read_bytes()).hexdigest(),
        }


def test_an_unchanged_run_is_not_trained_again_nor_when_the_study_gains_seeds(small, lake):
    first = train(small, lake, "real-s0")
    steps = []
    more = make_study(seeds=[0, 1, 2], threads=2)
    again = train(small, lake, "real-s0", study=more, progress=lambda *step: steps.append(step))
    assert again.ref == first.ref
    assert steps == []


def test_a_run_cut_off_publishes_nothing_and_starts_over(small, lake):
    def cut(step, steps, loss):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(small, lake, "real-s0", progress=cut)
    with pytest.raises(NotPublished):
        lake.latest("studies/small/runs/real-s0")
    assert train(small, lake, "real-s0").file("evaluation.json").exists()


def test_divergence_names_run_and_step(small, lake):
    study = make_study(optimizer={"lr": 1e6, "clip": 1e9, "warmup": 0.0})
    with pytest.raises(ValueError, match=r"run real-s0 diverged at step \d+: loss .*; lower training\.optimizer\.lr"):
        train(small, lake, "real-s0", study=study)
    with pytest.raises(NotPublished):
        lake.latest("studies/small/runs/real-s0")


def test_tracker_and_progress_see_the_run_live(small, lake):
    recorder, seen = Recorder(), []
    published = train(small, lake, "real-s0", tracker=recorder, progress=lambda *step: seen.append(step))
    steps = plan(small)["real-s0"]["steps"]
    assert [step for step, *_ in seen] == list(range(1, steps + 1))
    last, metrics = recorder.points[-1]
    assert last == steps
    assert metrics["iid_loss"] == published.extra["losses"]["iid"]
    assert {"train_loss", "learning_rate"} <= set(recorder.points[0][1])


def test_a_batch_above_the_memory_limit_is_accumulated_to_the_same_losses(small, lake):
    whole = curve(train(small, lake, "real-s0"))["train_loss"]
    parts = curve(train(small, lake, "real-s0", study=make_study(evaluations=1, micro_tokens=33)))["train_loss"]
    assert parts == pytest.approx(whole, rel=1e-3)


def test_a_run_of_another_plan_is_refused(small, lake):
    run = plan(small)["real-s0"] | {"steps": 1}
    with pytest.raises(LakeError, match="run real-s0 is not in the plan"):
        pretrain.train(small.study, lake, tokens=small.tokens, mixes=small.mixes, run=run)


def test_a_mix_dealt_otherwise_than_the_mixer_deals_is_refused(small):
    with pytest.raises(LakeError, match="recipe simple: mixes plan"):
        pretrain.plan_runs(make_study(block=5), small.mixes)


@pytest.mark.parametrize(("setting", "expected"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_precision_is_as_asked(setting, expected):
    assert loop.choose_precision(setting, torch.device("cpu")) == expected


def test_bf16_reaches_the_losses_of_fp32(small, lake):
    full = train(small, lake, "simple-s0").extra["losses"]["iid"]
    half = train(small, lake, "simple-s0", study=make_study(precision="bf16")).extra["losses"]["iid"]
    assert half == pytest.approx(full, abs=0.05)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_gpu_reaches_the_losses_of_a_cpu(small, lake, monkeypatch, precision):
    cpu = train(small, lake, "simple-s0").extra["losses"]["iid"]
    monkeypatch.setattr(inside, "choose_device", lambda rank: torch.device("cuda"))
    study = make_study(precision=precision, evaluations=3)
    assert train(small, lake, "simple-s0", study=study).extra["losses"]["iid"] == pytest.approx(cpu, abs=0.05)


def test_an_unknown_run_or_study_on_the_command_line_is_one_clear_message(small, store, monkeypatch, tmp_path, capsys):
    import yaml

    (tmp_path / "corpora").mkdir()
    (tmp_path / "corpora" / "sample.yaml").touch()
    study = small.study.model_dump(mode="json") | {"judging": {"facts": 0}}  # its split has no text to ask about
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(study))
    monkeypatch.setenv("PALIMPSEST_CORPORA", str(tmp_path / "corpora"))
    monkeypatch.setenv("PALIMPSEST_STUDIES", str(tmp_path))
    assert main(["train", "small", "--run", "nope"]) == 1
    assert "study small has no run nope; its runs: simple-s0" in capsys.readouterr().err
    assert main(["train", "smal"]) == 1
    assert "did you mean 'small'" in capsys.readouterr().err
    assert main(["plan", "small"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert main(["train", "small", "--run", "real-s1"]) == 0
    assert "studies/small/runs/real-s1/" in capsys.readouterr().out


def test_a_run_trained_before_gives_its_new_tracking_run_the_same_curve(small, lake):
    first, second = Recorder(), Recorder()
    published = train(small, lake, "real-s0", tracker=first)
    assert train(small, lake, "real-s0", tracker=second).uri == published.uri
    evaluated = [(step, metrics) for step, metrics in first.points if "iid_loss" in metrics]
    assert len(evaluated) == small.study.training.evaluations
    again = dict(second.points)
    for step, metrics in evaluated:
        assert metrics.pop("tokens_per_second") > 0
        assert again[step] == pytest.approx(metrics)
    assert list(again) == [step for step, _ in first.points], "a short run has the points it had while it trained"


def test_a_long_run_has_points_as_time_goes_by_and_its_speed(small, lake, tmp_path, monkeypatch):
    short, every, few = Recorder(), Recorder(), Recorder()
    study = make_study(checkpoint_seconds=0)
    train(small, lake, "simple-s0", study=study, tracker=short)
    steps = plan(small)["simple-s0"]["steps"]
    assert len(short.points) < steps
    monkeypatch.setattr(live, "SECONDS", 0)
    published = train(small, Lake(tmp_path / "every"), "simple-s0", study=study, tracker=every)
    assert [step for step, _ in every.points] == list(range(1, steps + 1))
    tokens = study.training.batch * study.training.context
    seconds = sum(tokens / metrics["tokens_per_second"] for _, metrics in every.points)
    assert seconds == pytest.approx(published.extra["seconds"], abs=1e-3)
    monkeypatch.setattr(live, "POINTS", 1)
    monkeypatch.setattr(live, "MOST", 8)
    train(small, Lake(tmp_path / "few"), "simple-s0", study=study, tracker=few)
    assert [step for step, _ in few.points] == list(range(4, steps + 1, 4))


def test_a_run_taken_up_gives_its_new_tracking_run_the_points_before(small, lake, monkeypatch):
    def cut(step, steps, loss):
        if step == 20:
            raise KeyboardInterrupt

    study = make_study(checkpoint_seconds=0)
    monkeypatch.setattr(live, "SECONDS", 0)
    with pytest.raises(KeyboardInterrupt):
        train(small, lake, "simple-s0", study=study, progress=cut)
    again = Recorder()
    published = train(small, lake, "simple-s0", study=study, tracker=again)
    assert [step for step, _ in again.points] == curve(published)["step"]
    assert [metrics["train_loss"] for _, metrics in again.points] == curve(published)["train_loss"]
    assert ["tokens_per_second" in metrics for _, metrics in again.points] == [step > 19 for step, _ in again.points]


def test_points_before_a_run_was_taken_up_are_as_far_apart_as_they_were():
    found = live.Live(steps=100_000, evaluated=[50_000], tokens=1).past(20_000, seconds=4000)
    assert found[:3] == [100, 200, 300], "a thousand in all, though a step took 0.2 s"
    found = live.Live(steps=2400, evaluated=[], tokens=1).past(1200, seconds=1200)
    assert found[:21] == [*range(5, 101, 5), 105]
    found = live.Live(steps=2400, evaluated=[], tokens=1).past(1200, seconds=60)
    assert found == [*range(100, 1201, 100)], "a short run has none in between"
