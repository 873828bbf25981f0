"""Scores of texts whose quality is known: what each finds, and what learning from its choice is worth."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from palimpsest.choice import kept_by
from palimpsest.config import Select
from palimpsest.guard.tokens import Vocabulary
from palimpsest.guard.trigram import Trigram
from palimpsest.lake import Lake
from tests.training.selection.conftest import publish
from training.selection import at_random, classifier, commonness, likelihood
from training.selection.found import average, ranks
from training.selection.methods import CHEAP
from training.selection.pool import Pool


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    return Lake(tmp_path_factory.mktemp("scored"))


@pytest.fixture(scope="module")
def pool(lake, planted):
    return Pool(**publish(lake, planted))


@pytest.fixture(scope="module")
def found(pool):
    own = {name: scored(pool) for name, scored in {**CHEAP, "random": at_random.score}.items()}
    return own | {"rank": average({name: own[name] for name in ("likelihood", "classifier")}, pool.origin)}


def auroc(pool, found, planted, bad):
    """How surely the score puts good generations above those of the bad kinds."""
    kinds = {f"{document}/0": kind for document, kind, _ in planted[1]}
    own = [kinds.get(key) for key in pool.rows["id"].to_pylist()]
    mine = [n for n, kind in enumerate(own) if kind == "good" or kind in bad]
    return roc_auc_score([own[n] == "good" for n in mine], found.score[mine])


@pytest.mark.parametrize(
    ("method", "bad", "least"),
    [
        ("commonness", ("boilerplate",), 0.95),
        ("likelihood", ("shuffled",), 0.9),
        ("classifier", ("boilerplate",), 0.9),
        ("classifier", ("shuffled",), 0.55),
        ("rank", ("shuffled", "boilerplate"), 0.85),
        ("rank", ("shuffled", "boilerplate", "sampled"), 0.6),
    ],
)
def test_a_score_finds_the_defect_it_is_for(pool, found, planted, method, bad, least):
    assert auroc(pool, found[method], planted, bad) >= least


def test_a_lot_finds_nothing(pool, found, planted):
    assert auroc(pool, found["random"], planted, ("shuffled", "boilerplate", "sampled")) == pytest.approx(0.5, abs=0.12)


def test_what_rank_average_keeps_teaches_more_than_as_much_by_lot(pool, found, words, planted):
    """Perplexity of held-out real text under a word trigram of the kept half, as in a study at an equal budget."""
    texts = {f"{document}/0": text for document, _, text in planted[1]}
    own = np.flatnonzero(pool.origin == "synthetic")
    vocabulary = Vocabulary()
    held = [vocabulary.encode(" ".join(text)) for text in words[2]]
    encoded = {key: vocabulary.encode(text) for key, text in texts.items()}

    def perplexity(method: str, seed: int = 0) -> float:
        draws = np.random.default_rng(seed).random(len(own))
        rule = Select(by="rank", share=0.4)
        scores = draws if method == "random" else found[method].score[own]
        kept, _ = kept_by(rule, scores, found["rank"].weight[own], pool.tokens[own], draws)
        chosen = [encoded[pool.rows["id"][int(place)].as_py()] for place in own[kept]]
        return Trigram(chosen, len(vocabulary)).perplexity(held)

    assert perplexity("rank") < min(perplexity("random", seed) for seed in range(3))


def test_nothing_is_likely_or_real_for_standing_over_its_own_source(lake, words):
    """A copy of the document it is written over is judged by what was learned from other documents alone."""
    real = [(f"d{n:03}", " ".join(text)) for n, text in enumerate(words[0])]
    copies = [(key, "copy", text) for key, text in real]
    pool = Pool(**publish(Lake(f"{lake.root}/copies"), (real, copies)))
    told = likelihood.score(pool).score
    own = pool.origin == "synthetic"
    assert told[own] == pytest.approx(told[~own])
    odds = classifier.score(pool).score
    assert roc_auc_score(~own, odds) == pytest.approx(0.5, abs=0.1)


def test_a_texts_score_is_its_own(lake, planted, found, pool):
    """More generations over the same documents leave likelihoods as they are, and make the same text twice common."""
    again = Pool(**publish(Lake(f"{lake.root}/again"), planted, copies=2))
    first = np.array([g in (None, 0) for g in again.rows["g"].to_pylist()])
    assert likelihood.score(again).score[first] == pytest.approx(found["likelihood"].score)
    own = pool.origin == "synthetic"
    assert (commonness.score(again).score[first][own] < found["commonness"].score[own]).mean() > 0.9


def test_copies_are_commoner_than_templates_and_these_than_text_like_no_other(lake):
    """All of the same words: a text's own n-grams, each seen once, do not make it common."""
    random = np.random.default_rng(0)
    types = [f"word{n}" for n in range(300)]
    copied, template = ([str(word) for word in random.choice(types, 60)] for _ in range(2))
    written = []
    for n in range(60):
        slots = [str(random.choice(types)) if place % 6 == 0 else word for place, word in enumerate(template)]
        text = {"copy": copied, "template": slots, "unique": random.choice(types, 60)}
        kind = tuple(text)[n % 3]
        written.append((f"d{n:03}", kind, " ".join(text[kind])))
    pool = Pool(**publish(Lake(f"{lake.root}/copied"), ([(key, key) for key, *_ in written], written)))
    kinds = {f"{key}/0": kind for key, kind, _ in written}
    told = -commonness.score(pool).score
    by_kind = {kind: [told[n] for n, key in enumerate(pool.rows["id"].to_pylist()) if kinds.get(key) == kind]
               for kind in ("copy", "template", "unique")}  # fmt: skip
    assert min(by_kind["copy"]) > max(by_kind["template"])
    assert min(by_kind["template"]) > max(by_kind["unique"])


def test_ranks_are_within_an_origin_and_weights_have_a_mean_of_one(pool, found):
    origin = np.array(["a", "a", "b", "b", "b"], dtype=object)
    assert ranks(np.array([5.0, 1, 7, 7, 0]), origin) == pytest.approx([0.75, 0.25, 4 / 6, 4 / 6, 1 / 6])
    for name in ("real", "synthetic"):
        for method, own in found.items():
            assert own.weight[pool.origin == name].mean() == pytest.approx(1), method
    common = found["commonness"].weight[pool.origin == "synthetic"]
    assert common.max() / common.min() <= commonness.RATIO * 1.001


def test_too_little_text_is_said_with_numbers(lake, planted):
    few = [side[:12] for side in planted]
    pool = Pool(**publish(Lake(f"{lake.root}/few"), few))
    with pytest.raises(ValueError, match="12 real texts are too few"):
        classifier.score(pool)
    alone = Pool(**publish(Lake(f"{lake.root}/alone"), [side[:1] for side in planted]))
    with pytest.raises(ValueError, match="too few to judge by a model"):
        likelihood.score(alone)
