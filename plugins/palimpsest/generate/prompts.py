"""Prompts: versioned files with typed slots. What a document says can never change what is asked of it.

A file names its api ('chat' or 'completions'), its slots and the text around them. A slot stands as ``{{document}}``;
``{{#context}} … {{/context}}`` is left out where the slot is not given, and a mark alone on its line takes the line
along. The text is taken apart at these marks when the file is read and the values are put between the pieces, so braces
and marks inside a document are plain text.

Shipped prompts lie under ``prompts/<kind>/<name>.yaml``; a study may name a file of its own.
"""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from palimpsest.config import ConfigError, Strategy, Study, resolve
from palimpsest.config.base import Strict, suggest
from palimpsest.generate.requests import Rendered
from palimpsest.lake import digest_json

SHIPPED = Path(__file__).parent / "prompts"
DEFAULTS = {
    "rephrase": "rephrase/encyclopedic",
    "rationale": "rationale/latent_thought",
    "continuation": "continuation/plain",
    "self": "self/unconditional",
}
MARK = re.compile(r"\{\{\s*([#/]?)([a-z][a-z0-9_]*)\s*\}\}")
TYPES = {"text": str, "integer": int}


class Slot(Strict):
    type: Literal["text", "integer"]
    description: str
    optional: bool = False


FILLED: dict[str, dict[str, Slot]] = {
    "rephrase": {
        "document": Slot(type="text", description="The text to be written over: a document or a chunk of it."),
        "context": Slot(type="text", description="What precedes the chunk in its document.", optional=True),
        "part": Slot(type="integer", description="Which chunk of the document this is, from 1."),
        "parts": Slot(type="integer", description="How many chunks the document has."),
    },
    "rationale": {
        "prefix": Slot(type="text", description="The document before the split point."),
        "suffix": Slot(type="text", description="The document after it."),
    },
    "continuation": {"prefix": Slot(type="text", description="The document's beginning.")},
    "self": {},
}
"""What the platform fills in, by the strategy's kind."""
NEEDED = {
    "rephrase": {"document"},
    "rationale": {"prefix", "suffix"},
    "continuation": {"prefix"},
    "self": set(),
}


class Prompt(Strict):
    """One prompt file."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*(/[a-z][a-z0-9_]*)*$")]
    version: int = Field(ge=1)
    """Goes up with every change of the words."""
    description: str = ""
    api: Literal["chat", "completions"]
    slots: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], Slot] = {}
    system: str | None = None
    user: str | None = None
    text: str | None = None
    """What a base model goes on from (api 'completions')."""

    @model_validator(mode="after")
    def _complete(self) -> Prompt:
        needed, other = (["user"], ["text"]) if self.api == "chat" else (["text"], ["system", "user"])
        for key in needed:
            if not getattr(self, key):
                raise ValueError(f"api '{self.api}' needs the key '{key}'")
        for key in other:
            if getattr(self, key) is not None:
                raise ValueError(f"api '{self.api}' takes no '{key}'")
        pieces = [piece for pieces in self._pieces.values() for piece in pieces]
        used = {name for _, name, _ in pieces if name}
        for name in sorted((used | {section for *_, section in pieces if section}) - self.slots.keys()):
            raise ValueError(f"slot '{name}' is used but not declared under 'slots'{suggest(name, self.slots)}")
        for name in sorted(self.slots.keys() - used):
            raise ValueError(f"slot '{name}' is declared but not used; write {{{{{name}}}}} where it belongs")
        return self

    @property
    def label(self) -> str:
        """How a generation names its prompt: 'rephrase/faq:1'."""
        return f"{self.name}:{self.version}"

    @cached_property
    def sha256(self) -> str:
        """Digest of what the file says, whatever its layout and comments."""
        return digest_json(self.model_dump(exclude={"description"}))

    def render(self, **slots: str | int | None) -> Rendered:
        """The prompt with its slots filled; None leaves an optional one out.

        Raises `ConfigError` for a slot the prompt does not have, one that is missing, or a value of another type.
        """
        for name, value in slots.items():
            if name not in self.slots:
                raise ConfigError(f"prompt {self.label}: slot '{name}' is unknown{suggest(name, self.slots)}")
            wanted = TYPES[self.slots[name].type]
            if value is not None and (not isinstance(value, wanted) or isinstance(value, bool)):
                raise ConfigError(
                    f"prompt {self.label}: slot '{name}' takes {self.slots[name].type}, not {type(value).__name__}"
                )
        for name, slot in self.slots.items():
            if slots.get(name) is None and not slot.optional:
                raise ConfigError(f"prompt {self.label}: slot '{name}' is missing; it is {slot.description}")
        values = {name: str(value) for name, value in slots.items() if value is not None}
        if self.api == "completions":
            return Rendered(text=_fill(self._pieces["text"], values))
        return Rendered(tuple((role, _fill(pieces, values)) for role, pieces in self._pieces.items()))

    @cached_property
    def _pieces(self) -> dict[str, list[tuple[str, str, str]]]:
        parts = {"system": self.system, "user": self.user, "text": self.text}
        return {key: _take_apart(key, text) for key, text in parts.items() if text is not None}


def prompt_of(study: Study, name: str) -> Prompt:
    """The prompt of one strategy of a study; a `ConfigError` names the study's file and key as well."""
    try:
        return load_prompt(study.strategies[name])
    except ConfigError as error:
        raise ConfigError(f"{study.path}: strategies.{name}.prompt: {error}") from None


def load_prompt(strategy: Strategy) -> Prompt:
    """The prompt a strategy asks with; `ConfigError` names file and key if it cannot be used for its kind."""
    if strategy.prompt_file:
        file = resolve(strategy.prompt_file)
    else:
        name = strategy.prompt or DEFAULTS[strategy.kind]
        file = SHIPPED / f"{name}.yaml"
        if name not in shipped():
            raise ConfigError(
                f"prompt '{name}' is not shipped{suggest(name, shipped())}; a file of your own ends in .yaml"
            )
    prompt = read_prompt(file)
    filled = FILLED[strategy.kind]
    for slot in prompt.slots.keys() - filled.keys():
        raise ConfigError(f"{file}: slots.{slot}: kind '{strategy.kind}' fills no such slot{suggest(slot, filled)}")
    for slot in sorted(NEEDED[strategy.kind] - prompt.slots.keys()):
        raise ConfigError(f"{file}: slots: kind '{strategy.kind}' needs the slot '{slot}'; declare and use it")
    for name, slot in prompt.slots.items():
        if slot.type != filled[name].type:
            raise ConfigError(f"{file}: slots.{name}.type: it is filled with {filled[name].type}, not {slot.type}")
        if filled[name].optional and not slot.optional:
            raise ConfigError(f"{file}: slots.{name}.optional: must be true; not every request has one")
    return prompt


def read_prompt(file: Path) -> Prompt:
    """The prompt in ``file``."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"prompt: no file {file}; correct the path or create it") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not readable as YAML: {error}") from None
    try:
        return Prompt.model_validate(content)
    except ValidationError as error:
        lines = [
            ": ".join(
                [str(file), *filter(None, [".".join(map(str, e["loc"]))]), e["msg"].removeprefix("Value error, ")]
            )
            for e in error.errors()
        ]
        raise ConfigError("\n".join(lines)) from None


def shipped() -> list[str]:
    """Names of the prompts that come with the platform."""
    return sorted(str(file.relative_to(SHIPPED).with_suffix("")) for file in SHIPPED.rglob("*.yaml"))


def _take_apart(key: str, text: str) -> list[tuple[str, str, str]]:
    """(literal, slot that follows it or '', section both stand in or '') of a template, in order."""
    pieces, section, at = [], "", 0
    for mark in MARK.finditer(text):
        literal, (sign, name) = text[at : mark.start()], mark.groups()
        pieces.append((literal, name if not sign else "", section))
        if sign == "#":
            if section:
                raise ValueError(f"{key}: {mark[0]} inside {{{{#{section}}}}}; sections do not nest")
            section = name
            pieces.append(("", "", name))
        elif sign == "/":
            if section != name:
                raise ValueError(f"{key}: {mark[0]} closes no section; open it with {{{{#{name}}}}}")
            section = ""
        alone = mark.start() == 0 or text[mark.start() - 1] == "\n"
        at = mark.end() + (bool(sign) and alone and text[mark.end() : mark.end() + 1] == "\n")
    if section:
        raise ValueError(f"{key}: {{{{#{section}}}}} is not closed; write {{{{/{section}}}}} where it ends")
    pieces.append((text[at:], "", ""))
    for literal, _, _ in pieces:
        if stray := re.search(r"\{\{[^{}]*\}{0,2}|\}\}", literal):
            raise ValueError(f"{key}: '{stray[0]}' is no slot; write {{{{name}}}} in lower case, or no double braces")
    return pieces


def _fill(pieces: list[tuple[str, str, str]], values: dict[str, str]) -> str:
    return "".join(
        literal + (values.get(name, "") if name else "")
        for literal, name, section in pieces
        if not section or section in values
    )
