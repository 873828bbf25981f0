"""Tokens of English texts, and their sentences, as datatrove counts them: by spaCy's rule tokenizer and sentencizer.

spaCy parts each chunk between white space by its affixes and exceptions, so a chunk is asked about once and remembered.
Only an exception found inside a chunk ("card):" holds the emoticon "):") is not of the chunk alone: another that
overlaps it and goes on in the next chunk puts it out of force. Such chunks are asked about again among their
neighbours. The tables are those of the installed spaCy, which takes seconds to import: `load` does it once.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

import numpy as np

from palimpsest.ingest.punctuation import SYMBOLS

REMEMBERED = 40_000_000
"""Characters of the chunks and of the tokens, `EACH` more for every one of them, before all are forgotten: at most some
250 MB beside what one text adds."""
EACH = 64
WORD_AND_MARK = re.compile(r"[A-Za-z]+[,;:!?]|[A-Za-z]*[a-z]\.").fullmatch
"""Two tokens, unless the chunk or the word is an exception: the last token of a word like this may make another one
with the mark. Most new chunks are of this form or letters alone, and asking spaCy costs twenty times as much."""
SENTENCE_START = re.compile("t[tp]*w")
"""Marks of tokens: t ends a sentence, p is other punctuation, w all else; the first w after a t begins the next one."""
SPACE_OR_CHUNK = re.compile(r"\s+|\S+")
BASE, MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1
KNOWN = np.dtype([("length", "i8"), ("hash", "u8"), ("power", "u8"), ("word", "?"), ("letter", "?")])


class Tokens:
    """Every token that was met has a number; numbers hold until the next call of `of`.

    ``known[number]`` is a token's length in characters, its hash as a polynomial in `BASE` modulo 2^64, and
    BASE^length (the hash of two tokens written as one is ``hash1 * power2 + hash2``); whether it is more than
    punctuation, and whether it has a letter.
    """

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        self._forget()

    def of(self, text: str) -> np.ndarray:
        """Numbers of the tokens of a text in order (int64); white space is no token."""
        if self._size > self._remembered:
            self._forget()
        chunks = text.split()
        if self._known_by_chunk(chunks):
            return np.fromiter(itertools.chain.from_iterable(map(self._pieces.__getitem__, chunks)), np.int64)
        return np.array([self.number(token.strip()) for token in self._english(text) if token.strip()], np.int64)

    def sentences(self, line: str) -> int:
        """How many sentences a line has that does not end with white space; at least 1."""
        chunks = line.split()
        if not self._known_by_chunk(chunks):
            marks = "".join(map(self._english.mark, self._english(line)))
        elif " ".join(chunks) == line:
            marks = "".join(map(self._marks.__getitem__, chunks))
        else:
            marks = "".join(self._marks.get(piece) or _mark_of_space(piece) for piece in SPACE_OR_CHUNK.findall(line))
        return len(SENTENCE_START.findall(marks)) + 1

    def _forget(self) -> None:
        self._english = _English()  # anew as well: its store of strings only grows
        self._numbers: dict[str, int] = {}
        self._pieces: dict[str, tuple[int, ...]] = {}
        self._marks: dict[str, str] = {}
        self._size = 0
        self.known = np.zeros(1 << 12, KNOWN)

    def _known_by_chunk(self, chunks: Sequence[str]) -> bool:
        """Whether the tokens of these chunks, one after another, are those of the text."""
        for chunk, tokens in self._english.parts(chunk for chunk in chunks if chunk not in self._pieces):
            self._size += len(chunk) + EACH
            self._pieces[chunk] = tuple(map(self.number, tokens))
            self._marks[chunk] = "".join(map(self._english.mark, tokens))
        uncertain, reach = self._english.uncertain, self._english.reach
        if uncertain.isdisjoint(chunks):
            return True
        for place in (place for place, chunk in enumerate(chunks) if chunk in uncertain):
            near = chunks[max(place - reach, 0) : place + reach + 1]
            tokens = [self.number(token) for token in self._english(" ".join(near))]
            if tokens != [number for chunk in near for number in self._pieces[chunk]]:
                return False
        return True

    def number(self, token: str) -> int:
        number = self._numbers.get(token)
        if number is None:
            number = self._numbers[token] = len(self._numbers)
            self._size += len(token) + EACH
            if number == len(self.known):
                self.known = np.concatenate([self.known, np.zeros_like(self.known)])
            hashed = 0
            for letter in token:
                hashed = (hashed * BASE + ord(letter)) & MASK
            power = pow(BASE, len(token), 1 << 64)
            letter = any(map(str.isalpha, token))
            self.known[number] = len(token), hashed, power, not SYMBOLS.issuperset(token), letter
        return number


@cache
def load() -> Tokens:
    return Tokens()


def _mark_of_space(space: str) -> str:
    """Between two chunks: spaCy leaves out the first blank, what remains is a token."""
    return "" if space == " " else "w"


class _English:
    """spaCy's tokens of a text, white space among them, and of a chunk without white space by itself."""

    def __init__(self) -> None:
        import spacy
        from spacy.lang.lex_attrs import is_punct
        from spacy.tokenizer import Tokenizer
        from spacy.vocab import Vocab

        class WithoutInnerExceptions(Tokenizer):
            """Exceptions hold for a chunk or what is left of it without affixes, as none has an affix while loading."""

            loading = True

            def find_prefix(self, string: str) -> int:
                return 0 if self.loading else super().find_prefix(string)

            def find_suffix(self, string: str) -> int:
                return 0 if self.loading else super().find_suffix(string)

            def find_infix(self, string: str) -> list:
                return [] if self.loading else super().find_infix(string)

        language = spacy.blank("en")
        self._ends, self._is_punct = language.add_pipe("sentencizer").punct_chars, is_punct
        names = ("prefix_search", "suffix_search", "infix_finditer", "token_match", "url_match")
        patterns = {name: getattr(language.tokenizer, name) for name in names}
        words = Vocab()  # asks nothing about a new word, which is most of the time that one takes
        self._tokenizer = Tokenizer(words, language.tokenizer.rules, **patterns)
        self._plain = WithoutInnerExceptions(words, language.tokenizer.rules, **patterns)
        self._plain.loading = False
        self._exceptions = {rule: self(rule) for rule in self._tokenizer.rules}
        self._first = frozenset(tokens[0] for tokens in self._exceptions.values())
        self.reach = max(map(len, self._exceptions))
        """No exception has more tokens."""
        self.uncertain: set[str] = set()
        """Chunks with an exception inside."""

    def __call__(self, text: str) -> list[str]:
        return [token.text for token in self._tokenizer(text)]

    def parts(self, chunks: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
        """Each of the chunks once, with its tokens."""
        asked = []
        for chunk in dict.fromkeys(chunks):
            if chunk in self._exceptions:
                yield chunk, self._exceptions[chunk]
            elif chunk.isascii() and chunk.isalpha():
                yield chunk, [chunk]
            elif WORD_AND_MARK(chunk) and chunk[:-1] not in self._exceptions:
                yield chunk, [chunk[:-1], chunk[-1]]
            else:
                asked.append(chunk)
        together = iter(self("\n".join(asked)))  # what is made of a text takes longer than a chunk does
        for chunk in asked:
            found = list(itertools.takewhile("\n".__ne__, together))
            if not self._first.isdisjoint(found) and found != [token.text for token in self._plain(chunk)]:
                self.uncertain.add(chunk)
            yield chunk, found

    def mark(self, token: str) -> str:
        return "t" if token in self._ends else "p" if self._is_punct(token) else "w"
