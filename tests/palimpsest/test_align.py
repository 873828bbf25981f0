"""An aligned layout: which texts it keeps, what that depends on, and what comes of it in mixes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from palimpsest import align
from palimpsest.guard.corpus import cpython_documents
from palimpsest.guard.importance import Odds, Text, draw, effective, keeps, weights
from palimpsest.guard.tokens import Vocabulary
from palimpsest.guard.trigram import Trigram
from palimpsest.lake import Facts, LakeError
from tests.palimpsest.conftest import write_study

DOCUMENTS = 160


@pytest.fixture(scope="module")
def texts():
    """Real documents, and over each of them one text like real ones (another document) and one of a trigram's mode."""
    vocabulary = Vocabulary()
    documents = cpython_documents()
    chosen = np.random.default_rng(0).permutation(len(documents))[: 2 * DOCUMENTS]
    encoded = [vocabulary.encode(documents[n]) for n in chosen]
    real, other = encoded[:DOCUMENTS], encoded[DOCUMENTS:]
    drawn = Trigram(real, len(vocabulary)).sample(sum(map(len, real)), np.random.default_rng(0), mode_seeking=True)
    seeking = [drawn[n % len(drawn)] for n in range(DOCUMENTS)]
    return [[vocabulary.decode(d) for d in own] for own in (real, other, seeking)]


def sides(texts):
    real, other, seeking = texts
    written = [(f"{n}/0", f"d{n}", (other if n % 2 else seeking)[n]) for n in range(DOCUMENTS)]
    return [Text(f"d{n}", f"d{n}", text) for n, text in enumerate(real)], [Text(*found) for found in written]


def test_odds_are_high_for_what_is_like_real_text(texts):
    real, written = sides(texts)
    odds = Odds(real, written).of(written)
    assert odds[1::2].mean() > odds[0::2].mean() + 1


def test_no_text_and_no_document_of_it_judges_it(texts):
    """Of one kind of text in two random halves a classifier knows its own examples by heart, and tells no others."""
    real, other, _ = texts
    first = [Text(f"r{n}", f"d{n}", text) for n, text in enumerate(real)]
    second = [Text(f"w{n}", f"e{n}", text) for n, text in enumerate(other)]
    odds = Odds(first, second)
    told = roc_auc_score([1] * len(first) + [0] * len(second), odds.of([*first, *second]))
    assert told == pytest.approx(0.5, abs=0.15)
    again = [
        Text(f"again{n}", f"d{n}", text) for n, text in enumerate(real)
    ]  # written over the document, word for word
    assert roc_auc_score([1] * len(first) + [0] * len(second), np.r_[odds.of(again), odds.of(second)]) < 0.65


def test_a_texts_odds_do_not_depend_on_what_else_is_asked(texts):
    real, written = sides(texts)
    odds = Odds(real[::-1], written[::-1])
    alone = np.concatenate([odds.of([text]) for text in written[:7]])
    assert alone == pytest.approx(Odds(real, written).of(written)[:7])
    assert odds.of([]).shape == (0,)
    assert odds.of([Text("e", "d1", " ")]).tolist() == [0.0]


@pytest.mark.parametrize("clip", [1.5, 2.0, 4.0])
def test_clipped_weights_have_a_mean_of_one_however_far_the_odds_are(clip):
    odds = np.concatenate([np.random.default_rng(0).normal(0, 3, 2_000), [40.0]])
    weight = weights(odds, np.ones(len(odds), bool), clip)
    assert weight.mean() == pytest.approx(1)
    assert weight.max() == pytest.approx(clip)
    assert (np.diff(weight[np.argsort(odds)]) >= 0).all()
    kept = keeps(weight, np.array([draw(f"{n}") for n in range(len(odds))]), clip)
    assert kept.mean() == pytest.approx(1 / clip, abs=0.03)
    assert kept[weight == clip].all()
    assert len(odds) / clip < effective(weight) < len(odds)


def test_even_odds_keep_a_random_share_and_count_fully():
    weight = weights(np.zeros(4_000), np.ones(4_000, bool), 2.0)
    assert weight == pytest.approx(1)
    assert effective(weight) == pytest.approx(4_000)
    with pytest.raises(ValueError, match="above 1"):
        weights(np.zeros(3), np.ones(3, bool), 1.0)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda real, written: (real[:10], written), "10 real ones leave"),
        (lambda real, written: (real, []), "0 generated ones leave 0"),
        (lambda real, written: ([Text(t.key, t.document, "x") for t in real + written],) * 2, "all texts are equal"),
    ],
)
def test_too_little_text_or_all_the_same_is_named(texts, change, match):
    with pytest.raises(ValueError, match=match):
        Odds(*change(*sides(texts)))


def published(lake, texts, generations=2, unknown=0):
    """A split and generations as earlier stages publish them: g = 0 half of each kind, g = 1 the other half."""
    real, other, seeking = texts
    own = [(f"d{n}", text, "real") for n, text in enumerate(real)]
    own += [(f"u{n}", (other if n % 2 else seeking)[n], "unknown") for n in range(unknown)]
    train = pa.Table.from_pylist(
        [{"document_id": key, "text": text, "is_reserve": False, "origin": origin} for key, text, origin in own]
    )
    rows = [
        {"generation_id": f"{n}/{g}", "document_id": f"d{n}", "strategy": "rephrase", "g": g,
         "text": (other if (n + g) % 2 else seeking)[n]}
        for n in range(DOCUMENTS) for g in range(generations)
    ]  # fmt: skip

    def write(name, table):
        def inside(directory):
            pq.write_table(table, directory / f"{name}.parquet")
            return Facts()

        return inside

    split = lake.publish("studies/small/split", write("train", train), config={"u": unknown})
    table = pa.Table.from_pylist(rows)
    return {
        "split": split,
        "generations": lake.publish(
            "studies/small/generations", write("generations", table), config={"g": generations}
        ),
    }


def study_of(tmp_path, **layouts):
    given = {"real": {"kind": "real"}, "simple": {"kind": "simple", "strategy": "rephrase"}} | layouts
    mixes = {"real": {"layout": "real", "epochs": 4}}
    return write_study(tmp_path, layouts=given, mixes=mixes)


def kept(weighed, layout="kept"):
    rows = pq.read_table(weighed.file("weights.parquet")).to_pylist()
    return {row["generation_id"] or row["document_id"]: row["keeps"] for row in rows if row["layout"] == layout}


def test_a_stream_gets_nearer_to_real_text_and_what_it_lost_is_measured(lake, tmp_path, texts):
    study = study_of(tmp_path, kept={"kind": "simple", "strategy": "rephrase", "align": "importance"})
    weighed = align.weigh(study, lake, **published(lake, texts))
    fate = kept(weighed)
    like = [keeps for key, keeps in fate.items() if sum(map(int, key.split("/"))) % 2]
    unlike = [keeps for key, keeps in fate.items() if not sum(map(int, key.split("/"))) % 2]
    assert np.mean(like) > np.mean(unlike) + 0.3
    told = weighed.extra["layouts"]["kept"]
    assert told["clip"] == 2
    assert told["generations"]["texts"] == 2 * DOCUMENTS
    assert told["generations"]["kept"] == sum(fate.values())
    assert 0.5 < told["generations"]["effective"] / (2 * DOCUMENTS) < 1
    rows = {row["measure"]: row for row in pq.read_table(weighed.file("effects.parquet")).to_pylist()}
    assert {row["texts"] for row in rows.values()} == {sum(fate.values())}
    for name in ("auc", "mmd"):
        assert rows[name]["after"] < rows[name]["before"], name
    assert rows["auc"]["after"] > 0.4
    assert 0 < rows["rare_recall"]["after"] < 1.5
    assert abs(rows["entropy"]["after"] - rows["entropy"]["real_mean"]) < abs(
        rows["entropy"]["before"] - rows["entropy"]["real_mean"]
    )


def test_more_generations_change_no_fate_and_a_layout_of_fewer_holds_a_prefix(lake, tmp_path, texts):
    layouts = {
        "kept": {"kind": "simple", "strategy": "rephrase", "align": "importance"},
        "first": {"kind": "simple", "strategy": "rephrase", "align": "importance", "generations": 1},
    }
    study = study_of(tmp_path, **layouts)
    fewer = kept(align.weigh(study, lake, **published(lake, texts, generations=1)))
    both = align.weigh(study, lake, **published(lake, texts, generations=2))
    more, first = kept(both), kept(both, "first")
    assert first == fewer == {key: more[key] for key in fewer}
    assert len(more) == 2 * len(fewer)


def test_documents_of_unknown_origin_are_chosen_among_and_real_ones_all_stay(lake, tmp_path, texts):
    study = study_of(tmp_path, real={"kind": "real", "align": "importance", "clip": 1.5})
    fate = kept(align.weigh(study, lake, **published(lake, texts, unknown=60)), "real")
    assert set(fate) == {f"u{n}" for n in range(60)}
    assert sum(fate[f"u{n}"] for n in range(1, 60, 2)) > sum(fate[f"u{n}"] for n in range(0, 60, 2))


def test_a_study_without_it_weighs_nothing_and_one_with_too_little_text_says_which_layout(lake, tmp_path, texts):
    found = published(lake, texts)
    assert align.weigh(study_of(tmp_path), lake, **found) is None
    study = study_of(tmp_path, kept={"kind": "simple", "strategy": "augment", "align": "importance"})
    with pytest.raises(LakeError, match=r"layouts.kept.align: .* 0 generated ones .* take 'align' out of"):
        align.weigh(study, lake, **found)


@pytest.mark.parametrize(
    ("layout", "match"),
    [
        ({"kind": "stretched", "strategy": "rationale", "align": "importance"}, "not for kind 'stretched'"),
        ({"kind": "simple", "strategy": "rephrase", "clip": 3}, "'clip' is a setting of 'align'"),
        ({"kind": "simple", "strategy": "rephrase", "align": "importance", "clip": 1}, "greater than 1"),
    ],
)
def test_what_cannot_be_aligned_is_refused(tmp_path, layout, match):
    with pytest.raises(ValueError, match=match):
        study_of(tmp_path, kept=layout)
