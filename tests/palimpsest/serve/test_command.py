"""What is started, with which arguments, on which GPUs."""

from __future__ import annotations

import pytest

from palimpsest.config import ConfigError
from palimpsest.serve import command
from palimpsest.serve.folder import STARTED, Folder
from palimpsest.serve.replica import LOG_BYTES, Replica

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_arguments_become_options():
    arguments = {
        "enforce-eager": True,
        "enable-prefix-caching": False,
        "block-size": 16,
        "speculative-config": '{"n": 1}',
    }
    assert command.rendered(arguments) == [
        "--enforce-eager",
        "--no-enable-prefix-caching",
        "--block-size=16",
        '--speculative-config={"n": 1}',
    ]


def test_a_hub_model_is_served_by_commit_under_its_name_on_this_machine_only(make, here):
    server = make(model="org/name", revision=COMMIT, context=2048, gpus=1, arguments={}).servers["tiny"]
    spec = command.specification(server, here)
    assert spec.model == "org/name"
    expected = ["--model=org/name", f"--revision={COMMIT}", "--host=127.0.0.1", "--max-model-len=2048"]
    assert set(expected) <= set(spec.command)
    assert "HF_HUB_OFFLINE" not in spec.environment


def test_a_folder_is_served_without_asking_the_hub(make, here, model):
    spec = command.specification(make().servers["tiny"], here)
    assert f"--model={model}" in spec.command
    assert spec.environment["HF_HUB_OFFLINE"] == "1"
    assert spec.environment["VLLM_NO_USAGE_STATS"] == "1"


def test_without_gpu_prompts_are_read_whole_unless_the_study_says_otherwise(make, here, monkeypatch):
    """A seeded request whose prompt is cut ends vLLM's engine on a CPU."""
    option = "--no-enable-chunked-prefill"
    assert option in command.specification(make(arguments={}).servers["tiny"], here).command
    own = make(arguments={"enable-chunked-prefill": True}).servers["tiny"]
    assert "--enable-chunked-prefill" in command.specification(own, here).command
    assert option not in command.specification(own, here).command
    assert option not in command.specification(make(gpus=1, arguments={}).servers["tiny"], here).command


def test_the_same_server_is_the_same_and_another_is_another(make, here, model, tmp_path, monkeypatch):
    def identity(**settings: object) -> str:
        return command.specification(make(**settings).servers["tiny"], here).id

    first = identity()
    assert identity(named="other", ready_within_s=5) == first
    assert identity(context=4096) != first
    (model / "model.safetensors").write_bytes(b"other weights")
    assert identity() != first
    second = identity()
    monkeypatch.setenv("PALIMPSEST_STATE", str(tmp_path / "elsewhere"))
    assert identity() != second


def test_a_missing_vllm_says_how_to_get_it(make, here, monkeypatch):
    monkeypatch.setenv("PALIMPSEST_VLLM_PYTHON", "/nonexistent/python")
    with pytest.raises(ConfigError, match=r"/nonexistent/python: no such file.*make vllm"):
        command.specification(make().servers["tiny"], here)


def test_gpus_are_dealt_out(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b,GPU-c,GPU-d")
    one_each = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in ("GPU-a", "GPU-c", "GPU-d")]
    assert command.gpus_of_replicas(3, 3, {"GPU-b": "other.llama"}) == one_each
    in_pairs = [{"CUDA_VISIBLE_DEVICES": pair} for pair in ("GPU-a,GPU-b", "GPU-c,GPU-d")]
    assert command.gpus_of_replicas(4, 2, {}) == in_pairs
    assert command.gpus_of_replicas(0, 1, {}) == [{"CUDA_VISIBLE_DEVICES": ""}]
    with pytest.raises(ConnectionError, match="needs 2 GPUs; 1 are free.*GPU-b: other.llama"):
        command.gpus_of_replicas(2, 2, dict.fromkeys(["GPU-a", "GPU-b", "GPU-c"], "other.llama"))


def test_more_gpus_than_there_are_is_no_weather(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(ConfigError, match="needs 2 GPUs; 1 are visible here: 0"):
        command.gpus_of_replicas(2, 2, {})


def test_gpus_are_counted_by_nvidia_smi(monkeypatch, tmp_path):
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\necho 'GPU 0: NVIDIA H200 (UUID: GPU-1)'\necho '  MIG 1g.18gb Device 0: (UUID: M)'\n"
        "echo 'GPU 1: NVIDIA H200 (UUID: GPU-2)'\n"
    )
    program.chmod(0o755)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert command.visible_gpus() == ["0", "1"]


def test_a_server_over_several_gpus_needs_a_multiple(make, here):
    server = make(gpus=3, arguments={"tensor-parallel-size": 2}).servers["tiny"]
    with pytest.raises(ConfigError, match="3 is no multiple of the 2"):
        command.specification(server, here)
    assert (
        len(command.specification(make(gpus=4, arguments={"tensor-parallel-size": 2}).servers["tiny"], here).replicas)
        == 2
    )


def test_a_long_log_moves_aside_and_goes_on(make, here, tmp_path):
    folder = Folder(tmp_path)
    replica = Replica(folder, command.specification(make().servers["tiny"], here), 0, "key", lambda: None)
    with folder.log(0).open("ab") as log:
        log.write(b"x" * LOG_BYTES + b"end")
        log.flush()
        replica.rotate()
        log.write(b"more")
    assert folder.log(0).read_bytes() == b"more"
    assert (tmp_path / "server-0.log.1").read_bytes().endswith(b"xend")


def test_an_error_quotes_the_first_cause_before_the_last_lines(tmp_path):
    log = [STARTED, "command", "INFO ready soon", "ValueError: too little memory", *(f"at line {n}" for n in range(60))]
    folder = Folder(tmp_path)
    folder.log(0).write_text("\n".join(["OSError: of a start before", *log, "RuntimeError: see root cause above"]))
    said = folder.tail(0).splitlines()
    assert said[:2] == ["  | ValueError: too little memory", "  | …"]
    assert said[-1] == "  | RuntimeError: see root cause above" and len(said) == 27
    assert folder.tail(0, 1) == "  | RuntimeError: see root cause above"
