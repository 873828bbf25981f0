"""The command line, environment and GPUs of a study's servers."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from palimpsest.config import ConfigError, Server
from palimpsest.lake import REPOSITORY, Lake
from palimpsest.serve.folder import Spec
from palimpsest.state import state_dir

SHUTDOWN_S = 30
"""How long a server asked to stop may finish what it answers (vLLM's --shutdown-timeout, 0 by default)."""
ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PYTHONSAFEPATH": "1",
    "PYTHONUNBUFFERED": "1",
    "VLLM_NO_USAGE_STATS": "1",
}

ON_CPU: dict[str, bool | int | float | str] = {"enable-chunked-prefill": False, "gpu-memory-utilization": 0.3}
"""Unless the study says otherwise. vLLM asks for nearly all of a machine's memory, as of a GPU's, and ends if others
have some of it. A seeded request whose prompt is cut in two ends the engine of vLLM 0.32 on a CPU ("CPU Generator does
not use offset", v1/worker/gpu_model_runner.py): a server without GPU reads prompts whole."""


def interpreter() -> Path:
    """The Python that has vLLM: PALIMPSEST_VLLM_PYTHON, or the one `make vllm` builds."""
    named = os.environ.get("PALIMPSEST_VLLM_PYTHON")
    python = Path(named) if named else REPOSITORY / ".venv-vllm" / "bin" / "python"
    if not python.exists():
        raise ConfigError(
            f"{python}: no such file, so there is no vLLM to start. Run `make vllm` (needs an NVIDIA GPU), or set "
            "PALIMPSEST_VLLM_PYTHON to a Python that has it, or give the server 'endpoints' that run already"
        )
    return python.absolute()  # not resolved: a virtual environment's Python is a link


def specification(server: Server, lake: Lake) -> Spec:
    """What a keeper is to run for the server, as if every GPU were free (`on_gpus` deals them out).

    Its id is the same for every study that asks for the same server on this machine, so they share it.
    """
    from palimpsest.generate.models import model_source

    source = model_source(server, lake)
    command = [
        str(interpreter()),
        "-m",
        "vllm.entrypoints.openai.api_server",
        f"--model={source.path or server.model}",
        *([f"--revision={server.revision}"] if server.is_hub_model else []),
        f"--served-model-name={source.served_name}",
        "--host=127.0.0.1",
        "--port={port}",
        f"--max-model-len={server.context}",
        "--generation-config=vllm",  # a model's own sampling defaults would change what the key says
        "--disable-uvicorn-access-log",
        f"--shutdown-timeout={SHUTDOWN_S}",
        *rendered(({} if server.gpus else ON_CPU) | server.arguments),
    ]
    environment = ENVIRONMENT | ({} if server.is_hub_model else {"HF_HUB_OFFLINE": "1"})
    each = int(server.arguments.get("tensor-parallel-size", 1)) * int(server.arguments.get("pipeline-parallel-size", 1))
    if server.gpus % each:
        raise ConfigError(
            f"gpus: {server.gpus} is no multiple of the {each} GPUs that one server takes (its arguments)"
        )
    replicas = max(1, server.gpus // each)
    what = [source.identity, command, environment, server.gpus, str(state_dir())]
    return Spec(
        id=hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16],
        model=source.served_name,
        command=command,
        environment=environment,
        replicas=[{}] * replicas,
        ready_within_s=server.ready_within_s,
        shutdown_s=float(server.arguments.get("shutdown-timeout", SHUTDOWN_S)),
        idle_s=float(os.environ.get("PALIMPSEST_SERVER_IDLE_S") or 900),
    )


def rendered(arguments: dict[str, bool | int | float | str]) -> list[str]:
    """{enforce-eager: true, block-size: 16} → --enforce-eager --block-size=16; false → --no-…."""
    switches = {True: "--{}", False: "--no-{}"}
    return [
        switches[value].format(key) if isinstance(value, bool) else f"--{key}={value}"
        for key, value in arguments.items()
    ]


def gpus_of_replicas(gpus: int, replicas: int, taken: dict[str, str]) -> list[dict[str, str]]:
    """Each replica's CUDA_VISIBLE_DEVICES: GPUs this process may see, none that ``taken`` names (GPU → who has it).

    ConnectionError if too few are free. That other programs hold a GPU's memory is vLLM's to say, in its log.
    """
    if not gpus:
        return [{"CUDA_VISIBLE_DEVICES": ""}] * replicas
    visible = visible_gpus()
    free = [gpu for gpu in (visible or map(str, range(gpus + len(taken)))) if gpu not in taken]
    if visible is not None and len(visible) < gpus:
        raise ConfigError(
            f"the server needs {gpus} GPUs; {len(visible)} are visible here: {', '.join(visible) or 'none'} "
            "(nvidia-smi, CUDA_VISIBLE_DEVICES). Lower 'gpus' (0 serves on the CPU), or name 'endpoints'"
        )
    if len(free) < gpus:
        holders = "; ".join(f"{gpu}: {who}" for gpu, who in sorted(taken.items()))
        raise ConnectionError(
            f"the server needs {gpus} GPUs; {len(free)} are free, others have servers of this machine ({holders}). "
            "Wait, or stop one: python -m palimpsest serve stop STUDY"
        )
    each = gpus // replicas
    return [{"CUDA_VISIBLE_DEVICES": ",".join(free[n * each : (n + 1) * each])} for n in range(replicas)]


def visible_gpus() -> list[str] | None:
    """As CUDA_VISIBLE_DEVICES names them, or else numbered as nvidia-smi lists them; None if nobody can say."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [gpu.strip() for gpu in named.split(",") if gpu.strip() not in ("", "-1")]
    if not shutil.which("nvidia-smi"):
        return None
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        raise ConnectionError("nvidia-smi does not answer: the driver hangs; look at dmesg") from None
    return [str(n) for n, _ in enumerate(_gpu_lines(listed.stdout.splitlines()))] if listed.returncode == 0 else None


def _gpu_lines(lines: Iterable[str]) -> list[str]:
    return [line for line in lines if line.startswith("GPU ")]
