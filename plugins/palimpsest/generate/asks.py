"""What a strategy asks about a document: which part of it, in which words, how many times."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from tokenizers import Tokenizer

from palimpsest import tokenizer as tok
from palimpsest.config import ConfigError, Strategy, Study
from palimpsest.generate import chunks
from palimpsest.generate.chunks import View
from palimpsest.generate.engines import Augment, Recorded
from palimpsest.generate.models import model_source
from palimpsest.generate.prompts import Prompt, prompt_of
from palimpsest.generate.requests import Rendered
from palimpsest.lake import Lake, digest_file

TEMPLATE = {"chat": 64, "completions": 4}
"""Tokens kept free for the model's chat template and boundaries; Llama 3.1's template takes 45."""
LEAST_ROOM = 32
"""Tokens of a document below which nothing sensible can be asked about it."""
LEAD_SHARE = 4
"""A chunk leaves at least one part in so many of the room to the original text that precedes it."""


@dataclass(frozen=True)
class Ask:
    """One prompt about one document, and the samples wanted of it."""

    view: View
    samples: Sequence[int]
    part: int = 0
    parts: int = 1
    input_tokens: int = 0
    """Of the prompt, without the chat template."""
    expected_tokens: int = 0
    """Of one answer, if it is as long as its source."""
    first: int | None = None
    """Their numbers in keys and seeds follow on from this one, as vLLM seeds the samples of a prompt; none: as samples.
    """

    @property
    def numbers(self) -> Sequence[int]:
        """What tells the samples apart in their keys and seeds."""
        return self.samples if self.first is None else range(self.first, self.first + len(self.samples))


class Asker:
    """A strategy of a study, its engine's model and its prompt; ``engine``, ``model`` and ``prompt`` stand in the key.

    Opening one starts no server and reads no tokenizer; `asks` does.
    """

    def __init__(self, study: Study, name: str, lake: Lake) -> None:
        self.name = name
        self.strategy: Strategy = study.strategies[name]
        self.kind = self.strategy.kind
        self.engine = self.strategy.engine.kind
        self.sampling: dict[str, object] = {"seed": self.strategy.seed}
        self.template: Prompt | None = None
        if self.engine == "vllm":
            self.server = study.servers[self.strategy.engine.server]
            self.source = model_source(self.server, lake)
            self.template = prompt_of(study, name)
            self.model = self.source.identity
            self.prompt, self.prompt_sha256 = self.template.label, self.template.sha256
            self.sampling |= self.strategy.sampling.canonical()
        else:
            engine = Recorded(self.strategy.engine) if self.engine == "recorded" else Augment()
            self.model, self.prompt = engine.model, engine.prompt(self.strategy)
            self.prompt_sha256 = hashlib.sha256(self.prompt.encode()).hexdigest()

    def config(self) -> dict[str, object]:
        """All that decides what this strategy asks, apart from the documents."""
        found = self.strategy.model_dump(exclude={"review"}) | {"model": self.model}
        found |= {"prompt": self.prompt, "prompt_sha256": self.prompt_sha256}
        if self.template is not None:
            found["context"] = self.server.context
            if self.server.tokenizer:
                found["tokenizer"] = digest_file(self.source.file("tokenizer.json"))
        return found

    def check(self) -> None:
        """Raise `ConfigError` unless the model can be asked in this prompt's way and has room for a document."""
        if self.template is None:
            return
        where = f"strategies.{self.name}: model {self.model} (servers.{self.strategy.engine.server})"
        if self.template.api == "chat" and not self.source.has_chat_template:
            raise ConfigError(
                f"{where} has no chat template, and prompt {self.prompt} is a chat; name an instruction-tuned model, "
                "a prompt of api 'completions', or a template under the server's arguments: chat-template"
            )
        boundary = tok.BOUNDARY in (self.template.text or "")
        if boundary and self.source.tokenizer.token_to_id(tok.BOUNDARY) is None:
            raise ConfigError(
                f"{where} has no token {tok.BOUNDARY}, which prompt {self.prompt} is; name a model trained here, or a "
                "prompt file with the boundary of this one"
            )
        if self.room < (0 if self.kind == "self" else LEAST_ROOM):
            raise ConfigError(
                f"strategies.{self.name}: servers.{self.strategy.engine.server}.context of {self.server.context} "
                f"tokens leaves {max(self.room, 0)} for the document: the prompt takes {self._framed}, "
                f"sampling.max_tokens {self.strategy.sampling.max_tokens}, the chat template up to "
                f"{TEMPLATE[self.template.api]}; raise the context or lower max_tokens"
            )

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The model's; None for an engine that is not asked in words."""
        return self.source.tokenizer if self.template is not None else None

    @cached_property
    def room(self) -> int:
        """Tokens of a document that fit beside the prompt's own words and the answer."""
        taken = self._framed + self.strategy.sampling.max_tokens + TEMPLATE[self.template.api]
        return self.server.context - taken

    def asks(self, text: str, tokens: int, slices: Sequence[str]) -> list[Ask]:
        """What is asked about a document of so many ``tokens`` (of this model); ``slices`` a rationale goes between."""
        samples = range(self.strategy.generations)
        if self.template is None:
            return [Ask(View(0, 0, len(text)), self._placed(len(slices) - 1) if self.kind == "rationale" else samples)]
        most = self.strategy.sampling.max_tokens
        if self.kind == "self":
            return [Ask(View(0, 0, len(text)), samples, input_tokens=self._bare, expected_tokens=most)]
        starts = self._starts(text) if tokens > self._whole else None

        def count(begin: int, end: int) -> int:
            share = (end - begin) / max(len(text), 1)
            return round(tokens * share) if starts is None else chunks.tokens_between(starts, begin, end)

        if self.kind == "rationale":
            cuts = enumerate(itertools.accumulate(map(len, slices[:-1])))
            views = [(place, self._around(text, starts, at)) for place, at in cuts]
            expected = min(most, tokens)
            whole = self.strategy.samples
            return [
                Ask(
                    view,
                    range(place, whole, self.strategy.generations),
                    input_tokens=self._bare + count(view.before, view.end),
                    expected_tokens=expected,
                    first=place,
                )
                for place, view in views
            ]
        if self.kind == "continuation":
            view = self._beginning(text, starts)
            shown, left = count(view.before, view.start), count(view.start, view.end)
            return [Ask(view, samples, 0, 1, self._bare + shown, min(most, left))]
        parts = self._chunks(text, starts)
        return [
            Ask(
                v,
                samples,
                part,
                len(parts),
                self._own_words(v) + count(v.before, v.end),
                min(most, count(v.start, v.end)),
            )
            for part, v in enumerate(parts)
        ]

    def _placed(self, places: int) -> list[int]:
        """The samples of all candidates at so many places; a short document has fewer than the strategy."""
        many = self.strategy.generations
        return [many * candidate + place for candidate in range(self.strategy.candidates) for place in range(places)]

    def _around(self, text: str, starts: Sequence[int] | None, at: int) -> View:
        return chunks.around(text, starts, at, size=self.room) if starts else View(0, at, len(text))

    def _beginning(self, text: str, starts: Sequence[int] | None) -> View:
        at = chunks.beginning(text, self.strategy.prefix_share)
        return chunks.upto(text, starts, at, size=self.room) if starts else View(0, at, len(text))

    def _chunks(self, text: str, starts: Sequence[int] | None) -> list[View]:
        if starts is None:
            return [View(0, 0, len(text))]
        lead = max(self.room // LEAD_SHARE, self.room - self._whole) if "context" in self.template.slots else 0
        return chunks.chunks(text, starts, size=min(self._whole, self.room - lead), lead=lead)

    def _own_words(self, view: View) -> int:
        return self._framed if view.before < view.start else self._bare

    def written_over(self, text: str, view: View) -> str:
        """The text of the document that one request is about: its part in the key."""
        return text[view.start : view.end] if self.kind == "rephrase" and self.template is not None else text

    def render(self, text: str, view: View, part: int, parts: int) -> Rendered | None:
        """The words of one request; None for an engine that is not asked in words."""
        if self.template is None:
            return None
        lead, rest = text[view.before : view.start], text[view.start : view.end]
        filled = {
            "rephrase": {"document": rest, "context": lead or None, "part": part + 1, "parts": parts},
            "rationale": {"prefix": lead, "suffix": rest},
            "continuation": {"prefix": lead},
            "self": {},
        }[self.kind]
        return self.template.render(**{name: filled[name] for name in self.template.slots})

    @cached_property
    def _whole(self) -> int:
        """Documents of more tokens are not shown whole."""
        return min(self.strategy.chunk_tokens or self.room, self.room)

    @cached_property
    def _bare(self) -> int:
        """Tokens of the prompt's own words, without the optional ones."""
        return self._words({n: "" for n, s in self.template.slots.items() if not s.optional and s.type == "text"})

    @cached_property
    def _framed(self) -> int:
        """Tokens of the prompt's own words, all of them."""
        return self._words({n: "" for n, s in self.template.slots.items() if s.type == "text"})

    def _words(self, texts: dict[str, str]) -> int:
        numbers = {n: 1000 for n, s in self.template.slots.items() if s.type == "integer"}
        rendered = self.template.render(**texts, **numbers)
        written = [content for _, content in rendered.messages] or rendered.text.split(tok.BOUNDARY)
        boundaries = rendered.text.count(tok.BOUNDARY)  # each is one token, and no text
        return sum(tok.count(self.tokenizer, written)) + boundaries

    def _starts(self, text: str) -> list[int]:
        return chunks.token_starts(self.tokenizer.encode(text, add_special_tokens=False).offsets)
