from __future__ import annotations

import pytest

from tests.palimpsest.generate.review.conftest import REPHRASE, review_of

CODE = "The program prints a line:\n\n```python\nprint('light')\n```\n\nRun it at dusk."
WRAPPED = [
    (f"```\n{REPHRASE}\n```", REPHRASE),
    (f"```markdown\n# Skerry Point\n\n{REPHRASE}\n```\n", f"# Skerry Point\n\n{REPHRASE}"),
    (f"````md\n{CODE}\n````", CODE),
    (f"```markdown\n{CODE}\n```", CODE),
    (f"~~~text\n{REPHRASE}\n~~~", REPHRASE),
    (f"```markdown\n{REPHRASE}", REPHRASE),
    (f'"{REPHRASE}"', REPHRASE),
    (f"“{REPHRASE}”", REPHRASE),
    (f"«{REPHRASE}»", REPHRASE),
    (f'"The so-called "winter light" burned oil. {REPHRASE}"', f'The so-called "winter light" burned oil. {REPHRASE}'),
    (f"<article>\n{REPHRASE}\n</article>", REPHRASE),
    (
        f"Here is the rewritten article:\n\n```markdown\n{REPHRASE}\n```\n\nLet me know if you need any changes!",
        REPHRASE,
    ),
]
CONTENT = [
    CODE,
    "```python\nprint('light')\n```",
    "```\nfirst\n```\n\nThen prose between two listings.\n\n```\nsecond\n```",
    "```js\nlet lamp = 1\n```\n\nThis turns the lamp on.",
    '"The light!" cried Reed. "It is out."',
    '"I kept the light for thirty years," he said, "and never once slept before dawn."',
    "“The light!” cried Reed. “It is out.”",
    '"One paragraph of a long speech.\n\n"Another paragraph of it."',
    '"Skerry" means a small rocky island, and "Point" is what it says',
    "<p>Dusk.</p>\n<p>Dawn.</p>",
    "<script>\nlight()\n</script>",
    '"The light is out, and nobody has seen the boats."',
    "| Year | Event |\n|---|---|\n| 1847 | built |\n| 1971 | automatic |",
    "# Skerry Point\n\n**Built:** 1847\n\n* tower\n* lamp",
]


@pytest.mark.parametrize(("text", "inside"), WRAPPED)
def test_a_wrapper_is_taken_off_and_reported(text, inside):
    reviewed = review_of(text)
    assert reviewed.text == inside
    assert "markdown" in reviewed.defects
    assert reviewed.decision == "keep"


@pytest.mark.parametrize("text", CONTENT)
def test_marks_inside_a_text_are_content(text):
    reviewed = review_of(text)
    assert reviewed.text == text
    assert "markdown" not in reviewed.defects


def test_a_wrapper_of_the_sources_own_is_content():
    for text in (f"```\n{REPHRASE}\n```", f'"{REPHRASE}"', f"<article>{REPHRASE}</article>"):
        assert "markdown" not in review_of(text, source=text.replace("Sailors", "Seamen")).defects


def test_a_speech_stays_a_speech_where_the_source_quotes():
    source = 'Reed told the board: "I burned oil in the open so that the boats would find the harbour."'
    text = '"I lit oil under the open sky, so that the boats might find their way into the harbour."'
    assert review_of(text, source=source).text == text
