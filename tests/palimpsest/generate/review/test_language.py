from __future__ import annotations

import pytest

from palimpsest.generate.review import language
from tests.palimpsest.generate.review.conftest import REPHRASE, SOURCE, review_of

FRENCH = (
    "Le phare de Skerry Point fut construit en 1847 par l'ingénieure Martha Oakley. Sa tour mesure 32 mètres de haut "
    "et sa lampe se voyait à 18 milles marins. Pendant l'hiver de 1903, une tempête brisa les fenêtres du bas, et le "
    "gardien brûla de l'huile en plein air pendant onze nuits pour que les bateaux trouvent le port."
)
CHINESE = (
    "灯塔建于一八四七年，由工程师设计。塔高三十二米，灯光在十八海里外可见。一九〇三年冬天的暴风雨打破了下面的窗户。" * 5
)


@pytest.mark.parametrize("text", [FRENCH, CHINESE])
def test_another_language_than_the_sources_is_a_defect(text):
    assert "language" in review_of(text).defects
    assert "language" not in review_of(text, source=text + text[:40]).defects
    assert "language" in review_of(REPHRASE, source=text).defects


def test_a_text_that_changes_its_language_on_the_way_is_one_too():
    assert "language" in review_of(REPHRASE[:120] + CHINESE + CHINESE).defects


@pytest.mark.parametrize(
    "text",
    [
        REPHRASE,
        "Le phare de Skerry Point fut construit en 1847.",
        "Skerry Point 1847 Oakley 32 m 18 nm 1903 Reed Harwick 1971 184",
        f"{REPHRASE} The French call it 'le phare de la pointe', and the Germans 'der Leuchtturm am Kap'.",
        "def lamp(height: int) -> str:\n    return 'on' if height > 32 else 'off'\n" * 2 + REPHRASE[:150],
        "",
        "१२३ 456 !!! ---",
    ],
)
def test_short_texts_names_quotations_and_code_are_not_judged(text):
    assert "language" not in review_of(text).defects


def test_a_source_too_short_to_tell_is_not_compared_with():
    assert "language" not in review_of(FRENCH, source="Skerry Point, 1847.").defects


def test_neighbours_that_the_model_confuses_are_not_told_apart(monkeypatch):
    norwegian = "Fyret på Skerry ble bygget i 1847 av ingeniøren. Tårnet er høyt og lampen kunne ses langt borte. " * 4
    monkeypatch.setattr(language.langid, "identify", lambda text: ("no", 0.9))
    assert language.language(norwegian, "da") is None
    assert language.language(norwegian, "en") == "no, and its source is en"


def test_samples_from_a_model_have_no_source_to_differ_from():
    assert review_of(FRENCH, source=SOURCE, kind="self", prompt=None).defects == ()
