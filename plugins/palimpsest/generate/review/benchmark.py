"""Evaluation questions and answers that a generation recites, found by runs of their words.

A run of 13 words, or the whole item if that has 8 to 12 (Brown et al. 2020, 2005.14165, appendix C). Question and
right answer are read on as one text, so a run may cross from one to the other; a right answer of enough words counts
by itself. Runs that several items share are turns of phrase ('which of the following best describes the') and prove
nothing. Words, capitals and punctuation as everywhere in the review.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from palimpsest.config import ConfigError, resolve
from palimpsest.generate.review.facts import NEAR_COPY_WORDS, Facts, runs
from palimpsest.words import WORD

log = logging.getLogger(__name__)

LONGEST, SHORTEST = 13, 8
QUESTIONS = ("query", "question", "ctx", "goal", "prompt", "problem", "sentence", "text", "input")
ANSWERS = ("answer", "answerKey", "label", "gold", "target", "correct_answer", "answers", "solution", "output")
CHOICES = ("choices", "options", "endings")


class Benchmarks:
    """The runs of all items, by the hash of their first five words; most texts share none of these."""

    def __init__(self, files: tuple[Path, ...]) -> None:
        self.digests: dict[str, str] = {}
        self.items = self.too_short = 0
        self._texts: list[tuple[str, tuple[str, ...], list[str]]] = []
        self._places: dict[int, list[tuple[int, int, int]]] = {}
        for file in files:
            self._load(file)
        self._index()
        if files:
            log.info("benchmarks: %d items, %d of them too short to be searched for", self.items, self.too_short)

    def recited(self, text: Facts) -> str | None:
        """Which item's run the text holds, word by word, or None."""
        if self._firsts.isdisjoint(text.distinct_runs):
            return None
        for run in filter(self._firsts.__contains__, text.runs):  # in order: the same item is named every time
            for item, start, length in self._places[run]:
                name, _, words = self._texts[item]
                said = " ".join(words[start : start + length])
                if f" {said} " in text.joined:
                    return f"{name}: {said}"
        return None

    def _load(self, file: Path) -> None:
        if not file.is_file():
            raise ConfigError(f"review.benchmarks: no file {file}; correct 'benchmarks' in the study")
        content = file.read_bytes()
        self.digests[file.name] = hashlib.sha256(content).hexdigest()
        try:
            lines = content.decode("utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise ConfigError(f"{file}: not UTF-8 ({error}); a benchmark is a file of JSON lines") from None
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ConfigError(f"{file}: line {number}: not JSON ({error})") from None
            question, answer = question_and_answer(row) if isinstance(row, dict) else ("", "")
            if not question:
                raise ConfigError(
                    f"{file}: line {number}: no question; a line is a JSON object with one of {', '.join(QUESTIONS)}"
                )
            name = f"{file.name}, {row.get('id', f'line {number}')}"
            asked, right = (tuple(WORD.findall(part.lower())) for part in (question, answer))
            self.items += 1
            self.too_short += len(asked + right) < SHORTEST
            if len(asked + right) >= SHORTEST:
                self._texts.append((name, asked, [*asked, *right]))
            if len(right) >= LONGEST:
                self._texts.append((f"{name}, its answer", asked, [*right]))

    def _index(self) -> None:
        """Every run of an item, but not those of more than one question."""
        found = list(self._runs())
        owners = Counter(run for run, _ in {(run, self._texts[item][1]) for item, _, _, run in found})
        for item, start, length, run in found:
            if owners[run] == 1:
                first = runs(self._texts[item][2][start : start + NEAR_COPY_WORDS])[0]
                self._places.setdefault(first, []).append((item, start, length))
        self._firsts = frozenset(self._places)

    def _runs(self) -> Iterator[tuple[int, int, int, int]]:
        for item, (_, _, words) in enumerate(self._texts):
            length = min(len(words), LONGEST)
            for start, run in enumerate(runs(words, length)):
                yield item, start, length, run


def question_and_answer(row: dict[str, Any]) -> tuple[str, str]:
    """The question and the right answer of an item, as the common files spell them; '' for what is not there."""
    question = next((row[key] for key in QUESTIONS if isinstance(row.get(key), str)), "")
    answer = next((row[key] for key in ANSWERS if row.get(key) is not None), "")
    choices = next((row[key] for key in CHOICES if row.get(key)), [])
    labels: list[str] = []
    if isinstance(choices, dict):  # ARC as published: {"text": [...], "label": [...]}
        labels, choices = choices.get("label", []), choices.get("text", [])
    if not choices and "sol1" in row:  # PIQA as published
        choices = [row["sol1"], row.get("sol2", "")]
    if isinstance(answer, list):
        answer = answer[0] if answer else ""
    if choices:
        place = labels.index(answer) if answer in labels else answer
        if isinstance(place, int) or (isinstance(place, str) and place.isdecimal()):
            answer = choices[int(place)] if 0 <= int(place) < len(choices) else ""
    return question, str(answer)


def load(files: tuple[str, ...]) -> Benchmarks:
    """The index of these files, built once per process and state of the files."""
    paths = tuple(resolve(file) for file in files)
    return _load(paths, tuple(_state(path) for path in paths))


@lru_cache(maxsize=4)
def _load(paths: tuple[Path, ...], states: tuple[object, ...]) -> Benchmarks:
    return Benchmarks(paths)


def _state(path: Path) -> tuple[int, int] | None:
    return (path.stat().st_mtime_ns, path.stat().st_size) if path.is_file() else None
