"""From a URL to everything made of its page: what a takedown has to remove, and what a reader of a mix came from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import duckdb

from palimpsest.ingest.records import without_user
from palimpsest.lake import Lake, LakeError, Published

Rows = list[dict[str, Any]]

PAGES = "select page_id, day, warc_file, warc_offset from pages where url = $url"
QUARANTINE = "select cause, detail, warc_file, warc_offset from quarantine where url = $url"
DOCUMENTS = "select document_id, title, words from documents where url = $url"
DROPS = "select reason, duplicate_of from document_drops where url = $url"
SPLIT = """
    select 'train' as part, document_id from train where url = $url
    union all
    select 'validation' as part, document_id from validation where url = $url
"""
GENERATIONS = """
    select strategy, g, generation_id, tokens from generations
    where document_id = $document_id
    order by strategy, g
"""
MEGADOCS = """
    select layout, position, megadoc_id, count(*) as parts, sum(tokens)::bigint as tokens from megadoc_parts
    where document_id = $document_id
    group by all
    order by layout, position
"""
MIXES = """
    with lengths as (
        select
            layout,
            document_id,
            sum(tokens) over (partition by layout order by position) as tokens_until
        from megadocs
    )

    select
        mixes.recipe,
        mixes.layout,
        count(*) as megadocs
    from mixes
    inner join lengths on mixes.layout = lengths.layout and lengths.tokens_until <= mixes.stream_tokens
    where lengths.document_id = $document_id
    group by all
    order by all
"""


def trace_url(lake: Lake, url: str) -> dict[str, Any]:
    """The pages, documents, generations, megadocs and mixes of the latest versions that stem from ``url``.

    Raises `LakeError` when no page, quarantine or document of the lake has this URL.
    """
    url = without_user(url)
    latest = {published.dataset: published for published in lake.all_latest()}
    found: dict[str, Any] = {"url": url, "corpora": {}, "studies": {}}
    for corpus in _names(latest, "corpora"):
        traced = _corpus(latest, corpus, url)
        if any(traced.values()):
            found["corpora"][corpus] = traced
    for study in _names(latest, "studies"):
        traced = _study(latest, study, url)
        if traced:
            found["studies"][study] = traced
    if not found["corpora"] and not found["studies"]:
        raise LakeError(f"{url}: no page in lake {lake.root} has this URL; give it exactly as it was crawled")
    return found


def _corpus(latest: dict[str, Published], corpus: str, url: str) -> dict[str, Rows]:
    days = [p for name, p in latest.items() if name.startswith(f"corpora/{corpus}/pages/")]
    traced = {
        "pages": _rows(PAGES, days, ["pages"], url=url),
        "quarantine": _rows(QUARANTINE, days, ["quarantine"], url=url),
    }
    documents = [p for p in [latest.get(f"corpora/{corpus}/documents")] if p]
    traced["documents"] = _rows(DOCUMENTS, documents, ["documents"], url=url)
    traced["dropped"] = _rows(DROPS, documents, ["document_drops"], url=url)
    return traced


def _study(latest: dict[str, Published], study: str, url: str) -> dict[str, Any] | None:
    stages = {name: latest.get(f"studies/{study}/{name}") for name in ("split", "generations", "mixes")}
    parts = _rows(SPLIT, filter(None, [stages["split"]]), ["train", "validation"], url=url)
    if not parts:
        return None
    document = {"document_id": parts[0]["document_id"]}
    generations: dict[str, Rows] = {}
    for row in _rows(GENERATIONS, filter(None, [stages["generations"]]), ["generations"], **document):
        generations.setdefault(row.pop("strategy"), []).append(row)
    mixes = [stages["mixes"]] if stages["mixes"] else []
    return {
        **parts[0],
        "generations": generations,
        "megadocs": _rows(MEGADOCS, mixes, ["megadoc_parts"], **document),
        "mixes": _rows(MIXES, mixes, ["mixes", "megadocs"], **document),
    }


def _names(latest: Iterable[str], kind: str) -> list[str]:
    return sorted({name.split("/")[1] for name in latest if name.startswith(f"{kind}/")})


def _rows(query: str, datasets: Iterable[Published], tables: list[str], **parameters: str) -> Rows:
    """The query's rows over each dataset's tables, each row with the URI of the version it stands in."""
    found = []
    for published in datasets:
        with duckdb.connect() as connection:
            for table in tables:
                connection.read_parquet(str(published.file(f"{table}.parquet"))).create_view(table)
            result = connection.execute(query, parameters)
            columns = [column[0] for column in result.description]
            found += [{"uri": published.uri, **dict(zip(columns, row, strict=True))} for row in result.fetchall()]
    return found
