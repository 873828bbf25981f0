"""Where a text comes from: how many models lie between it and people, and what its generator was trained on.

``depth`` is 0 for text of people and 1 + the largest depth of its sources for anything generated: of the documents it
was made of, and of the mix its generator was trained on (Shumailov et al. 2024, 2305.17493: each such step loses
tails). It is computed, never declared: a model trained here carries the lineage of its mix in its folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from palimpsest.config import Study, resolve
from palimpsest.lake import Lake, LakeError, Published, digest_json

LINEAGE = "lineage.json"
GROUNDED = frozenset({"rephrase", "rationale", "augment"})
"""Kinds of strategy that write over a real document; the others go on from a prompt or a beginning by themselves."""
SEEDED = GROUNDED | {"continuation"}
"""Kinds that are shown something of a document."""


@dataclass(frozen=True)
class Generator:
    """What wrote a strategy's texts, as far as this platform knows it."""

    model: str
    mix: str | None = None
    """URI of the mix it was trained on, if it was trained here; None for a generator from outside."""
    recipe: str | None = None
    mix_digest: str | None = None
    depth: int | None = 0
    """The largest depth in that mix; None where it was trained here and its lineage is lost. What a generator from
    outside was trained on nobody here knows: it counts as text of people."""

    @property
    def self_consuming(self) -> bool:
        """It learned from this platform's corpora, and its text goes back into them."""
        return self.mix is not None

    def depth_of_text(self, source_depth: int) -> int | None:
        """The depth of what it makes of a document of ``source_depth``."""
        return None if self.depth is None else 1 + max(source_depth, self.depth)


def generator_of(study: Study, strategy: str, model: str, lake: Lake) -> Generator:
    """The generator of a strategy; ``model`` is its name in the keys of the ledger.

    A model trained here is known by its run (``run:<study>/<run>``), or by the lineage file in its folder.
    """
    engine = study.strategies[strategy].engine
    if engine.kind != "vllm":
        return Generator(model)
    server = study.servers[engine.server]
    if server.is_hub_model:
        return Generator(model)
    if server.is_run:
        other, run = server.model.removeprefix("run:").split("/")
        published = lake.latest(f"studies/{other}/runs/{run}")
        return _trained(model, _lineage_in(published.path / "model") or {"mix": published.uri})
    lineage = _lineage_in(resolve(server.model))
    return _trained(model, lineage) if lineage else Generator(model)


def _trained(model: str, lineage: Mapping[str, object]) -> Generator:
    return Generator(model, lineage["mix"], lineage.get("recipe"), lineage.get("mix_digest"), lineage.get("depth"))


def _lineage_in(folder: Path) -> dict | None:
    try:
        found = json.loads((folder / LINEAGE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except json.JSONDecodeError as error:
        raise LakeError(f"{folder / LINEAGE} is damaged ({error}); export or train the model again") from None
    if not {"mix", "mix_digest", "recipe", "depth"} <= found.keys():
        raise LakeError(f"{folder / LINEAGE} lacks its mix or depth; export or train the model again")
    return found


def write_lineage(folder: Path, tokens: Published, recipe: str) -> None:
    """``lineage.json`` beside a trained model: the mix it learned from and what that was made of."""
    parent = next(p for p in tokens.manifest["parents"] if p["dataset"].endswith("/mixes"))
    mixes = tokens.lake.open(parent["uri"], parent["digest"])
    known = mixes.extra.get("lineage", {}).get(recipe, {})
    lineage = {"mix": mixes.uri, "mix_digest": mixes.digest, "recipe": recipe, "depth": known.get("depth"), **known}
    _write(folder, lineage)


def write_lost_lineage(folder: Path, run: str) -> None:
    """``lineage.json`` beside a model trained here whose mix cannot be told: no depth, and no gate that it passed."""
    _write(folder, {"mix": f"unknown (a checkpoint of run {run})", "mix_digest": None, "recipe": None, "depth": None})


def _write(folder: Path, lineage: Mapping[str, object]) -> None:
    (folder / LINEAGE).write_text(json.dumps(lineage, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def lineage_of_mixes(shares: list[Mapping[str, object]]) -> dict[str, dict[str, object]]:
    """By recipe: the largest depth it holds (None if one is not known) and the tokens trained on by provenance.

    ``shares``: rows of mix_shares.parquet.
    """
    found: dict[str, dict] = {}
    for row in shares:
        kept = found.setdefault(row["recipe"], {"depth": 0, "tokens": 0.0, "real_tokens": 0.0, "self_consuming": False})
        depth = row["depth"]
        kept["depth"] = None if depth is None or kept["depth"] is None else max(kept["depth"], depth)
        kept["tokens"] += row["trained_tokens"]
        kept["real_tokens"] += row["trained_tokens"] if row["origin"] == "real" else 0.0
        kept["self_consuming"] |= bool(row["self_consuming"])
    return found


def decoding_of(study: Study, strategy: str) -> str | None:
    """How a strategy's text was drawn, as canonical JSON; None for engines that do not sample from a model here."""
    chosen = study.strategies[strategy]
    return json.dumps(chosen.sampling.canonical(), sort_keys=True) if chosen.engine.kind == "vllm" else None


def verifier_of(canonical: Mapping[str, object], kind: str) -> str:
    """Who decided on a strategy's texts: the review and its settings; classic augmentation is not reviewed."""
    return "none" if kind == "augment" else f"review:{digest_json(canonical)[:12]}"
