"""The clients of one server, each a process of its own that is given the same requests and says what it took."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from palimpsest.generate import answers
from palimpsest.lake import REPOSITORY
from tests.benchmarks.serving.server import Serving
from tests.benchmarks.serving.study import STRATEGY, Planned

HERE = Path(__file__).parent
DATATROVE = ["datatrove==0.10.1", "httpx==0.28.1", "orjson==3.13.0", "aiosqlite==0.22.1", "xxhash==4.1.0"]
DATATROVE += ["aiofiles==25.1.0", "huggingface-hub==2.4.0", "numpy==2.4.6", "fsspec==2026.9.0", "dill==0.4.1"]
PATIENCE_S = 1800


@dataclass(frozen=True)
class Took:
    seconds: float
    tokens: int

    @property
    def rate(self) -> float:
        """Output tokens per second."""
        return self.tokens / self.seconds


@dataclass(frozen=True)
class Work:
    """What is asked, and where: written for each client in its own way below ``folder``."""

    folder: Path
    file: Path
    planned: Planned
    serving: Serving

    @property
    def strategy(self):
        return self.planned.study.strategies[STRATEGY]

    @property
    def tokens(self) -> int:
        """Output tokens of all requests: none ends early."""
        return len(self.planned.requests()) * self.strategy.sampling.max_tokens

    def prompts(self) -> list[dict]:
        """Each document's prompt with the seed of its first sample, in the plan's order."""
        return [{"prompt": r.prompt.text, "seed": r.seed} for r in self.planned.requests() if r.g == 0]

    # ---- commands

    def ours(self, what: str, lake: Path | None = None) -> list[str]:
        lake = lake or Path(self.planned.lake.base)
        return [sys.executable, "-m", "tests.benchmarks.serving.ours", what, str(self.file), str(lake)]

    def plain(self, *, one_by_one: bool) -> list[str]:
        """One HTTP request per document; ``one_by_one``: per sample."""
        file = self.folder / f"requests-{one_by_one}.jsonl"
        sampling, bodies = self.strategy.sampling.model_dump(), []
        each = 1 if one_by_one else self.strategy.generations
        for request in self.planned.requests():
            if request.g % each == 0:
                body = answers.body(self.serving.model, request.prompt, sampling, seed=request.seed, n=each)
                bodies.append(body.decode())
        file.write_text("\n".join(bodies), encoding="utf-8")
        return [sys.executable, str(HERE / "plain.py"), self.serving.url, str(file)]

    def load_generator(self) -> list[str]:
        """``vllm bench serve`` at an infinite request rate, as many connections as it likes."""
        extra = {"seed": 1, "n": self.strategy.generations}
        options = {
            "backend": "openai",
            "base-url": self.serving.url,
            "endpoint": "/v1/completions",
            "model": self.serving.model,
            "request-rate": "inf",
            "temperature": self.strategy.sampling.temperature,
            "extra-body": json.dumps(extra),
            "result-filename": str(self.folder / "serve.json"),
            "sharegpt-output-len": self.strategy.sampling.max_tokens,
        }
        command = [os.environ["PALIMPSEST_VLLM_PYTHON"], str(HERE / "load_generator.py"), "serve"]
        return [*command, "--ignore-eos", "--disable-tqdm", "--disable-shuffle", "--save-result", *self._data(options)]

    def offline(self, arguments: Sequence[str]) -> list[str]:
        """``vllm bench throughput``: the engine without HTTP, with the server's own arguments."""
        options = {
            "model": str(self.planned.study.servers["local"].model),
            "max-model-len": self.planned.study.servers["local"].context,
            "n": self.strategy.generations,
            "output-json": str(self.folder / "offline.json"),
            "output-len": self.strategy.sampling.max_tokens,
        }
        command = [os.environ["PALIMPSEST_VLLM_PYTHON"], str(HERE / "load_generator.py"), "throughput"]
        return [*command, *arguments, *self._data(options)]

    def _data(self, options: Mapping[str, object]) -> list[str]:
        prompts = self.prompts()
        file = self.folder / "prompts.json"
        rows = [{"conversations": [{"value": row["prompt"]}, {"value": "-"}]} for row in prompts]
        file.write_text(json.dumps(rows), encoding="utf-8")
        data = {"dataset-name": "sharegpt", "dataset-path": str(file), "num-prompts": len(prompts)}
        data["tokenizer"] = str(self.planned.study.servers["local"].model)
        return [f"--{name}={value}" for name, value in (options | data).items()]

    def datatrove(self, python: Path, place: Path, concurrency: int) -> list[str]:
        place.mkdir(exist_ok=True)
        names = ("temperature", "top_p", "max_tokens")
        settings = {
            "url": self.serving.url,
            "model": self.serving.model,
            "samples": self.strategy.generations,
            "sampling": {name: getattr(self.strategy.sampling, name) for name in names},
            "documents": self.prompts(),
            "concurrency": concurrency,
            "output": str(place / "output"),
            "checkpoints": str(place / "checkpoints"),
        }
        (place / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
        return [str(python), str(HERE / "datatrove_runner.py"), str(place / "settings.json")]

    # ---- and what they say

    def start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        vllm = command[0] == os.environ["PALIMPSEST_VLLM_PYTHON"]
        return subprocess.Popen(
            command,
            cwd=self.folder if vllm else REPOSITORY,
            env=self.serving.environment if vllm else os.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=(self.folder / "client.log").open("wb"),
        )

    def run(self, command: Sequence[str]) -> Took:
        """What a client took, by its own clock; RuntimeError with its last words where it failed."""
        process = self.start(command)
        said, _ = process.communicate(timeout=PATIENCE_S)
        if process.returncode:
            end = (self.folder / "client.log").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{end}\n{said.decode()[-2000:]}")
        if str(HERE / "load_generator.py") not in command:
            found = json.loads(said.splitlines()[-1])
            return Took(found["seconds"], found["tokens"] or self.tokens)
        if "serve" in command:
            found = json.loads((self.folder / "serve.json").read_text())
            if found["failed"] or found["total_output_tokens"] != self.tokens:
                raise RuntimeError(f"vllm bench serve: {found['failed']} failed, {found['total_output_tokens']} tokens")
            return Took(found["duration"], self.tokens)
        return Took(json.loads((self.folder / "offline.json").read_text())["elapsed_time"], self.tokens)


def datatrove_python(base: Path, name: str = "datatrove", packages: Sequence[str] = DATATROVE) -> Path | None:
    """The Python of an environment with the pinned datatrove, made on first use; None if it cannot be had."""
    place = base / name
    python, stamp = place / "bin" / "python", place / "installed"
    if not stamp.exists() or stamp.read_text() != " ".join(packages):
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", *packages]
        done = subprocess.run(install, capture_output=True, text=True)
        if done.returncode:
            print(f"datatrove is not compared with: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
            return None
        stamp.write_text(" ".join(packages))
    return python
