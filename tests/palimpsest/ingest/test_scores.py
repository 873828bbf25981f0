from __future__ import annotations

import random
import re

import pytest

from palimpsest.ingest.minhash import BANDS, bands, bands_and_rows, shingles
from palimpsest.ingest.scores import score


def test_gopher_quality_counts():
    found = score("The cat sat with 42 dogs ...\n# and that")
    assert found["words"] == 10
    assert found["symbol_ratio"] == pytest.approx(0.2)
    assert found["alphabetic_words"] == pytest.approx(0.7)
    assert found["stop_words"] == 4
    assert found["ellipsis_lines"] == 0.5


def test_repeated_lines_and_paragraphs_are_shares():
    found = score("same line\n\nsame line\n\nother")
    assert found["duplicate_lines"] == pytest.approx(1 / 3)
    assert found["duplicate_line_characters"] == pytest.approx(9 / 23)
    assert found["duplicate_paragraphs"] == pytest.approx(1 / 3)


def test_ngram_shares_are_of_characters_and_never_above_one():
    found = score("best tide chart " * 50)
    assert found["top_2gram"] == pytest.approx(50 * 9 / (50 * 13), abs=0.05)
    assert 0.9 < found["duplicate_5grams"] <= 1
    clean = score(" ".join(f"word{i}" for i in range(300)))
    assert clean["top_2gram"] == clean["duplicate_5grams"] == 0


def test_table_rows_are_no_lines_of_prose():
    table = "\n".join(f"Star {i}\t\tOrion\t\t1.{i}" for i in range(40))
    found = score("Forty stars are listed here, with their magnitudes.\n" + table)
    assert found["table_rows"] == 40
    assert found["lines_punctuated"] == 1
    assert found["short_lines"] == 0


def test_c4_lines():
    found = score("We use cookies to improve this site.\n\nOne sentence stands here. Another stands here too.\n\nMenu")
    assert found["policy_words"] == pytest.approx(7 / 16)
    assert found["sentences"] == 2


def test_empty_text_scores_without_dividing_by_zero():
    assert score("")["words"] == 0
    assert bands("", 5) == []


def test_similar_texts_share_bands_and_others_do_not():
    words = [f"word{i}" for i in range(400)]
    changed = [*words[:200], "new", *words[201:]]
    a, b = bands(" ".join(words), 5), bands(" ".join(changed), 5)
    other = bands(" ".join(f"else{i}" for i in range(400)), 5)
    assert len(a) == BANDS
    assert set(a) & set(b)
    assert not set(a) & set(other)
    assert a == bands(" ".join(words).upper().replace(" ", ",  "), 5)


def test_shingles_are_runs_of_words_whatever_stands_between_them():
    assert shingles("Two words", 5).tolist() == shingles("two, WORDS!", 5).tolist() != shingles("two other", 5).tolist()
    assert len(shingles("Two words", 5)) == 1
    text = "Ein Süßes ſ_x ٣ 中文 and a " * 20_000 + "x" * 70_000 + " end"
    words = re.findall(r"\w+", text.lower())
    runs = dict(zip(zip(*(words[i:] for i in range(5)), strict=False), shingles(text, 5).tolist(), strict=True))
    assert len(set(runs.values())) == len(runs) == 9


def test_bands_and_rows_follow_from_the_threshold():
    assert bands_and_rows(0.75) == (28, 4)
    found = {jaccard: bands_and_rows(jaccard) for jaccard in (0.3, 0.5, 0.8, 0.9, 1.0)}
    assert all((1 - jaccard**rows) ** count <= 1e-4 for jaccard, (count, rows) in found.items() if rows > 1)
    assert [rows for _, rows in found.values()] == sorted(rows for _, rows in found.values())
    assert len(bands("one two three four five six", 5, 0.9)) == found[0.9][0]


@pytest.mark.parametrize("jaccard", [0.5, 0.3])
def test_pairs_meet_as_often_as_the_bands_say(jaccard):
    dice, met = random.Random(3), 0
    for _ in range(400):
        words = [f"w{n}" for n in dice.sample(range(10**6), 200)]
        shared = round(200 * jaccard)
        rest = (200 - shared) // 2
        mine, theirs = words[: shared + rest], words[:shared] + words[shared + rest :]
        met += bool(set(bands(" ".join(mine), 1)) & set(bands(" ".join(theirs), 1)))
    assert met / 400 == pytest.approx(1 - (1 - jaccard**4) ** 28, abs=0.07)
