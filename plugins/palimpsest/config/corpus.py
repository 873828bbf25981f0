"""A corpus file: where the crawl lies, which days it has, and the thresholds of the document rules."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from palimpsest.config.base import Name, Share, Strict
from palimpsest.config.evaluation import Decontamination
from palimpsest.config.schedule import Cron
from palimpsest.config.scoring import Scoring
from palimpsest.config.source import Source

Definitions = Literal["palimpsest", "datatrove"]
ONLY = {
    "palimpsest": {"max_curly_brackets": "max_curly_bracket_lines", "max_policy_words": None},
    "datatrove": {"max_curly_bracket_lines": "max_curly_brackets", "max_duplicate_characters": None},
}
"""Thresholds that no rule of the other definitions has, with what stands there in their place."""
WORDS_MB = 512
"""What the worker may need where words are remembered (palimpsest.ingest.tokens)."""


class Limits(Strict):
    max_page_bytes: int = Field(default=10_000_000, gt=0)
    max_depth: int = Field(default=2_000, gt=0)
    """HTML nesting beyond this is quarantined, not parsed."""
    page_timeout_s: float = Field(default=20.0, gt=0)
    """Processor time of one page, not time on the clock: how busy the machine is decides about no page."""
    page_memory_mb: int = Field(default=2_048, ge=64)
    """What examining one page may take on top of what the process holds before its first page."""


class Extraction(Strict):
    profile: Literal["resiliparse", "fast", "best"] = "resiliparse"
    """Who finds the main text of a page. 'resiliparse': that extractor alone, as plain text. 'fast': the same with
    headings, lists and code marked, and the whole page where it finds nothing usable. 'best': trafilatura and jusText
    beside it, and the text chosen by stated rules; the choice and all candidates' lengths are columns."""


class Cleaning(Strict):
    """What is measured and taken out beyond what every corpus gets; each key adds columns to the pages."""

    personal: list[Literal["iban", "card", "national_id", "secret"]] = []
    """Kinds that become placeholders beside e-mail addresses, telephone numbers and IP addresses, which always do."""
    paragraph_languages: bool = False
    """The language of each paragraph as a column."""
    changes: bool = False
    """``document_changes.parquet`` beside the documents: what was taken out of each. Written by itself where another
    key of this section is set."""

    @property
    def columns(self) -> list[str]:
        """Of ``pages.parquet``, beyond those that are always there."""
        languages = ["paragraph_languages"] if self.paragraph_languages else []
        return [*(f"pii_{kind}" for kind in dict.fromkeys(self.personal)), *languages]


class DocumentRules(Strict):
    """Thresholds of the named rules; shares are 0 to 1.

    Defaults are the references' own: Gopher (2112.11446, table A1), C4 (1910.10683), FineWeb (2406.17557, section 3.6).
    """

    definitions: Definitions = "palimpsest"
    """By which figures the rules decide: the project's own, or those of datatrove's filters, which are then measured of
    every page as well (docs/filters.md). With 'datatrove' ``min_sentences`` is 5 unless it is given."""
    language: str = Field(default="en", pattern=r"^[a-z]{2,3}$")
    min_language_score: float = Field(default=0.65, ge=0, le=1)
    min_words: int = Field(default=50, ge=0)
    max_words: int = Field(default=100_000, gt=0)
    max_symbol_ratio: float = Field(default=0.1, ge=0)
    """'#' and '...' per word."""
    min_alphabetic_words: float = Field(default=0.8, ge=0, le=1)
    min_mean_word_length: float = Field(default=3, ge=0)
    max_mean_word_length: float = Field(default=10, gt=0)
    max_bullet_lines: float = Field(default=0.9, ge=0, le=1)
    max_ellipsis_lines: float = Field(default=0.3, ge=0, le=1)
    min_stop_words: int = Field(default=2, ge=0, le=8)
    max_duplicate_lines: float = Field(default=0.30, ge=0, le=1)
    max_duplicate_line_characters: float = Field(default=0.20, ge=0, le=1)
    max_duplicate_paragraphs: float = Field(default=0.30, ge=0, le=1)
    max_duplicate_paragraph_characters: float = Field(default=0.20, ge=0, le=1)
    max_top_2gram: float = Field(default=0.20, ge=0, le=1)
    max_top_3gram: float = Field(default=0.18, ge=0, le=1)
    max_top_4gram: float = Field(default=0.16, ge=0, le=1)
    max_duplicate_5grams: float = Field(default=0.15, ge=0, le=1)
    max_duplicate_6grams: float = Field(default=0.14, ge=0, le=1)
    max_duplicate_7grams: float = Field(default=0.13, ge=0, le=1)
    max_duplicate_8grams: float = Field(default=0.12, ge=0, le=1)
    max_duplicate_9grams: float = Field(default=0.11, ge=0, le=1)
    max_duplicate_10grams: float = Field(default=0.10, ge=0, le=1)
    max_lorem_ipsum: int = Field(default=0, ge=0)
    max_curly_brackets: float = Field(default=0.05, ge=0)
    """'{' per word. C4 drops a page for a single one; per word, a tutorial survives and a page of code does not. Not
    with definitions 'datatrove'."""
    max_policy_words: float = Field(default=0.25, ge=0, le=1)
    """Share of the words on lines C4 deletes (terms of use, privacy and cookie notices, 'enable Javascript'). Not
    with definitions 'datatrove'."""
    max_curly_bracket_lines: int = Field(default=0, ge=0)
    """Lines with a '{', in place of ``max_curly_brackets``; only with definitions 'datatrove'."""
    min_sentences: int = Field(default=3, ge=0)
    min_lines_punctuated: float = Field(default=0.12, ge=0, le=1)
    max_short_lines: float = Field(default=0.67, ge=0, le=1)
    max_newlines_per_word: float = Field(default=0.3, ge=0)
    max_duplicate_characters: float = Field(default=0.01, ge=0, le=1)
    """Share of the characters on lines that stood before (FineWeb); only with definitions 'datatrove'."""
    site_line_pages: int = Field(default=10, ge=2)
    """Pages a site must have before lines common to its pages count as furniture and are cut."""
    site_line_share: Share = 0.5
    """A line on at least this share of its site's pages is furniture."""
    site_repeat_pages: int = Field(default=0, ge=0)
    """A line on at least so many pages of its site is cut from all but the earliest of them; 0: it stays."""
    site_repeat_words: int = Field(default=5, ge=1)
    """Shorter lines (names, dates, headings) may stand on as many pages as they do."""
    drop_other_language: bool = False
    """Paragraphs in another language than the corpus' are cut; needs ``cleaning.paragraph_languages``."""
    other_language_score: float = Field(default=0.8, ge=0, le=1)
    """Confidence from which a paragraph counts as being in that other language."""
    other_language_characters: int = Field(default=60, ge=0)
    """Shorter paragraphs stay: names and titles are in no language."""
    near_duplicate_jaccard: float = Field(default=0.75, gt=0, le=1)
    shingle_words: int = Field(default=5, ge=1)
    disabled: list[str] = []
    """Rule names to switch off for this corpus, or [all]: older captures of a page are still superseded."""

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_datatrove(cls, given: object) -> object:
        if isinstance(given, dict) and given.get("definitions") == "datatrove":
            return {"min_sentences": 5, **given}
        return given

    @model_validator(mode="after")
    def _english(self) -> DocumentRules:
        if self.definitions == "datatrove" and self.language != "en":
            raise ValueError(
                f"definitions 'datatrove' are of English, but language is '{self.language}'; leave definitions out"
            )
        return self

    @model_validator(mode="after")
    def _of_these_definitions(self) -> DocumentRules:
        for owner, keys in ONLY.items():
            for key in sorted(self.model_fields_set & keys.keys()) if owner != self.definitions else ():
                instead = f"give {keys[key]} instead" if keys[key] else "leave it out"
                raise ValueError(
                    f"{key} is a threshold of definitions '{owner}' alone, and definitions are '{self.definitions}'; "
                    f"{instead}"
                )
        return self

    def is_on(self, rule: str) -> bool:
        return not {rule, "all"} & set(self.disabled)


class Corpus(Strict):
    name: Name
    description: str
    owner: str = "data-platform"
    source: Source
    schedule: Cron = "@daily"
    start: dt.date
    end: dt.date
    """Last interval, inclusive."""
    limits: Limits = Limits()
    extraction: Extraction = Extraction()
    cleaning: Cleaning = Cleaning()
    scoring: Scoring = Scoring()
    documents: DocumentRules = DocumentRules()
    decontamination: Decontamination = Decontamination()
    """Evaluation sets that neither its documents nor what is generated from them may recite."""
    origin: Literal["real", "unknown"] = "real"
    """'unknown': nobody vouches that people wrote it (a crawl of after 2022). It counts as synthetic in every share."""
    path: Path = Field(default=Path(), exclude=True)

    @model_validator(mode="after")
    def _ordered(self) -> Corpus:
        if self.end < self.start:
            raise ValueError(f"end ({self.end}) lies before start ({self.start})")
        if self.source.is_text and self.extraction.profile != "resiliparse":
            raise ValueError(
                f"extraction.profile is '{self.extraction.profile}', but the texts of source kind '{self.source.kind}' "
                "are extracted already; leave the key out"
            )
        if self.documents.drop_other_language and not self.cleaning.paragraph_languages:
            raise ValueError(
                "documents.drop_other_language needs the language of each paragraph; set "
                "cleaning.paragraph_languages: true"
            )
        if self.documents.definitions == "datatrove" and self.limits.page_memory_mb < WORDS_MB:
            raise ValueError(
                f"documents.definitions 'datatrove' remembers words it has met; limits.page_memory_mb must be at least "
                f"{WORDS_MB}"
            )
        return self

    @property
    def tells_changes(self) -> bool:
        """Whether the documents come with a table of what was taken out of them."""
        return self.cleaning != Cleaning() or self.documents.site_repeat_pages > 0
