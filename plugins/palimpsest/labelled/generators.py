"""What writes items for a cell, grounded in its real seeds: the label holds by construction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from palimpsest.config import ConfigError, Labelled, load_study
from palimpsest.guard.tokens import Vocabulary
from palimpsest.labelled.items import Values
from palimpsest.lake import Lake, LakeError

SIDE = 8
"""Pixels of a digit's side."""
OVER_A_TEXT = ("rephrase", "augment")
"""Kinds of strategy that keep a label."""


@dataclass(frozen=True)
class Draft:
    """One generated item."""

    value: str | np.ndarray
    seeds: tuple[int, ...]
    """Places among the real items it was shown, all of its cell (a planted fault: of two)."""
    planted: bool = False


class Writer(Protocol):
    name: str
    decoding: str
    depth: int
    """Models between its text and people."""
    mix: str | None
    """What it was trained on, if that was here."""
    prompt: str | None
    """SHA-256 of its prompt's template, where it has one."""

    def write(self, seeds: np.ndarray, others: np.ndarray, count: int, random: np.random.Generator) -> list[Draft]:
        """At most so many drafts from a cell's ``seeds``; ``others`` are items of cells that are not short."""
        ...


class Blend:
    """A point between two seeds: of images pixel by pixel, of texts the beginning of one and the end of the other.

    A planted look-alike has the greater part of an item of another cell.
    """

    depth, mix, prompt = 1, None, None

    def __init__(self, study: Labelled, values: Values) -> None:
        self._values, self._settings = values, study.generator
        self.name = study.generator.kind
        shift = f", {study.generator.shift:g} of them moved by a pixel" if self.name == "interpolate" else ""
        self.decoding = f"uniform between two seeds{shift}"

    def write(self, seeds: np.ndarray, others: np.ndarray, count: int, random: np.random.Generator) -> list[Draft]:
        drafts = []
        for _ in range(count):
            planted = bool(len(others)) and random.random() < self._settings.look_alikes
            first = int(random.choice(seeds))
            second = int(random.choice(others if planted else seeds))
            own = random.uniform(0.3, 0.5) if planted else random.random()
            value = self._between(self._values[first], self._values[second], own, random)
            drafts.append(Draft(value, tuple(dict.fromkeys((first, second))), planted))
        return drafts

    def _between(self, first, second, own: float, random: np.random.Generator):
        if isinstance(first, str):
            ours, theirs = first.split(), second.split()
            return " ".join(ours[: round(own * len(ours))] + theirs[round(own * len(theirs)) :])
        return self._moved(own * first + (1 - own) * second, random)

    def _moved(self, image: np.ndarray, random: np.random.Generator) -> np.ndarray:
        if random.random() >= self._settings.shift:
            return image
        # sideways alone: digits fill their frame from top to bottom, and would lose a row
        step, square = int(random.choice([-1, 1])), np.zeros((SIDE, SIDE))
        square[:, max(step, 0) : SIDE + min(step, 0)] = image.reshape(SIDE, SIDE)[
            :, max(-step, 0) : SIDE + min(-step, 0)
        ]
        return square.ravel()


class Trigrams:
    """Text of a word trigram that learned from a cell's seeds alone."""

    name, decoding, depth = "trigram", "a draw per word, temperature 1", 1
    mix, prompt = None, None

    def __init__(self, values: Sequence[str]) -> None:
        self._values = values

    def write(self, seeds: np.ndarray, others: np.ndarray, count: int, random: np.random.Generator) -> list[Draft]:
        from palimpsest.guard.trigram import Trigram

        words = Vocabulary()
        documents = [words.encode(self._values[place]) for place in seeds]
        usual = max(1, round(np.mean([len(document) for document in documents])))
        written = Trigram(documents, len(words)).sample(2 * count * usual, random)
        texts = [words.decode(document[: 2 * usual]) for document in written if len(document) * 2 > usual]
        return [Draft(text, tuple(int(place) for place in seeds)) for text in texts[:count]]


class Strategy:
    """Text of a study's strategy and its engine (vLLM, a recording, classic augmentation) written over a seed each."""

    name = "strategy"

    def __init__(self, study: Labelled, values: Sequence[str], keys: Sequence[str], lake: Lake) -> None:
        from palimpsest.generate.engines import open_engine
        from palimpsest.generate.prompts import prompt_of
        from palimpsest.provenance import generator_of

        named = study.generator
        other = load_study(named.study)
        if named.strategy not in other.strategies:
            known = ", ".join(other.strategies) or "none"
            raise ConfigError(
                f"{study.path}: generator.strategy: study {other.name} has no '{named.strategy}' (it has {known})"
            )
        self._strategy = other.strategies[named.strategy]
        if self._strategy.kind not in OVER_A_TEXT:
            raise ConfigError(
                f"{study.path}: generator.strategy: '{named.strategy}' is of kind '{self._strategy.kind}'; a text "
                f"written over the whole of its seed, of kind {' or '.join(OVER_A_TEXT)}, keeps the seed's label"
            )
        self._study, self._named, self._values, self._keys = other, named.strategy, values, keys
        self._engine = open_engine(other, named.strategy, lake)
        self.name = self._engine.model
        self.decoding = f"{named.study}.{named.strategy}: {self._strategy.sampling.model_dump_json(exclude_unset=True)}"
        generator = generator_of(other, named.strategy, self._engine.model, lake)
        if (depth := generator.depth_of_text(0)) is None:
            raise LakeError(
                f"{study.path}: generator: nobody knows what the model of strategy {named.strategy} of study "
                f"{other.name} learned from ({generator.mix}); train or export it again, or ask another one"
            )
        asks = self._strategy.engine.kind == "vllm"
        self.depth, self.mix = depth, generator.mix
        self.prompt = prompt_of(other, named.strategy).sha256 if asks else None

    def write(self, seeds: np.ndarray, others: np.ndarray, count: int, random: np.random.Generator) -> list[Draft]:
        from palimpsest.generate.keys import Document
        from palimpsest.generate.requests import Request

        sampling = self._strategy.sampling.model_dump(exclude_unset=True)
        order, asked, first = random.permutation(seeds), {}, int(random.integers(1 << 20))
        for number in range(count):
            place, g = int(order[number % len(order)]), first + number // len(order)
            group = Document(self._values[place]).group(
                self._engine.prompt(self._strategy), self._engine.model, sampling
            )
            request = Request(
                group.key(g), self._keys[place], self._strategy.kind, g, self._values[place], group.seed(g),
                group=group.name, strategy=self._named, model=self._engine.model, prompt=self._rendered(place),
            )  # fmt: skip
            asked[request.key] = (request, place)
        outcomes = {found.key: found.text for found in self._engine.generate(request for request, _ in asked.values())}
        return [Draft(outcomes[key], (place,)) for key, (_, place) in asked.items() if outcomes.get(key)]

    def _rendered(self, place: int):
        if self._strategy.engine.kind != "vllm":
            return None
        from palimpsest.generate.prompts import prompt_of

        prompt = prompt_of(self._study, self._named)
        slots = {"document": self._values[place], "context": None, "part": 1, "parts": 1}
        return prompt.render(**{name: slots[name] for name in prompt.slots})


def writer(study: Labelled, values: Values, keys: Sequence[str], lake: Lake) -> Writer:
    """The writer that a study names. Raises `ConfigError` for a strategy that does not exist, or is not grounded."""
    if study.generator.kind == "trigram":
        return Trigrams(values)
    if study.generator.kind == "strategy":
        return Strategy(study, values, keys, lake)
    return Blend(study, values)
