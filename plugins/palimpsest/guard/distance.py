"""How far generated text lies from real text, on bounded samples: a classifier, a kernel distance, and variety.

Each figure comes with its null, real against real over eight random halvings: documents cluster, so that an AUC of
0.5 or a distance of 0 is not what equal text gives.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from palimpsest.guard.diversity import SPLITS, Null, null_of
from palimpsest.guard.tokens import TOKEN

TEXTS = 2_000
"""Texts per side, one window of so many characters of each: all measures here take seconds."""
WINDOW = 1_000
LEAST = 20
"""Texts per side below which nothing can be told."""
DIMENSIONS = 64


@dataclass(frozen=True)
class Distance:
    """Real against synthetic text, beside real against real."""

    texts: int
    """Per side."""
    auc: float
    """Of a classifier on held-out texts (Lopez-Paz and Oquab 2017, 1610.06545): 0.5 is like, 1 is told apart."""
    auc_null: Null
    mmd: float
    """Squared maximum mean discrepancy, cubic kernel on standardised LSA features."""
    mmd_null: Null
    vendi: float
    """Effective number of distinct texts (Friedman and Dieng 2023, 2210.02410) on the same features, unit length."""
    vendi_null: Null

    @property
    def mmd_ratio(self) -> float | None:
        """The distance in multiples of that between real halves of the same size; None where those are all equal."""
        return self.mmd / self.mmd_null.mean if self.mmd_null.mean > 1e-12 else None


class Detector:
    """A classifier of generated text: character n-grams (1 to 4), logistic regression.

    Raises ValueError where a side has fewer than `LEAST` texts, or all texts are equal.
    """

    def __init__(self, real: Iterable[str], synthetic: Iterable[str], seed: int = 0) -> None:
        real, synthetic = sample(real, seed), sample(synthetic, seed + 1)
        _check(len(real), len(synthetic))
        if len({*real, *synthetic}) < 2:
            raise ValueError("all texts are equal: there is nothing to tell apart")
        labels = np.repeat([0, 1], [len(real), len(synthetic)])
        self._model = classifier().fit(character_grams([*real, *synthetic]), labels)

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """P(generated) of each text, as if both kinds were equally many; 0.5 for an empty one."""
        if not texts:
            return np.zeros(0)
        scores = self._model.predict_proba(character_grams([text[:WINDOW] for text in texts]))[:, 1]
        return np.where([bool(text.strip()) for text in texts], scores, 0.5)


def distance(
    real: Sequence[str], synthetic: Sequence[str], seed: int = 0, *, nulls: Distance | None = None
) -> Distance:
    """All three measures at equal numbers of texts; ``nulls`` has those of the same real texts, measured before. They
    are measured again for another number a side: the null of 100 texts is three times as wide as that of 400.

    Raises ValueError for too few texts, or texts without words. One thread: a library's own would only get in the way
    of the tasks beside this one.
    """
    from threadpoolctl import threadpool_limits

    real, synthetic = sample(real, seed, 2 * TEXTS), sample(synthetic, seed + 1)
    side = min(len(real) // 2, len(synthetic))
    _check(side, side)
    random = np.random.default_rng(seed)
    with threadpool_limits(1):
        grams = character_grams([*real, *synthetic])
        features = lsa(real, [*real, *synthetic], seed)
        ours, theirs = random.permutation(len(real))[:side], len(real) + np.arange(side)
        auc = _auc(grams, ours, theirs, random)
        if nulls is None or nulls.texts != side:
            aucs, mmds, vendis = [], [], []
            for _ in range(SPLITS):
                order = random.permutation(len(real))
                first, second = order[:side], order[side : 2 * side]
                aucs.append(_auc(grams, first, second, random))
                mmds.append(mmd(features[first], features[second]))
                vendis.append(vendi(features[first]))
            found = null_of(aucs), null_of(mmds), null_of(vendis)
        else:
            found = nulls.auc_null, nulls.mmd_null, nulls.vendi_null
        far, variety = mmd(features[ours], features[theirs]), vendi(features[theirs])
    return Distance(side, auc, found[0], far, found[1], variety, found[2])


def told_apart(real, synthetic, seed: int = 0) -> tuple[int, float, Null]:
    """Rows of features per side, the AUC of a classifier between them, and its null, real against real.

    For features that are there already (matrices, sparse or not, a row per item). Raises ValueError for too few rows.
    """
    side = min(real.shape[0] // 2, synthetic.shape[0])
    _check(side, side)
    random = np.random.default_rng(seed)
    order = random.permutation(real.shape[0])
    ours, theirs = real[order[: 2 * side]], synthetic[random.permutation(synthetic.shape[0])[:side]]
    if isinstance(ours, np.ndarray):
        both = np.concatenate([ours, theirs])
    else:
        from scipy.sparse import vstack

        both = vstack([ours, theirs], format="csr")
    auc = _auc(both, np.arange(side), 2 * side + np.arange(side), random)
    halves = (random.permutation(2 * side) for _ in range(SPLITS))
    return side, auc, null_of([_auc(both, half[:side], half[side:], random) for half in halves])


def sample(texts: Iterable[str], seed: int, count: int = TEXTS) -> list[str]:
    """A random window of each of so many random texts that are not blank; reads a stream once (reservoir)."""
    random = np.random.default_rng(seed)
    kept: list[str] = []
    met = 0
    for text in texts:
        if not text.strip():
            continue
        met += 1
        place = len(kept) if len(kept) < count else int(random.integers(met))
        if place < count:
            start = int(random.integers(max(len(text) - WINDOW, 0) + 1))
            kept[place : place + 1] = [text[start : start + WINDOW]]
    return kept


def character_grams(texts: Sequence[str]):
    """Hashed counts of runs of 1 to 4 characters, damped and of unit length: a sparse matrix, a row per text."""
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.preprocessing import normalize

    counted = HashingVectorizer(
        analyzer="char", ngram_range=(1, 4), n_features=1 << 18, alternate_sign=False, norm=None, lowercase=False
    ).transform(texts)
    counted.data = np.log1p(counted.data)
    return normalize(counted, copy=False)


def lsa(fitted: Sequence[str], texts: Sequence[str], seed: int) -> np.ndarray:
    """Latent semantic features of texts, a row per text and up to 64 columns.

    Words that the ``fitted`` texts lack do not count: text in words of its own lies near 0, which the classifier sees.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(token_pattern=TOKEN.pattern, max_features=20_000, sublinear_tf=True)
    counted = words.fit_transform(fitted)
    dimensions = min(DIMENSIONS, counted.shape[1] - 1, len(fitted) - 1)
    if dimensions < 1:
        raise ValueError("the real texts have one word among them: there are no features to compare")
    with np.errstate(invalid="ignore"):  # equal texts have no variance to explain
        return TruncatedSVD(dimensions, random_state=seed).fit(counted).transform(words.transform(texts))


def mmd(first: np.ndarray, second: np.ndarray) -> float:
    """Squared MMD between rows under k(x, y) = (x.y/d + 1)^3, features in units of their joint deviation.

    With the pairs of a row and itself: two samples of one distribution then have a positive distance, by which others
    can be divided.
    """
    both = np.concatenate([first, second])
    spread = both.std(axis=0)
    first, second = ((side - both.mean(axis=0)) / np.where(spread > 1e-9, spread, 1.0) for side in (first, second))

    def mean(left: np.ndarray, right: np.ndarray) -> float:
        return float(((left @ right.T / left.shape[1] + 1) ** 3).mean())

    return max(0.0, mean(first, first) + mean(second, second) - 2 * mean(first, second))


def vendi(features: np.ndarray) -> float:
    """Exp of the entropy of the eigenvalues of K/n, K the cosine similarities: 1 where all rows are equal."""
    lengths = np.linalg.norm(features, axis=1)
    rows = features[lengths > 1e-12] / lengths[lengths > 1e-12, None]
    if not len(rows):
        return 1.0
    found = np.linalg.eigvalsh(rows.T @ rows / len(rows))
    found = found[found > 1e-12]
    return float(np.exp(-(found * np.log(found)).sum()))


def _auc(grams, first: np.ndarray, second: np.ndarray, random: np.random.Generator) -> float:
    """AUC on the half of each side that the classifier has not seen."""
    from sklearn.metrics import roc_auc_score

    halves = [(side[: len(side) // 2], side[len(side) // 2 :]) for side in map(random.permutation, (first, second))]
    seen, unseen = (np.concatenate(half) for half in zip(*halves, strict=True))
    labels = [np.repeat([0, 1], [len(half) for half in part]) for part in zip(*halves, strict=True)]
    model = classifier(dual=not isinstance(grams, np.ndarray)).fit(grams[seen], labels[0])
    return float(roc_auc_score(labels[1], model.decision_function(grams[unseen])))


def classifier(dual: bool = True):
    """Logistic regression for rows of character n-grams, both kinds counted equally."""
    from sklearn.linear_model import LogisticRegression

    # in the dual, time goes with the texts and not with the 262,144 columns
    return LogisticRegression(C=10.0, solver="liblinear", dual=dual, class_weight="balanced", random_state=0)


def _check(real: int, synthetic: int) -> None:
    if min(real, synthetic) < LEAST:
        raise ValueError(
            f"telling real from generated text needs {2 * LEAST} real and {LEAST} generated texts that are not blank"
        )
