"""A study's texts as its guard measures them: a sample of documents that is the same whoever asks.

Those documents first by the hash of their id, until they are `SAMPLE` characters, and all that was written over them
until it is twice as much. What a generator learned from beyond that is not in the sample: it would pass for a gain
(G7), or for words of its own (G8). Such text is not judged.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import cached_property

import duckdb
import pandas as pd

from palimpsest.config import Study
from palimpsest.guard.copying import TEXTS, novelty_nulls, self_bleu, self_bleu_null
from palimpsest.guard.distance import Distance, distance
from palimpsest.guard.diversity import Null
from palimpsest.guard.measure import Reference
from palimpsest.lake import Published

SAMPLE = 12_000_000
"""Characters of real text, some two million words: the passes of one strategy then take a minute."""
AT_A_TIME = 2_000
"""Texts that nothing is kept of."""
TREND = 100
"""Texts a side below which distances are noise, and a demo would wait half its gate's time for them."""
PLURALS = {
    "rephrase": "rephrases",
    "rationale": "rationales",
    "continuation": "continuations",
    "self": "texts made up",
}
REAL = """
    with domains as (select document_id, any_value(domain) as domain from megadoc_parts group by document_id),
    sized as (
        select
            document_id, text, is_reserve,
            sum(len(text)) over (order by is_reserve, md5(document_id), document_id) - len(text) as before
        from train where origin = 'real'
    )
    select sized.document_id, coalesce(domains.domain, '(small domains)') as domain, sized.text, sized.is_reserve
    from sized left join domains on sized.document_id = domains.document_id
    where before < ? order by before
"""
UNKNOWN = """
    with sized as (
        select document_id, sum(len(text)) over (order by md5(document_id), document_id) - len(text) as before
        from train where origin = 'unknown'
    )
    select document_id from sized where before < ?
"""
WRITTEN = """
    with sized as (
        select
            document_id, text, depth, model,
            sum(len(text)) over (order by g, md5(document_id), document_id) - len(text) as before
        from generations
        where strategy = ? and document_id in (select document_id from guard_sources where origin = ?) {kept}
    )
    select document_id, text, depth, model from sized where before < ? order by before
"""
KEPT = """and g < ? and generation_id not in (
            select generation_id from left_out where layout = ? and strategy = ? and generation_id is not null
        )"""
"""Of what is written, what an aligned layout keeps."""
REVIEWED = """
    with reviewed as (
        select document_id, g, strategy, text, true as accepted from generations where verdict <> 'not_reviewed'
        union all
        select document_id, g, strategy, text, false from generation_drops where text is not null
    ),
    sized as (
        select
            text, accepted,
            sum(len(text)) over (order by g, md5(document_id), document_id) - len(text) as before
        from reviewed
        where strategy = ? and document_id in (select document_id from guard_sources where origin = 'real')
    )
    select text, accepted from sized where before < ? order by before
"""
TESTS = """
    with sized as (
        select
            {domain} as domain, document_id, text,
            sum(len(text)) over (order by md5(document_id), document_id) - len(text) as before
        from validation where origin = 'real'
    )
    select domain, text from sized where before < ? order by before
"""
HELD_OUT = {"site": "site", "corpus": "corpus", "all": "'all'"}
TABLES = {
    "split": ("train", "validation"),
    "generations": ("generations", "generation_drops"),
    "mixes": ("megadoc_parts",),
}


def connect(**published: Published) -> duckdb.DuckDBPyConnection:
    """A database with a view per table that `Texts` reads: of ``split``, ``generations`` and ``mixes``."""
    connection = duckdb.connect(config={"temp_directory": tempfile.gettempdir()})
    for stage, tables in TABLES.items():
        for table in tables:
            connection.read_parquet(str(published[stage].file(f"{table}.parquet"))).create_view(table)
    return connection


class Texts:
    """The study's real text, read and counted once for all strategies."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, study: Study) -> None:
        self.connection, self.study = connection, study
        rows = connection.execute(REAL, [SAMPLE]).fetchall()
        self.sources = [(document, domain, text) for document, domain, text, reserve in rows if not reserve]
        self.all_real = [text for *_, text, _ in rows]
        trained = "select count(*) from train where origin = 'real' and not is_reserve"
        self.is_whole = len(self.sources) == connection.execute(trained).fetchall()[0][0]
        sampled = [(document, "real") for document, *_ in self.sources]
        sampled += [(document, "unknown") for (document,) in connection.execute(UNKNOWN, [SAMPLE]).fetchall()]
        frame = pd.DataFrame(sampled, columns=["document_id", "origin"], dtype=object)
        connection.register("guard_sources", frame)
        self._nulls: Distance | None = None
        self._self_bleus: dict[int, Null | None] = {}
        self.domain_of = {document: domain for document, domain, _ in self.sources}
        held = connection.execute(TESTS.format(domain=HELD_OUT[study.guard.domain]), [SAMPLE]).fetchall()
        self.held_out: dict[str, list[str]] = {}
        for domain, text in held:
            self.held_out.setdefault(domain, []).append(text)

    @cached_property
    def reference(self) -> Reference:
        return Reference(text for *_, text in self.sources)

    @cached_property
    def by_domain(self) -> dict[str, Reference]:
        """The sampled documents of each domain."""
        found: dict[str, list[str]] = {}
        for _, domain, text in self.sources:
            found.setdefault(domain, []).append(text)
        return {domain: Reference(found[domain], vocabulary=self.reference.vocabulary) for domain in sorted(found)}

    def distance(self, written: list[str]) -> Distance:
        """How far they lie from real text; what halves of that differ by is measured once per number of texts.

        Raises ValueError for too few texts.
        """
        if min(len(self.sources), len(written)) < TREND:
            raise ValueError(f"{TREND} real and as many generated texts are needed")
        found = distance([text for *_, text in self.sources], written, nulls=self._nulls)
        self._nulls = found
        return found

    @cached_property
    def novelty_nulls(self) -> dict[int, Null]:
        """Of held-out real text against the n-grams of the sampled documents, by length."""
        held = [text for own in self.held_out.values() for text in own]
        return novelty_nulls(self.reference.known, [self.reference.vocabulary.encode(text) for text in held])

    def self_bleu(self, written: list[str]) -> tuple[float | None, Null | None]:
        """Self-BLEU of as many generated texts as half the real ones, and of as many of these."""
        count = min(TEXTS, len(self.sources) // 2, len(written))
        if count not in self._self_bleus:
            self._self_bleus[count] = self_bleu_null([text for *_, text in self.sources], count)
        return self_bleu(written[:count]), self._self_bleus[count]

    def held_out_texts(self) -> Iterator[str]:
        """All of them, whoever wrote them, for runs of words that nobody may quote; `held_out` is a sample of real
        ones for perplexities.
        """
        found = batches(self.connection, "select text from validation")
        return (text for rows in found for (text,) in rows)

    def written(
        self, strategy: str, origin: str = "real", layout: str | None = None
    ) -> list[tuple[str, str, int | None, str]]:
        """Document, text, depth and generator of a strategy's sampled generations over documents of that origin.

        With an aligned ``layout`` those that it keeps.
        """
        kept, asked = "", [strategy, origin]
        if layout is not None:
            kept = KEPT
            asked += [self.study.first_of(self.study.layouts[layout], strategy), layout, strategy]
        return self.connection.execute(WRITTEN.format(kept=kept), [*asked, 2 * SAMPLE]).fetchall()

    def reviewed(self, strategy: str) -> tuple[list[str], list[str]]:
        """What the verifier accepted of a strategy's sampled texts over real documents, and what it dropped."""
        rows = self.connection.execute(REVIEWED, [strategy, 2 * SAMPLE]).fetchall()
        return [text for text, kept in rows if kept], [text for text, kept in rows if not kept]


def batches(connection: duckdb.DuckDBPyConnection, query: str) -> Iterator[list[tuple]]:
    """The rows of a query, some at a time; nothing else may be asked of the connection before the last."""
    connection.execute(query)
    while rows := connection.fetchmany(AT_A_TIME):
        yield rows


def subject_of(study: Study, strategy: str, layout: str | None = None) -> str:
    """What sentences call a strategy's texts, or those of them that an aligned layout keeps; a plural."""
    kept = f" that layout {layout} keeps" if layout else ""
    return f"synthetic {PLURALS[study.strategies[strategy].kind]} of strategy {strategy}{kept}"
