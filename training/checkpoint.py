"""Checkpoints of a run: written whole or not at all, checked when read, exact to continue from.

They lie in the lake beside the run, ``studies/<study>/runs/<run>/checkpoints/<identity>/step-<n>/``, so that whichever
machine takes the run up finds them. ``identity`` is the digest of all that shapes the run's numbers: recipe, settings,
tokens, code. A folder holds ``state.safetensors`` (weights, both moments of AdamW, the losses so far),
``tokenizer.json``, ``checkpoint.json`` (step, identity, shape of the model) and, written last, ``SHA256SUMS`` of these
three, as ``sha256sum --check`` reads it: no byte of any file can change unnoticed. The data's position and the random
stream of dropout are functions of the step, so the step is all that has to be kept of them.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from palimpsest.lake import Corrupt, Lake, LakeError, Published, digest_file, digest_json
from palimpsest.provenance import write_lineage, write_lost_lineage

STATE, TOKENIZER, ABOUT, SUMS = "state.safetensors", "tokenizer.json", "checkpoint.json", "SHA256SUMS"
KEPT = 2  # the newest, and the one before it in case the newest is damaged
SHARE = 0.05  # of a run's time that may go into checkpoints, if checkpoint_seconds is not 0
SCHEMA = 2

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that holds what it was written with."""

    folder: Path
    about: Mapping[str, object]

    @property
    def step(self) -> int:
        return self.about["step"]

    @property
    def digest(self) -> str:
        """Of its sums, so of all that it holds."""
        return digest_file(self.folder / SUMS)

    def tensor(self, name: str) -> torch.Tensor:
        with safe_open(self.folder / STATE, "pt") as state:
            return state.get_tensor(name)


class Checkpoints:
    """The checkpoints of one run with one identity; without a lake none are kept."""

    def __init__(
        self, lake: Lake | None, run: str, identity: Mapping[str, object], tokenizer: Path, seconds: float
    ) -> None:
        self.lake, self.run, self.identity, self.tokenizer, self.seconds = lake, run, identity, tokenizer, seconds
        self.base = f"{run}/checkpoints"
        self.name = f"{self.base}/{digest_json(identity)[:16]}"
        self.last: str | None = None
        """The newest good checkpoint, as a path in the lake."""
        self._written, self._cost = time.monotonic(), 0.0
        self._damaged: set[str] = set()

    def due(self) -> bool:
        """Whether the last one was long enough ago, also against what it cost."""
        rest = max(self.seconds, self._cost / SHARE) if self.seconds else 0
        return self.lake is not None and time.monotonic() - self._written >= rest

    def save(self, tensors: Mapping[str, torch.Tensor], about: Mapping[str, object], good: int = 0) -> None:
        """Writes one durably, then deletes the older ones, and those that `newest` found damaged.

        The newest `KEPT` stay, and the newest up to step ``good``: after that the loss may have begun to rise.
        """
        started = time.monotonic()
        name = f"{self.name}/step-{about['step']:09d}"
        with self._place() as place:
            save_file(dict(tensors), place / STATE)
            shutil.copyfile(self.tokenizer, place / TOKENIZER)
            facts = {"schema": SCHEMA, "identity": self.identity, **about}
            (place / ABOUT).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
            (place / SUMS).write_bytes(_sums(place))
            self._commit(place, name)
        self.last = name
        self._damaged.discard(f"step-{about['step']:09d}")  # written anew
        for old in set(self._steps()).difference(self._whole()[-KEPT:], self._whole(good)[-1:]):
            self.lake.fs.rm(f"{self.lake.base}/{self.name}/{old}", recursive=True)
        self._damaged.clear()
        self._written = time.monotonic()
        self._cost = self._written - started
        log.info("%s: checkpoint %s (%.1f s)", self.run, name, self._cost)

    @contextmanager
    def newest(self) -> Iterator[Checkpoint | None]:
        """The newest that is whole, readable inside the block; damaged ones are passed over, others' are named."""
        if self.lake is None:
            yield None
            return
        self._name_others()
        for step in reversed(self._steps()):
            name = f"{self.name}/{step}"
            with self._fetched(name) as folder:
                try:
                    found = read(folder, self.identity)
                except Corrupt as error:
                    log.warning("%s: %s; the one before it is used", self.run, error)
                    self._damaged.add(step)
                    continue
                self.last = name
                yield found
                return
        yield None

    def until(self, step: int) -> str | None:
        """The newest one up to a step, as a path in the lake; None where none is kept."""
        found = self._whole(step) if self.lake else []
        return f"{self.name}/{found[-1]}" if found else None

    @contextmanager
    def this(self, name: str, digest: str) -> Iterator[Checkpoint]:
        """The one of this name, readable inside the block; raises `Corrupt` unless it is whole and has this digest."""
        with self._fetched(name) as folder:
            found = read(folder, self.identity)
            if found.digest != digest:
                raise Corrupt(f"checkpoint {folder} is another one of the same step; delete it")
            self.last = name
            yield found

    def remove(self) -> None:
        """Deletes them: the run is published."""
        if self.lake is not None and self.lake.fs.exists(f"{self.lake.base}/{self.name}"):
            self.lake.fs.rm(f"{self.lake.base}/{self.name}", recursive=True)
            if not self._entries(self.base) and self.lake.local:
                os.rmdir(f"{self.lake.base}/{self.base}")

    def _steps(self) -> list[str]:
        return [entry for entry in self._entries(self.name) if entry.startswith("step-")]

    def _whole(self, last: float = math.inf) -> list[str]:
        """Those up to step ``last`` that are not known to be damaged."""
        return [step for step in self._steps() if step not in self._damaged and int(step.removeprefix("step-")) <= last]

    def _entries(self, name: str) -> list[str]:
        place = f"{self.lake.base}/{name}"
        self.lake.fs.invalidate_cache(place)
        if not self.lake.fs.exists(place):
            return []
        return sorted(Path(str(entry)).name for entry in self.lake.fs.ls(place, detail=False))

    @contextmanager
    def _place(self) -> Iterator[Path]:
        """Where to write: beside the others in a local lake (one name, so that a killed writer leaves no litter)."""
        if not self.lake.local:
            with tempfile.TemporaryDirectory() as folder:
                yield Path(folder)
            return
        place = Path(self.lake.base) / self.name / ".partial"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        yield place

    def _commit(self, place: Path, name: str) -> None:
        target = f"{self.lake.base}/{name}"
        files = sorted(place.iterdir(), key=lambda file: file.name == SUMS)
        if not self.lake.local:
            for file in files:
                self.lake.fs.put_file(str(file), f"{target}/{file.name}")
            return
        for path in [*files, place]:
            _fsync(path)
        shutil.rmtree(target, ignore_errors=True)  # a damaged one of the same step
        os.rename(place, target)
        _fsync(Path(target).parent)

    @contextmanager
    def _fetched(self, name: str) -> Iterator[Path]:
        if self.lake.local:
            yield Path(self.lake.base) / name
            return
        with tempfile.TemporaryDirectory() as folder:
            self.lake.fs.get(f"{self.lake.base}/{name}", f"{folder}/checkpoint", recursive=True)
            yield Path(folder) / "checkpoint"

    def _name_others(self) -> None:
        mine = Path(self.name).name
        for other in self._entries(self.base):
            if other == mine:
                continue
            folder = f"{self.lake.base}/{self.base}/{other}"
            abouts = sorted(str(file) for file in self.lake.fs.glob(f"{folder}/step-*/{ABOUT}"))
            if abouts:
                try:
                    changed = _differences(json.loads(self.lake.fs.cat_file(abouts[-1]))["identity"], self.identity)
                except (ValueError, KeyError, TypeError, AttributeError):
                    changed = f"{abouts[-1]} is damaged"
                log.warning(
                    "%s: checkpoints in %s are of another run and are not used (%s); delete them",
                    self.run, folder, changed,
                )  # fmt: skip


def read(folder: Path, identity: Mapping[str, object] | None = None) -> Checkpoint:
    """The checkpoint in a folder.

    Raises `Corrupt` if it does not hold what was written, and `LakeError` if it is of another run than ``identity``,
    naming what differs.
    """
    try:
        whole = (folder / SUMS).read_bytes() == _sums(folder)
    except OSError as error:
        raise Corrupt(f"checkpoint {folder} is damaged, or of an older version ({error}); delete it") from None
    if not whole:
        raise Corrupt(f"checkpoint {folder} is damaged (its files are not those that {SUMS} names); delete it")
    about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    if identity is not None and about["identity"] != json.loads(json.dumps(identity)):
        raise LakeError(
            f"checkpoint {folder} is of another run: {_differences(about['identity'], identity)}. "
            "Train with what it was made with, or delete it to start over"
        )
    return Checkpoint(folder, about)


def export_checkpoint(checkpoint: str, folder: Path) -> str:
    """The weights of a checkpoint as a Hugging Face Llama folder; says which step of which run they are.

    ``checkpoint`` is a folder, or a path in the lake that PALIMPSEST_LAKE names. The model's lineage is of the run's
    tokens there; away from them it is one without a depth.
    """
    from palimpsest.config import Model
    from training.export import export
    from training.model import Decoder

    lake = Lake.from_env()
    place = Path(checkpoint)
    with tempfile.TemporaryDirectory() as copies:
        if not place.is_dir():
            place = Path(copies) / "checkpoint"
            if not lake.fs.exists(f"{lake.base}/{checkpoint}"):
                raise LakeError(f"no checkpoint {checkpoint}, here or in lake {lake.root}")
            lake.fs.get(f"{lake.base}/{checkpoint}", str(place), recursive=True)
        found = read(place)
        shape = dict(found.about["model"])
        vocab, context = shape.pop("vocab"), shape.pop("context")
        model = Decoder(Model.model_validate(shape), vocab=vocab, context=context)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(found.tensor(f"model.{name}"))
        export(model, place / TOKENIZER, folder)
    run, tokens = found.about["identity"]["run"], _tokens(lake, checkpoint, found.about["identity"])
    if tokens is None:
        log.warning("%s: lake %s has not what this was trained on: its depth is unknown", folder, lake.root)
        write_lost_lineage(folder, run["run"])
    else:
        write_lineage(folder, tokens, run["recipe"])
    return f"{folder}: step {found.step} of {found.about['steps']} of {run['run']}"


def _tokens(lake: Lake, checkpoint: str, identity: Mapping) -> Published | None:
    """The tokens that a checkpoint below ``studies/<study>/runs`` was trained on, if the lake holds them."""
    study = re.search("studies/([^/]+)/runs/", Path(checkpoint).absolute().as_posix())
    versions = lake.versions(f"studies/{study[1]}/tokens") if study else []
    return next((version for version in reversed(versions) if version.digest == identity.get("tokens")), None)


def _differences(theirs: Mapping, ours: Mapping) -> str:
    theirs, ours = (_flat(json.loads(json.dumps(found))) for found in (theirs, ours))
    changed = [key for key in sorted(theirs | ours) if theirs.get(key) != ours.get(key)]
    return "; ".join(f"{key} was {theirs.get(key)}, is {ours.get(key)}" for key in changed[:5])


def _flat(value: object, key: str = "") -> dict[str, object]:
    if not isinstance(value, dict):
        return {key: value}
    return {name: leaf for k, v in value.items() for name, leaf in _flat(v, f"{key}.{k}".lstrip(".")).items()}


def _sums(folder: Path) -> bytes:
    return "".join(f"{digest_file(folder / name)}  {name}\n" for name in (STATE, TOKENIZER, ABOUT)).encode()


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
