"""How far a generation says what its source says: names, numbers and terms that the two share, as one figure.

Three bags of facts are taken from both texts: names (capitalised words inside sentences), numbers, and terms (content
words, cut at six letters; 1-grams, because a good rephrase shares few longer runs and `near_copy` measures those).
For each bag, precision is the share of the generation's facts that the source holds: entity precision of Nan et al.
2021 (2102.09130), the quantity check of Zhao et al. 2020 (2009.13312), extractive coverage of Grusky et al. 2018
(1804.11283). Recall is the share of the source's facts that the generation holds. Both make F with beta 0.5 (van
Rijsbergen 1979): what is made up weighs more than what is left out, because rephrases are meant to be shorter. The
score is the mean of the three, each weighted by its facts up to `ENOUGH`, so that one small number decides nothing.

A rationale and a continuation are to add what the source does not say: covering it is not their task, so only
precision counts. A sample without a source, and text cut from its source, have no score.
"""

from __future__ import annotations

from palimpsest.generate.review.facts import Facts

BETA = 0.5
ENOUGH = 5
"""Facts of a kind from which on it has its full weight."""
COVERS = {"rephrase": True, "rationale": False, "continuation": False}
"""Kinds that have a score, and whether they are to cover their source."""


def faithfulness(text: Facts, source: Facts, *, covers: bool = True) -> float:
    """0 (nothing in common) to 1 (every name, number and term is the other's too); ``covers``: recall counts.

    Names are looked up among all of the other text's words, so a capital lost in rewriting is no invention.
    """
    pairs = [
        (text.names, source.stems, source.names, text.stems),
        (text.numbers, source.numbers, source.numbers, text.numbers),
        (text.terms, source.terms, source.terms, text.terms),
    ]
    total = weights = 0.0
    for said, allowed, expected, covered in pairs:
        weight = min(1.0, len(said | expected if covers else said) / ENOUGH)
        if weight:
            precision = len(said & allowed) / len(said) if said else 1.0
            recall = len(expected & covered) / len(expected) if expected else 1.0
            total += weight * (_f(precision, recall) if covers else precision)
            weights += weight
    return total / weights if weights else 0.0


def _f(precision: float, recall: float) -> float:
    both = BETA**2 * precision + recall
    return (1 + BETA**2) * precision * recall / both if both else 0.0
