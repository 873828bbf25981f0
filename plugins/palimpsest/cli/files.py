"""Commands about corpus and study files."""

from __future__ import annotations

import json
from pathlib import Path

from palimpsest.config import (
    Corpus,
    Labelled,
    Loop,
    Study,
    check_files,
    kinds,
    load_study,
    studies_dir,
)
from palimpsest.lake import Lake, NotPublished


def register(add) -> None:
    validate = add("validate", _validate, "check files of dags/; names file, key and what is allowed")
    validate.add_argument("file", nargs="+")
    schema = add("schema", _schema, "print the JSON Schema of a kind of file, for editors")
    schema.add_argument("kind", choices=["corpus", "study", "loop", "labelled"])


def _validate(options) -> None:
    for file in options.file:
        for loaded in _loaded(file):
            kind = "labelled study" if isinstance(loaded, Labelled) else type(loaded).__name__.lower()
            for one in [loaded.study(0), loaded.study(loaded.rounds)] if isinstance(loaded, Loop) else [loaded]:
                check_files(one)
                if isinstance(one, Study):
                    _check_prompts(one)
            print(f"{loaded.path}: valid {kind} '{loaded.name}'")
            if isinstance(loaded, Study):
                _note_runs(loaded)


def _loaded(file: str) -> list[Corpus | Study | Loop | Labelled]:
    """What a file holds, by its folder; by a bare name all that are called so."""
    others = {name: found for name, found in kinds().items() if name != "studies"}
    if Path(file).suffix:
        parent = Path(file).resolve().parent.name
        loads = [load for name, (folder, load) in others.items() if parent in (name, folder.name)]
        return [(loads or [load_study])[0](file)]
    found = [load(file) for folder, load in others.values() if (folder / f"{file}.yaml").exists()]
    return [*found, load_study(file)] if not found or (studies_dir() / f"{file}.yaml").exists() else found


def _check_prompts(study: Study) -> None:
    from palimpsest.generate.prompts import prompt_of

    for name, strategy in study.strategies.items():
        if strategy.engine.kind == "vllm":
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
