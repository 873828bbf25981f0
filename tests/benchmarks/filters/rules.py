"""datatrove's Gopher, C4 and FineWeb filters, rule by rule, on texts with the figures we measured of them.

``python rules.py TEXTS.jsonl EVERY``, in an environment of its own; a line is ``{"text": ..., "figures": {...}}``.
Prints as JSON, by place of the text: the reason for which each filter drops it, as datatrove ships the filter; which
rules drop it, each with all others off; and, of every so many texts, of which rules our figure is not datatrove's to
the last bit (with our figure as its threshold a rule must keep the text, and drop it with the next number beyond).
``seconds`` are of one processor, for the four filters as shipped, one after another, a text that one drops not going on
to the next.
"""

import functools
import json
import math
import sys
import time
import warnings
from pathlib import Path

from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.utils import text as library

SHIPPED = (GopherRepetitionFilter, GopherQualityFilter, FineWebQualityFilter, C4QualityFilter)
QUALITY, REPETITION, FINEWEB, C4 = "gopher_quality", "gopher_repetition", "fineweb", "c4"
OFF = {
    QUALITY: (GopherQualityFilter, dict.fromkeys((
        "min_doc_words", "max_doc_words", "min_avg_word_length", "max_avg_word_length", "max_symbol_word_ratio",
        "max_bullet_lines_ratio", "max_ellipsis_lines_ratio", "max_non_alpha_words_ratio", "min_stop_words",
    ))),
    REPETITION: (GopherRepetitionFilter, {
        **dict.fromkeys(("dup_line_frac", "dup_para_frac", "dup_line_char_frac", "dup_para_char_frac")),
        "top_n_grams": (), "dup_n_grams": (),
    }),
    FINEWEB: (FineWebQualityFilter, {
        "line_punct_thr": 0, "short_line_thr": math.inf, "char_duplicates_ratio": math.inf, "new_line_ratio": math.inf,
    }),
    C4: (C4QualityFilter, {"min_num_sentences": -1, "filter_lorem_ipsum": False, "filter_curly_bracket": False}),
}  # fmt: skip
TOP = {2: 0.2, 3: 0.18, 4: 0.16}
GRAMS = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
RULES = [  # reference, rule, keyword, our figures (the greatest counts), bound, threshold
    (QUALITY, "min_words", "min_doc_words", ["words"], "min", 50),
    (QUALITY, "max_words", "max_doc_words", ["words"], "max", 100_000),
    (QUALITY, "min_mean_word_length", "min_avg_word_length", ["mean_word_length"], "min", 3),
    (QUALITY, "max_mean_word_length", "max_avg_word_length", ["mean_word_length"], "max", 10),
    (QUALITY, "hashes, ellipses", "max_symbol_word_ratio", ["hashes", "ellipses"], "max", 0.1),
    (QUALITY, "bullet_lines", "max_bullet_lines_ratio", ["bullet_lines"], "max", 0.9),
    (QUALITY, "ellipsis_lines", "max_ellipsis_lines_ratio", ["ellipsis_lines"], "max", 0.3),
    (QUALITY, "alphabetic_words", "max_non_alpha_words_ratio", ["alphabetic_words"], "min", 0.8),
    (QUALITY, "stop_words", "min_stop_words", ["stop_words"], "min", 2),
    (REPETITION, "duplicate_paragraphs", "dup_para_frac", ["duplicate_paragraphs"], "max", 0.3),
    (REPETITION, "duplicate_paragraph_characters", "dup_para_char_frac", ["duplicate_paragraph_characters"], "max",
     0.2),
    (REPETITION, "duplicate_lines", "dup_line_frac", ["duplicate_lines"], "max", 0.3),
    (REPETITION, "duplicate_line_characters", "dup_line_char_frac", ["duplicate_line_characters"], "max", 0.2),
    *((REPETITION, f"top_{n}gram", "top_n_grams", [f"top_{n}gram"], "max", t) for n, t in TOP.items()),
    *((REPETITION, f"duplicate_{n}grams", "dup_n_grams", [f"duplicate_{n}grams"], "max", t) for n, t in GRAMS.items()),
    (FINEWEB, "lines_punctuated", "line_punct_thr", ["lines_punctuated"], "min", 0.12),
    (FINEWEB, "short_lines", "short_line_thr", ["short_lines"], "max", 0.67),
    (FINEWEB, "duplicate_characters", "char_duplicates_ratio", ["duplicate_characters"], "max", 0.01),
    (FINEWEB, "newlines_per_word", "new_line_ratio", ["newlines_per_word"], "max", 0.3),
    (C4, "lorem_ipsum", "filter_lorem_ipsum", ["lorem_ipsum_lines"], "any", True),
    (C4, "curly_brackets", "filter_curly_bracket", ["curly_bracket_lines"], "any", True),
    (C4, "sentences", "min_num_sentences", ["sentences"], "min", 5),
]  # fmt: skip


def main(file: Path, every: int) -> None:
    warnings.filterwarnings("ignore")  # the mean of no words
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    _timed([row["text"] for row in rows[:20]])  # spaCy is imported
    rules = [_Rule(*rule) for rule in RULES]
    found = {"rules": [rule.name for rule in rules], "reasons": [], "dropped": [], "inexact": []}
    found["seconds"] = _timed([row["text"] for row in rows])
    # its memory of five texts is too short for the lines of one text asked about by several rules
    library.split_into_parts = functools.lru_cache(2_000)(library.split_into_parts.__wrapped__)
    shipped = {name: kind() for name, (kind, _) in OFF.items()}
    for place, row in enumerate(rows):
        text, figures = row["text"], row["figures"]
        answers = {name: rule.filter(Document(text=text, id="")) for name, rule in shipped.items()}
        found["reasons"].append({name: reason[1] for name, reason in answers.items() if reason is not True})
        found["dropped"].append([rule.name for rule in rules if rule.drops(text, rule.threshold)])
        found["inexact"].append(
            [rule.name for rule in rules if place % every == 0 and not rule.is_exact(text, figures)]
        )
    print(json.dumps(found))


class _Rule:
    """One rule of a filter, the others off."""

    def __init__(self, reference: str, name: str, keyword: str, figures: list[str], bound: str, threshold: float):
        self.name, self.threshold = f"{reference}.{name}", threshold
        self._kind, self._off = OFF[reference]
        self._keyword, self._figures, self._bound = keyword, figures, bound

    def drops(self, text: str, threshold: float) -> bool:
        if self._keyword.endswith("_n_grams"):
            threshold = ((int("".join(filter(str.isdigit, self.name))), threshold),)
        rule = self._kind(**{**self._off, self._keyword: threshold})
        return rule.filter(Document(text=text, id="")) is not True

    def is_exact(self, text: str, figures: dict[str, float | None]) -> bool:
        figure = max(figures[name] for name in self._figures)
        if figure is None:  # the mean of no words: neither below nor above anything
            return not self.drops(text, self.threshold)
        if self._bound == "any":
            return self.drops(text, True) == (figure > 0)
        if self._bound == "max":  # 0 would switch a rule off
            below = math.nextafter(figure, 0)
            return not self.drops(text, figure or 5e-324) and (figure == 0 or self.drops(text, below))
        return not self.drops(text, figure) and self.drops(text, math.nextafter(figure, math.inf))


def _timed(texts: list[str]) -> float:
    filters = [kind() for kind in SHIPPED]
    began = time.process_time()
    for text in texts:
        document = Document(text=text, id="")
        all(rule.filter(document) is True for rule in filters)
    return time.process_time() - began


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
