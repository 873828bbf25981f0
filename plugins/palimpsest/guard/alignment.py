"""How far one interval's or one generator's text lies from real text: a row of figures for a trend."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from palimpsest.guard.copying import LENGTHS, self_bleu
from palimpsest.guard.distance import Distance, distance, sample
from palimpsest.guard.diversity import FIGURES
from palimpsest.guard.measure import Reference, watch


@dataclass(frozen=True)
class Alignment:
    """The figures by name, None where one cannot be told; ``unjudged`` says why."""

    figures: Mapping[str, float | None]
    distance: Distance | None
    unjudged: str


def align(texts: Iterable[str], real: Reference, *, nulls: Distance | None = None, seed: int = 0) -> Alignment:
    """The trend's figures, of a bounded sample of the texts' windows (2,000 of 1,000 characters).

    entropy, compression, distinct_n: deviations from real text (``_z``). auc: above its null. mmd: in multiples of
    its null. vendi and self_bleu: over real text's own. tail_mass: share of words that are rare in real text.
    novelty_n: share of n-grams that the sample of real text does not have. ``nulls`` of an earlier `Alignment` with the
    same real text save most of the time.
    """
    taken = sample(texts, seed)
    theirs = sample(real.texts, seed)
    passed = watch(taken, real)
    blocks = passed.blocks.means
    found: dict[str, float | None] = {"texts": float(len(taken)), "tokens": float(passed.tail.tokens)}
    for name in FIGURES:
        found[f"{name}_z"] = passed.nulls[name].z(blocks[name]) if passed.nulls else None
    found["tail_mass"] = passed.tail.mass if passed.tail.tokens else None
    documents = [real.vocabulary.encode(text) for text in taken]
    new = real.known.novelty(documents)
    found |= {f"novelty_{length}": new[length] for length in LENGTHS}
    own, usual = self_bleu(taken), self_bleu(theirs)
    found["self_bleu"] = own
    found["self_bleu_ratio"] = own / usual if own is not None and usual else None
    far, why = None, passed.unjudged
    try:
        far = distance(real.texts, taken, seed, nulls=nulls)
    except ValueError as error:
        why = "; ".join(filter(None, (why, str(error))))
    found["auc"] = far.auc - far.auc_null.mean if far else None
    found["mmd"] = far.mmd_ratio if far else None
    found["vendi"] = far.vendi / far.vendi_null.mean if far else None
    return Alignment(found, far, why)


def effective_number(counts: Mapping[str, int]) -> float:
    """How many generators (or domains) a set has in effect: exp of the entropy of their shares; 0 of an empty set."""
    total = sum(counts.values())
    shares = [count / total for count in counts.values() if count > 0] if total else []
    return math.exp(-sum(share * math.log(share) for share in shares)) if shares else 0.0
