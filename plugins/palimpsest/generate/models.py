"""What a server's model is called in a request's key, where it lies, and the tokenizer that plans count with.

A model of the hub is known by its commit; a folder, and a run of this platform, by the content of its files, so that
the same weights are the same model wherever they lie. Only digests of files that changed are computed again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tokenizers import Tokenizer

from palimpsest import hub
from palimpsest.config import ConfigError, Server, resolve
from palimpsest.lake import Corrupt, Lake, digest_file, digest_json
from palimpsest.provenance import LINEAGE
from palimpsest.state import state_dir
from palimpsest.tokenizer import load_any

CONTENT = re.compile(rf"(?!{re.escape(LINEAGE)}$).+\.(json|safetensors|bin|pt|pth|gguf|model|tiktoken|txt|jinja|py)")
"""Files of a model's folder that decide what it writes: configuration, weights, tokenizer, template, own code. Where
its training text came from (the lineage) is not among them: the same weights are the same model."""
WEIGHTS = re.compile(r".+\.(safetensors|bin|pt|pth|gguf)")
CHANGES_TEXT = {
    "chat-template",
    "dtype",
    "enable-lora",
    "hf-overrides",
    "kv-cache-dtype",
    "lora-modules",
    "quantization",
    "rope-scaling",
    "rope-theta",
    "tokenizer-mode",
}
"""Arguments of a server that make another model of it: they stand in its identity."""


@dataclass(frozen=True)
class ModelSource:
    """A model as the plan, the server and the ledger know it."""

    identity: str
    """'org/name@commit', or 'weights:<digest>' for a folder; with the arguments that change what it writes."""
    path: Path | None
    """Folder to serve; None for a hub model."""
    served_name: str
    """What ``/v1/models`` lists and requests name."""
    file: Callable[[str], Path | None] = field(repr=False, compare=False)
    """A small file that belongs to the model (its tokenizer.json), or None; may ask the hub."""
    has_own_template: bool = False

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer, for counting. Raises `ConfigError` if there is none, `ConnectionError` for weather."""
        found = self.file("tokenizer.json")
        if found is None:
            raise ConfigError(
                f"model {self.identity} has no tokenizer.json to plan with; name one under servers.<name>.tokenizer"
            )
        return load_any(found)

    @cached_property
    def has_chat_template(self) -> bool:
        """Whether it can be asked in chat messages; a base model cannot."""
        if self.has_own_template or self.file("chat_template.jinja"):
            return True
        settings = self.file("tokenizer_config.json")
        return bool(settings and json.loads(settings.read_text(encoding="utf-8")).get("chat_template"))


def model_source(server: Server, lake: Lake) -> ModelSource:
    """The model of a server of a study. Nothing is started, and no weights are loaded or downloaded from the hub."""
    changes = {key: server.arguments[key] for key in sorted(CHANGES_TEXT & server.arguments.keys())}
    template = server.arguments.get("chat-template")
    if template and (file := resolve(str(template))).is_file():
        changes["chat-template"] = digest_file(file)[:16]
    suffix = "".join(f"+{key}={value}" for key, value in changes.items())
    if server.is_hub_model:
        files = _beside(server) if server.tokenizer else _on_hub(server.model, server.revision)
        identity, path, name = f"{server.model}@{server.revision}", None, server.model
    else:
        path = _run_folder(server, lake) if server.is_run else resolve(server.model)
        digest = folder_digest(path, server.model)[:16]
        _fits(server, path)
        files = _beside(server) if server.tokenizer else _in_folder(path)
        identity, name = f"weights:{digest}", f"palimpsest-{digest}"
    unknown = server.is_hub_model and server.tokenizer is not None and not files("tokenizer_config.json")
    return ModelSource(identity + suffix, path, name, files, bool(template) or unknown)


def _fits(server: Server, folder: Path) -> None:
    """Raises `ConfigError` where the study plans with more context than the model has; vLLM would not start."""
    longest = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("max_position_embeddings")
    if longest and server.context > longest and not {"hf-overrides", "rope-scaling"} & server.arguments.keys():
        raise ConfigError(
            f"model '{server.model}' reads {longest} tokens at most, and its server is planned with a context of "
            f"{server.context}; write 'context: {longest}' for this server"
        )


def folder_digest(folder: Path, model: str) -> str:
    """Digest of a model folder's content. Raises `ConfigError` if no model lies there."""
    names = sorted(f.name for f in folder.iterdir() if CONTENT.fullmatch(f.name)) if folder.is_dir() else []
    if "config.json" not in names or not any(WEIGHTS.fullmatch(name) for name in names):
        raise ConfigError(
            f"model '{model}': {folder} holds no model (config.json and weights in safetensors); correct the path, or "
            "train or download it first"
        )
    return digest_json([[name, digest] for name, digest in _file_digests(folder, names).items()])


def _file_digests(folder: Path, names: list[str]) -> dict[str, str]:
    """SHA-256 of each file, remembered in the state folder while its size and time stay: weights are many gigabytes."""
    place = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:32]
    memory = state_dir() / "models" / f"{place}.json"
    try:
        known = json.loads(memory.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        known = {}
    found = {}
    for name in names:
        status = (folder / name).stat()
        now = [status.st_size, status.st_mtime_ns]
        found[name] = known[name] if known.get(name, [])[:2] == now else [*now, digest_file(folder / name)]
    if found != known:
        memory.parent.mkdir(parents=True, exist_ok=True)
        partial = memory.with_name(f".{memory.name}.{secrets.token_hex(4)}")
        partial.write_text(json.dumps(found))
        os.replace(partial, memory)
    return {name: digest for name, (_, _, digest) in found.items()}


def _run_folder(server: Server, lake: Lake) -> Path:
    study, run = server.model.removeprefix("run:").split("/")
    published = lake.latest(f"studies/{study}/runs/{run}")
    place = lake.fetch(published)
    listed = {Path(f["name"]): f["sha256"] for f in published.manifest["files"]}
    names = [path.name for path in listed if path.parent == Path("model") and CONTENT.fullmatch(path.name)]
    missing = [name for name in names if not (place / "model" / name).is_file()]
    found = {} if missing else _file_digests(place / "model", names)
    wrong = missing or [name for name in names if found[name] != listed[Path("model", name)]]
    if wrong:
        raise Corrupt(f"{place}/model/{wrong[0]} no longer matches its manifest; delete {place} and train it again")
    return place / "model"


def _in_folder(folder: Path) -> Callable[[str], Path | None]:
    return lambda name: folder / name if (folder / name).is_file() else None


def _beside(server: Server) -> Callable[[str], Path | None]:
    """Files beside the tokenizer that a study names; the tokenizer itself must be there."""
    named = resolve(server.tokenizer)
    file = named / "tokenizer.json" if named.is_dir() else named
    if not file.is_file():
        raise ConfigError(f"tokenizer of model '{server.model}': no file {file}; correct servers.<name>.tokenizer")
    return lambda name: file if name == "tokenizer.json" else _in_folder(file.parent)(name)


def _on_hub(model: str, commit: str) -> Callable[[str], Path | None]:
    return lambda name: hub.fetch(model, name, commit, "name a local copy under servers.<name>.tokenizer")
