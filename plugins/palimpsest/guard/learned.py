"""What the generators of a study's text have learned from: their mixes, and those of the generators before them."""

from __future__ import annotations

import duckdb

from palimpsest.guard import texts
from palimpsest.lake import Lake, NotPublished, Published


def generators_of(lake: Lake, mix: Published) -> list[str]:
    """The mixes that the generators of a mix's text were trained on, by what its generations were published with.

    Raises `NotPublished` where the lake no longer has those generations.
    """
    uris = [p["uri"] for p in mix.manifest["parents"] if p["dataset"].endswith("/generations")]
    told = [lake.open(uri).manifest["config"].get("provenance", {}) for uri in uris]
    return sorted({own["generator_mix"] for origins in told for own in origins.values() if own.get("generator_mix")})


def learned(connection: duckdb.DuckDBPyConnection, lake: Lake, strategy: str) -> tuple[list[str], str]:
    """All documents that a strategy's generators could learn from, or none and why they cannot be had.

    Those of the mix that each was trained on and, because its generated text says what its own generators knew, of
    theirs, back to the first. Documents of unknown origin were learned as well.
    """
    query = "select distinct generator_mix from generations where strategy = ? and generator_mix is not null order by 1"
    own = [uri for (uri,) in connection.execute(query, [strategy]).fetchall()]
    waiting, met, files = list(own), set(own), {}
    while waiting:
        uri = waiting.pop(0)
        try:
            mix = lake.open(uri)
            parent = next(p for p in mix.manifest["parents"] if p["dataset"].endswith("/split"))
            files[parent["uri"]] = str(lake.open(parent["uri"], parent["digest"]).file("train.parquet"))
            older = generators_of(lake, mix)
        except (NotPublished, StopIteration):
            whose = "their generator" if uri in own else "a generator before theirs"
            return [], f"what {whose} learned from ({uri}) is no longer in the lake"
        waiting += [other for other in older if other not in met]
        met |= set(older)
    if not files:
        return [], ""
    table = "(select distinct text from read_parquet(?) where origin in ('real', 'unknown'))"
    held = [list(files.values())]
    characters = duckdb.execute(f"select coalesce(sum(len(text)), 0) from {table}", held).fetchall()[0][0]
    if characters > texts.SAMPLE:
        whose = "their generator" if len(met) == 1 else f"their generator and the {len(met) - 1} before it"
        return [], f"{whose} learned from {characters:,} characters of text, a probe holds {texts.SAMPLE:,}"
    return [text for (text,) in duckdb.execute(f"select text from {table} order by text", held).fetchall()], ""
