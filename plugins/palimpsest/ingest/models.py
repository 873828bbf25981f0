"""Scores of a text by fastText classifiers that the corpus file declares with their digests; no network.

They are loaded before the worker is forked from this process, so all its children share them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import fasttext

from palimpsest.config import Corpus, check_files, resolve
from palimpsest.config.scoring import COLUMN, ScoreModel
from palimpsest.lake import LakeError, digest_file

EVERY = -1.0
"""Threshold below every probability: with fastText's 0 a model of hierarchical softmax leaves out branches of its tree,
and so labels, that are next to nothing for the text."""


def load(corpus: Corpus) -> None:
    """Check and load every model of the corpus. Raises `ConfigError` for a file that is not there, `LakeError` for one
    that is not what the corpus file says.
    """
    check_files(corpus, "scoring.")
    for name, model in corpus.scoring.models.items():
        key, file = f"{corpus.path}: scoring.models.{name}", resolve(model.file)
        if (found := digest_file(file)) != model.sha256:
            raise LakeError(f"{key}: {file} has the SHA-256 {found}, not {model.sha256}; correct sha256 or the file")
        try:
            labels, _ = _model(str(file), model.sha256).predict("a", k=-1, threshold=EVERY)
        except ValueError as error:
            raise LakeError(f"{key}: {file} is no fastText model: {error}; name one that fastText wrote") from None
        if model.label not in labels:
            shown = ", ".join(sorted(labels)[:10])
            raise LakeError(f"{key}: the model has no label '{model.label}'; it has {shown}; correct label")


def score(text: str, models: Mapping[str, ScoreModel]) -> dict[str, float]:
    """Columns: the probability of each model's label, 0 to 1, for the whole text as one line."""
    if not models:
        return {}
    line = " ".join(text.split()).encode(errors="ignore").decode()  # half a surrogate pair is no character
    return {COLUMN.format(name): _probability(line, model) for name, model in models.items()}


def _probability(line: str, model: ScoreModel) -> float:
    labels, scores = _model(str(resolve(model.file)), model.sha256).predict(line, k=-1)
    found = dict(zip(labels, scores, strict=True)).get(model.label, 0.0)  # a model leaves out what is next to nothing
    return round(min(float(found), 1.0), 6)


@cache
def _model(file: str, sha256: str):
    """Of a digest: the model of a file that was replaced is not taken for the new one."""
    return fasttext.load_model(file)
