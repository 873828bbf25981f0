"""Corpus and study files on disk: where they lie, how they are read, and what is said of a wrong one."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from glob import glob
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ValidationError

from palimpsest.config.base import ConfigError, suggest
from palimpsest.config.corpus import Corpus
from palimpsest.config.evaluation import EvaluationSet
from palimpsest.config.labelled import Labelled
from palimpsest.config.loop import Loop
from palimpsest.config.source import is_url
from palimpsest.config.study import Study
from palimpsest.lake import REPOSITORY

DATA = "$PALIMPSEST_DATA/"
ROUND = re.compile(r"(.+)_round_(\d+)")


def corpora_dir() -> Path:
    return Path(os.environ.get("PALIMPSEST_CORPORA") or REPOSITORY / "dags" / "corpora")


def studies_dir() -> Path:
    return Path(os.environ.get("PALIMPSEST_STUDIES") or REPOSITORY / "dags" / "studies")


def loops_dir() -> Path:
    return Path(os.environ.get("PALIMPSEST_LOOPS") or studies_dir().parent / "loops")


def labelled_dir() -> Path:
    return Path(os.environ.get("PALIMPSEST_LABELLED") or studies_dir().parent / "labelled")


def load_corpus(file: str | Path) -> Corpus:
    return _load(file, Corpus, corpora_dir())


def load_study(file: str | Path) -> Study:
    """The study of a file, or of a round of a loop: ``<loop>_round_<k>``."""
    round_ = ROUND.fullmatch(str(file))
    if round_ and (loops_dir() / f"{round_[1]}.yaml").exists() and not (studies_dir() / f"{file}.yaml").exists():
        loop = load_loop(round_[1])
        if int(round_[2]) > loop.rounds:
            raise ConfigError(f"{loop.path}: the loop has no round {round_[2]}, only rounds 0 to {loop.rounds}")
        return loop.study(int(round_[2]))
    return _with_corpora(_load(file, Study, studies_dir()))


def load_loop(file: str | Path) -> Loop:
    return _with_corpora(_load(file, Loop, loops_dir()))


def load_labelled(file: str | Path) -> Labelled:
    return _load(file, Labelled, labelled_dir())


def kinds() -> dict[str, tuple[Path, Callable[[str | Path], Corpus | Study | Loop | Labelled]]]:
    """Every kind of file that Dags are made of: its folder, and what loads one."""
    return {
        "corpora": (corpora_dir(), load_corpus),
        "studies": (studies_dir(), load_study),
        "loops": (loops_dir(), load_loop),
        "labelled": (labelled_dir(), load_labelled),
    }


def _with_corpora(loaded: Study | Loop) -> Study | Loop:
    known = {path.stem for path in corpora_dir().glob("*.yaml")}
    for corpus in loaded.corpora:
        if corpus not in known:
            raise ConfigError(
                f"{loaded.path}: corpora: '{corpus}' is unknown{suggest(corpus, known)}; "
                f"add {corpora_dir() / (corpus + '.yaml')} or correct the name"
            )
    return loaded


def data_dir() -> Path:
    """Where data that no repository holds lies: PALIMPSEST_DATA, by default ../shared/data beside the repository."""
    return Path(os.environ.get("PALIMPSEST_DATA") or REPOSITORY.parent / "shared" / "data")


def resolve(file: str) -> Path:
    """A path from a corpus or study file: absolute, in the data folder ($PALIMPSEST_DATA/...), or relative to the
    repository.
    """
    if file.startswith(DATA):
        return data_dir() / file.removeprefix(DATA)
    return Path(file) if Path(file).is_absolute() else REPOSITORY / file


def unresolved(path: Path) -> str:
    """What a corpus or study file calls a file, wherever repository and data folder lie on this machine."""
    if path.is_relative_to(REPOSITORY):
        return str(path.relative_to(REPOSITORY))
    return f"{DATA}{path.relative_to(data_dir())}" if path.is_relative_to(data_dir()) else str(path)


def remedy(file: str) -> str:
    """What to do about a file that is not there."""
    if file.startswith(DATA):
        return f"put the data there, or set PALIMPSEST_DATA to the folder that has it (now {data_dir()})"
    return "correct the path or create it"


def named_files(loaded: Corpus | Study | Labelled) -> dict[str, str]:
    """The files (or globs) a corpus or study names, by key."""
    if isinstance(loaded, Corpus | Labelled):
        found = {f"source.files[{number}]": file for number, file in enumerate(loaded.source.files)}
        found = {key: file for key, file in found.items() if not is_url(file)}
        if isinstance(loaded, Corpus):
            found |= {f"decontamination.sets.{name}.file": s.file for name, s in loaded.decontamination.sets.items()}
            found |= {f"scoring.models.{name}.file": model.file for name, model in loaded.scoring.models.items()}
        audit = loaded.verification.audit_file if isinstance(loaded, Labelled) else None
        return found | ({"verification.audit_file": audit} if audit else {})
    found = {"validation.urls_file": loaded.validation.urls_file, "tokenizer.path": loaded.tokenizer.path}
    found["guard.tombstones"] = loaded.guard.tombstones
    for name, held_out in loaded.validation.sets.items():
        found |= {f"validation.sets.{name}.files[{number}]": file for number, file in enumerate(held_out.files)}
    found |= {f"judging.tasks.{name}.file": task.file for name, task in loaded.judging.tasks.items()}
    for name, server in loaded.servers.items():
        if not (server.is_run or server.is_hub_model):
            found[f"servers.{name}.model"] = f"{server.model.rstrip('/')}/config.json"
        found[f"servers.{name}.tokenizer"] = server.tokenizer
    for name, strategy in loaded.strategies.items():
        found[f"strategies.{name}.engine.file"] = strategy.engine.file
        if strategy.prompt_file:
            found[f"strategies.{name}.prompt"] = strategy.prompt_file
        for number, file in enumerate(strategy.review.benchmarks):
            found[f"strategies.{name}.review.benchmarks[{number}]"] = file
    return {key: file for key, file in found.items() if file}


def matching(file: str) -> list[Path]:
    """The files that a path or glob of a corpus, study or labelled file names, in order."""
    return sorted(map(Path, glob(str(resolve(file)), recursive=True)))


def evaluation_sets(study: Study) -> dict[str, EvaluationSet]:
    """What the study's corpora say that no text may recite, by ``<corpus>.<set>``; raises `ConfigError` for a set whose
    file is not there.
    """
    here = {name: load_corpus(name) for name in study.corpora if (corpora_dir() / f"{name}.yaml").is_file()}
    for corpus in here.values():
        check_files(corpus, "decontamination.")
    return {f"{name}.{key}": chosen for name, c in here.items() for key, chosen in c.decontamination.sets.items()}


def missing_files(loaded: Corpus | Study | Labelled) -> dict[str, str]:
    """Of the files it names those that are not there, by key."""
    return {key: file for key, file in named_files(loaded).items() if not matching(file)}


def told(missing: Mapping[str, str]) -> list[str]:
    """A line for each missing file: its key, where it was looked for, and what to do."""
    return [f"{key}: no file {resolve(file)}; {remedy(file)}" for key, file in missing.items()]


def check_files(loaded: Corpus | Study | Labelled, under: str = "") -> None:
    """Raise `ConfigError` naming every key (of those that begin so) whose file is not there."""
    if lines := told({key: file for key, file in missing_files(loaded).items() if key.startswith(under)}):
        raise ConfigError("\n".join(f"{loaded.path}: {line}" for line in lines))


class _EachKeyOnce(yaml.SafeLoader):
    """YAML in which a key given twice is an error: the first would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            if isinstance(key.value, str) and key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key '{key.value}' is there a second time; keep one", key.start_mark
                )
            if isinstance(key.value, str) and key.value != "<<":
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _load(file: str | Path, model: type[BaseModel], folder: Path):
    path = Path(file)
    if not path.suffix:
        path = folder / f"{file}.yaml"
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _EachKeyOnce)
    except FileNotFoundError:
        names = [p.stem for p in folder.glob("*.yaml")]
        raise ConfigError(f"{path}: no such file{suggest(path.stem, names)}") from None
    except (yaml.YAMLError, ValueError) as error:  # a date that no calendar has is a ValueError without a place
        raise ConfigError(f"{path}: not readable as YAML: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected keys and values at the top level, found {type(content).__name__}")
    try:
        loaded = model.model_validate({**content, "path": path})
    except ValidationError as error:
        raise ConfigError("\n".join(f"{path}: {_explain(e, model)}" for e in error.errors())) from None
    if loaded.name != path.stem:
        raise ConfigError(f"{path}: name is '{loaded.name}' but the file is called '{path.stem}'; make them the same")
    return loaded


def _explain(error: dict, model: type[BaseModel]) -> str:
    key = ".".join(str(part) for part in error["loc"]) or "file"
    if error["type"] == "extra_forbidden":
        allowed = _fields_at(model, error["loc"][:-1])
        return f"{key}: unknown key{suggest(str(error['loc'][-1]), allowed)}"
    message = error["msg"].removeprefix("Value error, ")
    given = "" if error["type"] in ("missing", "value_error") else f" (given: {error['input']!r})"
    return f"{key}: {message}{given}" if error["loc"] else message + given


def _fields_at(model: type[BaseModel], loc: tuple) -> list[str]:
    """The keys allowed at a location of the file, found by walking the generated schema."""
    schema = model.model_json_schema()
    node = schema
    for part in loc:
        node = _deref(node, schema)
        named = node.get("properties", {}).get(part)
        any_name = [*node.get("patternProperties", {}).values(), node.get("additionalProperties"), node.get("items")]
        node = named or next((n for n in any_name if isinstance(n, dict)), {})
    return [name for name in _deref(node, schema).get("properties", {}) if name != "path"]


def _deref(node: dict, schema: dict) -> dict:
    options = node.get("anyOf") or node.get("allOf") or [node]
    node = next((o for o in options if "$ref" in o), options[0])
    return schema["$defs"][node["$ref"].split("/")[-1]] if "$ref" in node else node


def json_schema(kind: Literal["corpus", "study", "loop", "labelled"]) -> dict:
    """JSON Schema of such a file, for editors (``# yaml-language-server: $schema=...``)."""
    schema = {"corpus": Corpus, "study": Study, "loop": Loop, "labelled": Labelled}[kind].model_json_schema()
    schema["properties"].pop("path")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
