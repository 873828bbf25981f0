"""A mix as its place among the others: what its study asks about in it, what a search tunes, and its losses.

A mix is described by *design* (what the study asks about: layout, strategy, G, model, context, attention, ...) and
*settings* (lr, weight decay, epochs, f: what a search tunes). The study file alone decides which mixes belong together.

Model size N counts all parameters, embeddings and output matrix among them: the authors' 150M to 1.5B do (Kim et al.
2025 and 2026; of their 300M two thirds are embeddings), and Pearce & Song 2024 trace the bias of Kaplan's exponents to
counting none, most of all in small models: of 0.61M parameters at width 96 and 2,048 tokens 0.39M are embeddings.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from os.path import commonprefix

from palimpsest.align import CLIP
from palimpsest.config import Mix, Study, Training
from palimpsest.config.study import Layout
from training import points
from training.analysis.laws import Losses

AXES = {"generations": "G", "parameters": "parameters", "context": "context", "batch_tokens": "tokens per batch"}
"""Design axes that are numbers, and what they are called."""
ALONG_WITH = {"parameters": ("model",), "context": ("batch_tokens",)}
"""What an axis takes along: with a longer context either the sequences of a batch stay, or its tokens."""
SETTINGS = ("epochs", "f", "lr", "weight_decay")
REAL = {"first": "real first", "none": "no real document"}
"""Where the real document of a layout stands, where that is said."""
UNASKED = {
    "optimizer", "model", "context", "batch", "block", "seeds", "reference_shares", "precision", "threads",
    "evaluations", "micro_tokens", "processes", "parallel", "compile", "checkpoint_seconds",
}  # fmt: skip
"""Of 'training': settings, those with an axis of their own, and those that shape no result."""


@dataclass(frozen=True)
class Member:
    """A mix as its place among the others."""

    mix: str
    kind: str
    strategy: str | None
    """What wrote its texts, the same at every G (`writers`); none for real text."""
    writes: str | None
    """The kind of that strategy: rephrase, rationale, ..."""
    design: Mapping[str, object]
    """All but kind and strategy, the axes among them."""
    settings: Mapping[str, float]
    losses: Mapping[str, Losses]
    """By held-out set, then seed."""
    words: Mapping[str, str] = field(default_factory=dict)
    """What is unlike the study's reference, by key of the design, as it is said."""
    tuned: bool = True
    """Its settings were found by a search or follow another mix's: a mix of other settings stands beside it. Settings
    that the study file fixes do part mixes: a longer training of one of them is no better place of it."""

    def name(self, axis: str = "") -> str:
        """What a table calls it; what differs along ``axis`` is not said."""
        along = {axis, *ALONG_WITH.get(axis, ())}
        said = [word for key, word in self.words.items() if key not in along]
        return ", ".join([_called(self.kind, self.strategy), *said])


def describe_mixes(study: Study, runs: Mapping[str, Mapping[int, Mapping]]) -> list[Member]:
    """Every mix that has run; ``runs`` are the evaluations by recipe and seed."""
    found, usual, called = [], study.training_of(study.reference), writers(study)
    usual_design = {"context": usual.context, "batch_tokens": usual.batch * usual.context}
    usual_design |= {"mode": "own", "real_stream": "separate", "layout_seed": 0, "model": usual.model.model_dump()}
    usual_design |= {"max_tokens": None, "max_ratio": None, "real_share": None, "also": [], "beside": []}
    usual_design |= {"align": "all texts"} | _optimizer(usual)
    usual_design |= {key: value for key, value in usual.model_dump(mode="json").items() if key not in UNASKED}
    for name, mix in study.mixes.items():
        if not runs.get(name):
            continue
        first, layout, training = next(iter(runs[name].values())), study.layouts[mix.layout], study.training_of(name)
        point = first.get("point") or points.own(study, name)._asdict()
        design = {
            "generations": sum(study.generations_in(mix.layouts).values()),
            "parameters": first["parameters"]["total"],
            "context": training.context,
            "batch_tokens": training.batch * training.context,
            "real": _place(layout.kind, layout.real),
            "real_stream": "none" if mix.f == 1 else "separate",
            "mode": _mode(study, mix, called),
            **{key: getattr(mix, key) for key in ("max_tokens", "max_ratio", "real_share")},
            "also": [called[name] for name in layout.also],
            "beside": _beside(study, mix, called),
            "align": _choice(layout),
            "layout_seed": layout.seed,
            "model": training.model.model_dump(),
            **_optimizer(training),
        } | {key: value for key, value in training.model_dump(mode="json").items() if key not in UNASKED}
        sets = {key for run in runs[name].values() for key in run["losses"]}
        losses = {
            key: {seed: run["losses"][key] for seed, run in runs[name].items() if run["losses"].get(key) is not None}
            for key in sorted(sets)
        }
        settings = {key: point[key] for key in SETTINGS}
        words = {key: _word(key, design) for key, value in usual_design.items() if design[key] != value}
        if design["real"] in REAL:
            words = {"real": REAL[design["real"]]} | words
        tuned = bool(study.is_searched(mix.like or name) or mix.match)
        writes = study.strategies[layout.strategy].kind if layout.strategy else None
        strategy = called.get(layout.strategy)
        found.append(Member(name, layout.kind, strategy, writes, design, settings, losses, words, tuned))
    return found


def writers(study: Study) -> dict[str, str]:
    """By strategy, what its text is called: strategies that are alike in all but G have one name.

    Fewer rephrases are the first of more, so one strategy has every G. Rationales are not: each G has split points of
    its own and is a strategy of its own. They are called by what their names begin with (thought_2, thought_4:
    'thought'), or where that is another's name, by the first of them.
    """
    alike: dict[str, list[str]] = defaultdict(list)
    for name, strategy in study.strategies.items():
        alike[strategy.model_dump_json(exclude={"generations"})].append(name)
    shared = [commonprefix(names).rstrip("_0123456789") for names in alike.values() if len(names) > 1]
    found = {}
    for names in alike.values():
        start = commonprefix(names).rstrip("_0123456789")
        own = len(names) > 1 and start and start not in study.strategies and shared.count(start) == 1
        found |= dict.fromkeys(names, start if own else names[0])
    return found


def _optimizer(training: Training) -> dict[str, object]:
    """What of the optimizer is no setting that a search tunes."""
    return {
        key: getattr(training.optimizer, key) for key in type(training.optimizer).model_fields if key not in SETTINGS
    }


def _place(kind: str, place: str) -> str:
    """A simple layout has its real documents anywhere, a stretched one's are its slices."""
    return place if kind == "stitched" or place == "none" else "in"


def _called(kind: str, strategy: str | None) -> str:
    """A layout by its kind, and by its strategy where that is not the usual one."""
    return ", ".join([kind] if strategy in (None, "rephrase", "rationale", kind) else [kind, strategy])


def _beside(study: Study, mix: Mix, called: Mapping[str, str]) -> list[tuple[str, float]]:
    """The layouts of further streams by their names but for G, and their weights."""
    layouts = [(study.layouts[name], weight) for name, weight in mix.beside.items()]
    return sorted((_called(layout.kind, called[layout.strategy]), weight) for layout, weight in layouts)


def _choice(layout: Layout) -> str:
    """Which of its texts a layout keeps."""
    if layout.select:
        return layout.select.words
    return f"by {layout.align}, clip {layout.clip or CLIP:g}" if layout.align else "all texts"


def _mode(study: Study, mix: Mix, called: Mapping[str, str]) -> str:
    """Where its settings come from.

    Those that were found on the very same streams are its own: attention, context or whatever else of the two mixes
    differs is then the one thing that does.
    """
    followed = mix.like or (mix.match and mix.match.mix)
    if not followed:
        return "own"
    other = study.mixes[followed]
    layout, theirs = study.layouts[mix.layout], study.layouts[other.layout]
    same = (layout, mix.beside, mix.f == 1) == (theirs, other.beside, other.f == 1)
    whose = "its own layout" if same else _whose(study, mix, other, called)
    if mix.like:
        return "own" if same else f"those of {whose}"
    return f"matched by {mix.match.by} to {whose}"


def _whose(study: Study, mix: Mix, other: Mix, called: Mapping[str, str]) -> str:
    """The layout of another mix, with its G only where that is another, so that one series in G has one name."""
    theirs = study.layouts[other.layout]
    said = [_called(theirs.kind, called.get(theirs.strategy))]
    said += [REAL[theirs.real]] if theirs.real in REAL else []
    own, their = (sum(study.generations_in(one.layouts).values()) for one in (mix, other))
    return ", ".join(said + ([f"G = {their}"] if their not in (0, own) else []))


def _word(key: str, design: Mapping) -> str:
    value = design[key]
    match key:
        case "model":
            return f"{design['parameters']:,} parameters"
        case "mode":
            return f"at the settings{value.removeprefix('those')}" if value.startswith("those") else str(value)
        case "real_stream":
            return "no separate real stream"
        case "attention":
            return f"attention within {value}" if value != "across" else "attention across documents"
        case "undecayed":
            return f"no decay of {', '.join(value) or 'nothing'}"
        case "align":
            return f"chosen {value}"
        case "also":
            return f"pooled with {', '.join(value)}"
        case "beside":
            return "beside " + ", ".join(f"{weight:g} of {layout}" for layout, weight in value)
        case "max_ratio":
            return f"at most {value:g} synthetic tokens per real one"
        case "real_share":
            return f"{value:.0%} of the real documents"
        case "batch_tokens":
            return f"{value:,} tokens per batch"
        case _:
            return f"{key.replace('_', ' ')} {value}"
