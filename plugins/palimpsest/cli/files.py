"""Commands about corpus and study files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from palimpsest.config import (
    ConfigError,
    Corpus,
    Labelled,
    Loop,
    Study,
    kinds,
    load_study,
    missing_files,
    studies_dir,
    told,
)
from palimpsest.config.files import DATA
from palimpsest.lake import Lake, NotPublished


def register(add) -> None:
    validate = add("validate", _validate, "check files of dags/; names file, key and what is allowed")
    validate.add_argument("file", nargs="+")
    schema = add("schema", _schema, "print the JSON Schema of a kind of file, for editors")
    schema.add_argument("kind", choices=["corpus", "study", "loop", "labelled"])


def _validate(options) -> None:
    """Says of every file whether it is right, and what data it still needs; then raises what is wrong with any."""
    wrong: list[str] = []
    for file in options.file:
        try:
            for loaded in _loaded(file):
                missing = _checked(loaded)
                kind = "labelled study" if isinstance(loaded, Labelled) else type(loaded).__name__.lower()
                print(f"{loaded.path}: valid {kind} '{loaded.name}'")
                for line in told(missing):
                    print(f"  before this runs: {line}")
                if isinstance(loaded, Study):
                    _note_runs(loaded)
        except ConfigError as error:
            wrong.append(str(error))
    if wrong:
        raise ConfigError("\n".join(wrong))


def _checked(loaded: Corpus | Study | Loop | Labelled) -> dict[str, str]:
    """Files of the data folder that are not there yet: a file is right without the data that no repository holds.

    Raises `ConfigError` for any other file that is missing, and for a prompt that does not fit.
    """
    missing: dict[str, str] = {}
    for one in [loaded.study(0), loaded.study(loaded.rounds)] if isinstance(loaded, Loop) else [loaded]:
        missing |= missing_files(one)
        if any(not file.startswith(DATA) for file in missing.values()):
            raise ConfigError("\n".join(f"{loaded.path}: {line}" for line in told(missing)))
        if isinstance(one, Study):
            _check_prompts(one, missing)
    return missing


def _loaded(file: str) -> list[Corpus | Study | Loop | Labelled]:
    """What a file holds, by its folder; by a bare name all that are called so."""
    others = {name: found for name, found in kinds().items() if name != "studies"}
    if Path(file).suffix:
        parent = Path(file).resolve().parent.name
        loads = [load for name, (folder, load) in others.items() if parent in (name, folder.name)]
        return [(loads or [load_study])[0](file)]
    found = [load(file) for folder, load in others.values() if (folder / f"{file}.yaml").exists()]
    return [*found, load_study(file)] if not found or (studies_dir() / f"{file}.yaml").exists() else found


def _check_prompts(study: Study, missing: Mapping[str, str]) -> None:
    from palimpsest.generate.prompts import prompt_of

    for name, strategy in study.strategies.items():
        if strategy.engine.kind == "vllm" and f"strategies.{name}.prompt" not in missing:
            prompt_of(study, name)


def _note_runs(study: Study) -> None:
    """A model that is still to be trained is no fault of the file; a mistyped one looks the same."""
    lake = Lake.from_env()
    for name, server in study.servers.items():
        if server.is_run:
            of, run = server.model.removeprefix("run:").split("/")
            try:
                lake.latest(f"studies/{of}/runs/{run}")
            except NotPublished:
                print(f"  servers.{name}.model: {server.model} is not in {lake.root} yet; it must be before this runs")


def _schema(options) -> None:
    from palimpsest.config import json_schema

    print(json.dumps(json_schema(options.kind), indent=2))
