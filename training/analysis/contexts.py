"""Loss by the number of context tokens, and what keeping generations together gains with more of them.

A layout that teaches a longer memory gains where much context is at hand; one that regularises gains everywhere alike.
So beside the gap in each bucket stands its slope per doubling of the context. Intervals are those of every other gap:
over seeds paired (`training.analysis.paired`), over held-out documents by the ratio estimator, each bucket's tokens of
a document being one cluster (`training.analysis.sampling`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

import numpy as np
import pyarrow.parquet as pq

from palimpsest.config import Study
from palimpsest.lake import LakeError, Published
from training.analysis import sampling
from training.analysis.paired import half_width
from training.analysis.rows import OWN

Bucket = tuple[int, int]


@dataclass(frozen=True)
class Read:
    """What the runs of a mix made of one held-out set."""

    context: int
    buckets: list[Bucket]
    documents: list[str]
    tokens: np.ndarray
    """(documents, buckets): the same for every run."""
    nats: dict[int, np.ndarray] = field(default_factory=dict)
    """By seed: summed losses, (documents, buckets)."""

    def losses(self, seed: int) -> np.ndarray:
        """Nats per token, (buckets,)."""
        return self.nats[seed].sum(0) / self.tokens.sum(0)


def compare_contexts(study: Study, verdicts: Sequence[Published], gaps: Sequence[Mapping]) -> dict[str, list[dict]]:
    """``contexts``: a row per mix and set, with its ``buckets``; ``context_gaps``: per pair of `find_gaps` and set.

    A bucket is first and last number of context tokens, tokens, documents, loss and its spread over seeds; of a pair
    gap (against minus mix), its half widths over seeds and documents. ``slope`` is what a doubling of the context adds
    to the gap, by least squares over the tokens; those without context are left out. Both empty where no run was read
    so.
    """
    read = _read(verdicts)
    told = [
        {"mix": mix, "set": name, "context": one.context, "seeds": len(one.nats), "buckets": _losses(one)}
        for mix in study.mixes
        for name, one in read.get(mix, {}).items()
    ]
    pairs = {}
    for gap in gaps:
        for point in gap["points"]:
            pairs.setdefault((point["mix"], point["against"]), (gap["layout"], gap["against"]))
    found = [
        {"mix": mix, "against": against, "layout": names[0], "set": name, **gap}
        for (mix, against), names in pairs.items()
        for name in read.get(mix, {})
        if name in read.get(against, {}) and (gap := _gap(read[mix][name], read[against][name]))
    ]
    return {"contexts": told, "context_gaps": found}


def _read(verdicts: Sequence[Published]) -> dict[str, dict[str, Read]]:
    found: dict[str, dict[str, Read]] = defaultdict(dict)
    for published in sorted(verdicts, key=lambda one: one.dataset):
        if "/contexts/" not in published.dataset:
            continue
        facts, rows = published.extra, pq.read_table(published.file("contexts.parquet")).to_pylist()
        for name in facts["sets"]:
            one = _of_set([row for row in rows if _belongs(row, name)], facts["context"], facts["seed"])
            known = found[facts["recipe"]].setdefault(name, one)
            if (known.documents, known.buckets) != (one.documents, one.buckets) or (known.tokens != one.tokens).any():
                raise LakeError(f"{published.uri}: other documents of '{name}' than other seeds'; judge the runs again")
            known.nats.update(one.nats)
    return found


def _belongs(row: Mapping, name: str) -> bool:
    if name in OWN:
        return row["set"] is None and (name == "iid" or bool(row[f"is_{name}"]))
    return row["set"] == name


def _of_set(rows: Sequence[Mapping], context: int, seed: int) -> Read:
    documents = list(dict.fromkeys(row["document_id"] for row in rows))
    buckets = sorted({(row["first"], row["last"]) for row in rows})
    place = {name: number for number, name in enumerate(documents)}
    tokens, nats = np.zeros((2, len(documents), len(buckets)))
    for row in rows:
        cell = place[row["document_id"]], buckets.index((row["first"], row["last"]))
        tokens[cell], nats[cell] = row["tokens"], row["nats"]
    return Read(context, buckets, documents, tokens, {seed: nats})


def _losses(one: Read) -> list[dict]:
    by_seed = np.array([one.losses(seed) for seed in sorted(one.nats)])
    return [
        {
            "first": first,
            "last": last,
            "tokens": int(one.tokens[:, number].sum()),
            "documents": int((one.tokens[:, number] > 0).sum()),
            "loss": fmean(by_seed[:, number]),
            "spread": stdev(by_seed[:, number]) if len(by_seed) > 1 else None,
        }
        for number, (first, last) in enumerate(one.buckets)
    ]


def _gap(mega: Read, plain: Read) -> dict | None:
    seeds = sorted(mega.nats.keys() & plain.nats.keys())
    if not seeds or (mega.buckets, mega.documents) != (plain.buckets, plain.documents):
        return None
    by_seed = np.array([plain.losses(seed) - mega.losses(seed) for seed in seeds])
    nats = np.mean([plain.nats[seed] - mega.nats[seed] for seed in seeds], axis=0)
    influences = [_influence(nats[:, number], mega.tokens[:, number]) for number in range(len(mega.buckets))]
    buckets = [
        {
            "first": first,
            "last": last,
            "gap": fmean(by_seed[:, number]),
            "margin": half_width(by_seed[:, number].tolist()),
            "document_margin": _margin(influences[number], mega.tokens[:, [number]]),
            "by_seed": {str(seed): float(gap) for seed, gap in zip(seeds, by_seed[:, number], strict=True)},
        }
        for number, (first, last) in enumerate(mega.buckets)
    ]
    return {"context": mega.context, "seeds": len(seeds), "buckets": buckets} | _slope(mega, by_seed, influences)


def _slope(mega: Read, by_seed: np.ndarray, influences: Sequence[np.ndarray | None]) -> dict:
    places = [number for number, (first, _) in enumerate(mega.buckets) if first > 0]
    if len(places) < 2:
        return dict.fromkeys(("slope", "slope_margin", "slope_document_margin"))
    x, tokens = np.log2([mega.buckets[number][1] for number in places]), mega.tokens[:, places].sum(0)
    x -= np.average(x, weights=tokens)  # by tokens: of a book, two have one token before them, thousands have hundreds
    weights = tokens * x / (tokens * x**2).sum()
    slopes = by_seed[:, places] @ weights
    own = [influences[number] for number in places]
    combined = None if any(one is None for one in own) else weights @ np.array(own)
    over = _margin(combined, mega.tokens[:, places])
    return {"slope": fmean(slopes), "slope_margin": half_width(slopes.tolist()), "slope_document_margin": over}


def _influence(nats: np.ndarray, tokens: np.ndarray) -> np.ndarray | None:
    """Of each document on a bucket's difference, 0 where it has no such token; None for fewer than two that have."""
    there = tokens > 0
    if there.sum() < 2:
        return None
    found = np.zeros(len(tokens))
    found[there] = sampling.influence(nats[there], tokens[there])
    return found


def _margin(influence: np.ndarray | None, tokens: np.ndarray) -> float | None:
    """Half width; of several buckets, (documents, buckets), the one of fewest effective documents decides."""
    if influence is None:
        return None
    return float(max(sampling.half_width(influence, own[own > 0]) for own in tokens.T))
