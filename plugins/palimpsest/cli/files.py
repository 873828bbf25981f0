"""Commands about corpus and study files."""

from __future__ import annotations

import json
from pathlib import Path

from palimpsest.config import Corpus, Study, check_files, corpora_dir, load_corpus, load_study, studies_dir
from palimpsest.lake import Lake, NotPublished


def register(add) -> None:
    validate = add("validate", _validate, "check corpus and study files; names file, key and what is allowed")
    validate.add_argument("file", nargs="+")
    schema = add("schema", _schema, "print the JSON Schema of corpus or study files, for editors")
    schema.add_argument("kind", choices=["corpus", "study"])


def _validate(options) -> None:
    for file in options.file:
        for loaded in _loaded(file):
            check_files(loaded)
            kind = "study" if isinstance(loaded, Study) else "corpus"
            if isinstance(loaded, Study):
                _check_prompts(loaded)
            print(f"{loaded.path}: valid {kind} '{loaded.name}'")
            if isinstance(loaded, Study):
                _note_runs(loaded)


def _loaded(file: str) -> list[Corpus | Study]:
    """The corpus or study of a file; by a bare name both, where a corpus and a study are called so."""
    if Path(file).suffix:
        of_corpus = Path(file).resolve().parent.name in ("corpora", corpora_dir().name)
        return [load_corpus(file) if of_corpus else load_study(file)]
    found = [load_corpus(file)] if (corpora_dir() / f"{file}.yaml").exists() else []
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
