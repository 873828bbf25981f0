"""Evaluation questions and answers that a text recites, found by runs of their words.

A run of 13 words, or the whole item if that has 8 to 12 (Brown et al. 2020, 2005.14165, appendix C). Question and
right answer are read on as one text, so a run may cross from one to the other; a right answer of enough words counts
by itself, and so does a whole question that its right answer follows within 60 words, as where all choices are listed
(one of the two has five words or more, both together eight). Runs that several items share are turns of phrase ('which
of the following best describes the') and prove nothing. Words, capitals and punctuation as everywhere in the review; a
word that a hyphen splits over two lines is one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from palimpsest.config import ConfigError, EvaluationSet, resolve
from palimpsest.generate.review.facts import NEAR_COPY_WORDS, Facts, runs
from palimpsest.words import WORD

log = logging.getLogger(__name__)

LONGEST, SHORTEST, BETWEEN = 13, 8, 60
SPLIT = re.compile(r"(?<=\w)[-\u2010][^\S\n]*\n\s*(?=\w)|[\u00ad\u200b\u2060\ufeff]")
"""A hyphen at the end of a line, and marks that nobody sees."""
QUESTIONS = ("query", "question", "ctx", "goal", "prompt", "problem", "sentence", "text", "input")
ANSWERS = ("answer", "answerKey", "label", "gold", "target", "correct_answer", "answers", "solution", "output")
LETTERS = "ABCDEFGHIJ"
CHOICES = ("choices", "options", "endings")


@dataclass(frozen=True)
class Recital:
    item: str
    words: str
    """What the text says of it."""
    share: float
    """Of the item's runs of five words those that the text holds anywhere."""


class Benchmarks:
    """The runs of all items, by the hash of their first five words; most texts share none of these."""

    def __init__(self, files: tuple[Path | EvaluationSet, ...]) -> None:
        self.digests: dict[Path | EvaluationSet, str] = {}
        self.items = self.too_short = 0
        self._asked: dict[int, list[tuple[str, list[str], list[str]]]] = {}
        """Items by the first five words of the question, or of the right answer if the question is shorter."""
        self._texts: list[tuple[str, tuple[str, ...], list[str]]] = []
        self._places: dict[int, list[tuple[int, int, int]]] = {}
        for file in files:
            self._load(file)
        self._index()
        if files:
            log.info("benchmarks: %d items, %d of them too short to be searched for", self.items, self.too_short)

    def canonical(self) -> list[object]:
        """What decides of each file besides this code: its bytes, and which columns of them are read."""
        read = {file: file.model_dump() for file in self.digests if isinstance(file, EvaluationSet)}
        found = [read[file] | {"digest": d} if file in read else d for file, d in self.digests.items()]
        return sorted(found, key=json.dumps)

    def recited(self, text: Facts) -> str | None:
        """Which item's run the text holds, word by word, or None."""
        found = self.recital(text)
        return found and f"{found.item}: {found.words}"

    def recital(self, text: Facts) -> Recital | None:
        """The first item that the text recites, word by word, or None."""
        found = next(self._recitals(text), None)
        if found is None and (whole := SPLIT.sub("", text.text)) != text.text:
            found = next(self._recitals(Facts(whole)), None)
        return found

    def _recitals(self, text: Facts) -> Iterator[Recital]:
        if self._firsts.isdisjoint(text.distinct_runs):
            return
        for place, run in enumerate(text.runs):  # in order: the same item is named every time
            if run not in self._firsts:
                continue
            for item, start, length in self._places.get(run, ()):
                name, _, words = self._texts[item]
                said = " ".join(words[start : start + length])
                if f" {said} " in text.joined:
                    yield Recital(name, said, _share(words, text))
            for name, asked, right in self._asked.get(run, ()):
                if said := _apart(text.words, place, asked, right):
                    yield Recital(name, said, _share([*asked, *right], text))

    def _load(self, chosen: Path | EvaluationSet) -> None:
        file = resolve(chosen.file) if isinstance(chosen, EvaluationSet) else chosen
        columns = chosen if isinstance(chosen, EvaluationSet) else None
        if not file.is_file():
            key = "decontamination.sets" if columns else "review.benchmarks"
            where = "'file' of the set in the corpus" if columns else "'benchmarks' in the study"
            raise ConfigError(f"{key}: no file {file}; correct {where}")
        content = file.read_bytes()
        self.digests[chosen] = hashlib.sha256(content).hexdigest()
        try:
            lines = content.decode("utf-8").split("\n")  # a text may hold what else Python takes for a line's end
        except UnicodeDecodeError as error:
            raise ConfigError(f"{file}: not UTF-8 ({error}); a benchmark is a file of JSON lines") from None
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ConfigError(f"{file}: line {number}: not JSON ({error})") from None
            question, answer = question_and_answer(row, columns) if isinstance(row, dict) else ("", "")
            if not question:
                keys = columns.question if columns and columns.question else f"one of {', '.join(QUESTIONS)}"
                raise ConfigError(f"{file}: line {number}: no question; a line is a JSON object with {keys}")
            if columns and columns.choices and not row.get(columns.choices):
                raise ConfigError(f"{file}: line {number}: no choices in '{columns.choices}'; correct the column")
            if columns and columns.answer and not answer:
                raise ConfigError(f"{file}: line {number}: no answer in '{columns.answer}'; correct the column")
            name = f"{file.name}, {row.get('id', f'line {number}')}"
            asked, right = (tuple(WORD.findall(part.lower())) for part in (question, answer))
            self.items += 1
            self.too_short += len(asked + right) < SHORTEST
            if len(asked + right) >= SHORTEST:
                self._texts.append((name, asked, [*asked, *right]))
                begins = next((part for part in (asked, right) if len(part) >= NEAR_COPY_WORDS), None)
                if begins and right:
                    first = runs(list(begins[:NEAR_COPY_WORDS]))[0]
                    self._asked.setdefault(first, []).append((name, [*asked], [*right]))
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
        self._firsts = frozenset(self._places) | frozenset(self._asked)

    def _runs(self) -> Iterator[tuple[int, int, int, int]]:
        for item, (_, _, words) in enumerate(self._texts):
            length = min(len(words), LONGEST)
            for start, run in enumerate(runs(words, length)):
                yield item, start, length, run


def question_and_answer(row: dict[str, Any], columns: EvaluationSet | None = None) -> tuple[str, str]:
    """The question and the right answer of an item, in the columns named or as the common files spell them; '' for
    what is not there.
    """
    asked, right, offered = (columns.question, columns.answer, columns.choices) if columns else (None, None, None)
    question = next((row[key] for key in ([asked] if asked else QUESTIONS) if isinstance(row.get(key), str)), "")
    answer = next((row[key] for key in ([right] if right else ANSWERS) if row.get(key) is not None), "")
    choices = next((row[key] for key in ([offered] if offered else CHOICES) if row.get(key)), [])
    labels: list[str] = []
    if isinstance(choices, dict):  # ARC as published: {"text": [...], "label": [...]}
        labels, choices = choices.get("label", []), choices.get("text", [])
    if not choices and "sol1" in row:  # PIQA as published
        choices = [row["sol1"], row.get("sol2", "")]
    if isinstance(answer, list):
        answer = answer[0] if answer else ""
    if choices:
        place = labels.index(answer) if answer in labels else answer
        if isinstance(place, str) and len(place) == 1 and place in LETTERS and place not in choices:
            place = LETTERS.index(place)
        if isinstance(place, int) or (isinstance(place, str) and place.isdecimal()):
            answer = choices[int(place)] if 0 <= int(place) < len(choices) else ""
    return question, str(answer)


def load(files: tuple[str | EvaluationSet, ...]) -> Benchmarks:
    """The index of these files, built once per process and state of the files."""
    chosen = tuple(file if isinstance(file, EvaluationSet) else resolve(file) for file in files)
    paths = [resolve(file.file) if isinstance(file, EvaluationSet) else file for file in chosen]
    return _load(chosen, tuple(_state(path) for path in paths))


@lru_cache(maxsize=4)
def _load(chosen: tuple[Path | EvaluationSet, ...], states: tuple[object, ...]) -> Benchmarks:
    return Benchmarks(chosen)


def _apart(words: list[str], place: int, asked: list[str], right: list[str]) -> str:
    """The question and its right answer within so many words after it, one of which begins here; '' if they do not."""
    if len(asked) >= NEAR_COPY_WORDS:
        begins = words[place : place + len(asked)] == asked
        after = place + len(asked)
        near, sought = words[after : after + BETWEEN + len(right)], right
    else:
        begins = words[place : place + len(right)] == right
        near, sought = words[max(0, place - BETWEEN - len(asked)) : place], asked
    found = begins and f" {' '.join(sought)} " in f" {' '.join(near)} "
    return f"{' '.join(asked)} … {' '.join(right)}" if found else ""


def _share(words: list[str], text: Facts) -> float:
    own = set(runs(words))
    return len(own & text.distinct_runs) / len(own)


def _state(path: Path) -> tuple[int, int] | None:
    return (path.stat().st_mtime_ns, path.stat().st_size) if path.is_file() else None
