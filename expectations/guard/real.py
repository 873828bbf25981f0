"""G3: the real documents of a corpus are added to, not replaced (Gerstgrasser et al. 2024, 2404.01413)."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb

from palimpsest.config import Study, resolve
from palimpsest.guard.verdict import Verdict, bounded, not_judged, percent
from palimpsest.lake import Lake, LakeError, NotPublished, Published

TOMBSTONES = ("exact_duplicate", "near_duplicate")
"""Reasons of a drop after which the text is still there, in another document."""
SHRUNK = """
    with gone as (
        select before.site, before.words, before.url
        from before left join after on before.url = after.url where after.url is null
    ),
    excused as (
        select site, sum(words) as words from gone
        where url in (select url from tombstones) group by site
    ),
    old as (select site, sum(words) as words from before group by site),
    new as (select site, sum(words) as words from after group by site)
    select
        old.site,
        old.words,
        greatest(old.words - coalesce(new.words, 0) - coalesce(excused.words, 0), 0) as lost
    from old
    left join new on old.site = new.site
    left join excused on old.site = excused.site
"""
SMALL = 0.01
"""Sites with less of a corpus's words are judged as one."""


def append_only(study: Study, lake: Lake, split: Published) -> Iterator[Verdict]:
    """The real words each corpus of the study lost since the version that its gate last let through."""
    limit = study.guard.thresholds.real_shrink_max
    before = _documents(lake, _gated_split(study, lake))
    for corpus in before:
        if corpus not in study.corpora:
            said = f"corpus {corpus} was taken out of the study: all its real words are gone since the version before; "
            said += f"at most {percent(limit)} is asked"
            yield bounded("G3", "shrinkage", 1.0, said, at_most=limit, subject=corpus, details={"corpus": corpus})
    for corpus, after in _documents(lake, split).items():
        if corpus not in before:
            why = f"corpus {corpus} has no earlier version that passed this study's gate to be compared with"
            told = {"corpus": corpus}
            yield not_judged("G3", "shrinkage", why, severity="warning", subject=corpus, limit=limit, details=told)
        elif before[corpus].digest == after.digest:
            said = f"the real text of corpus {corpus} is that of the version before"
            yield bounded("G3", "shrinkage", 0.0, said, at_most=limit, subject=corpus, details={"corpus": corpus})
        else:
            yield from _compared(study, corpus, before[corpus], after)


def _compared(study: Study, corpus: str, before: Published, after: Published) -> Iterator[Verdict]:
    limit = study.guard.thresholds.real_shrink_max
    connection = duckdb.connect()
    for name, published in (("before", before), ("after", after)):
        file = str(published.file("documents.parquet"))
        known = "origin" in connection.read_parquet(file).columns
        chosen = "where origin = 'real'" if known else ""
        connection.execute(f"create table {name} as select url, site, words from read_parquet(?) {chosen}", [file])
    connection.execute("create table tombstones (url varchar)")
    if any(file["name"] == "document_drops.parquet" for file in after.manifest["files"]):
        connection.execute(
            "insert into tombstones select url from read_parquet(?) where list_contains(?, reason)",
            [str(after.file("document_drops.parquet")), list(TOMBSTONES)],
        )
    if urls := tombstones(study):
        connection.executemany("insert into tombstones values (?)", [[url] for url in urls])
    rows = connection.execute(SHRUNK).fetchall()
    total = sum(words for _, words, _ in rows)
    if not total:
        why = f"the version of corpus {corpus} before this one held no real text to lose"
        yield not_judged("G3", "shrinkage", why, severity="warning", subject=corpus, limit=limit)
        return
    yield _verdict(corpus, "", sum(lost for *_, lost in rows) / total, limit)
    sites = {site: (words, lost) for site, words, lost in rows if words >= SMALL * total}
    small = [(words, lost) for site, words, lost in rows if words < SMALL * total]
    if small:
        sites["(small domains)"] = tuple(map(sum, zip(*small, strict=True)))
    if len(sites) > 1:
        worst = max(sites, key=lambda site: sites[site][1] / sites[site][0])
        yield _verdict(corpus, worst, sites[worst][1] / sites[worst][0], limit)


def _verdict(corpus: str, site: str, lost: float, limit: float) -> Verdict:
    where = f"in its worst domain, {site}, corpus {corpus}" if site else f"corpus {corpus}"
    return bounded(
        "G3",
        "shrinkage",
        lost,
        f"{where} lost {percent(lost)} of its real words since the version before, duplicates and tombstones apart; "
        f"at most {percent(limit)} is asked",
        at_most=limit,
        subject=f"{corpus} in {site}" if site else corpus,
        details={"corpus": corpus, "domain": site or None},
    )


def _gated_split(study: Study, lake: Lake) -> Published | None:
    """The split of the last version that passed this study's gate."""
    try:
        gate = lake.latest(f"studies/{study.name}/gate")
        parent = next(p for p in gate.manifest["parents"] if p["dataset"].endswith("/split"))
        return lake.open(parent["uri"], parent["digest"])
    except (NotPublished, StopIteration):
        return None


def _documents(lake: Lake, split: Published | None) -> dict[str, Published]:
    """The documents a split was made of, by corpus, as far as the lake still holds them."""
    found = {}
    for parent in split.manifest["parents"] if split else ():
        try:
            found[parent["dataset"].split("/")[1]] = lake.open(parent["uri"], parent["digest"])
        except NotPublished:
            continue
    return found


def tombstones(study: Study) -> list[str]:
    """The URLs whose loss is no shrinking. Raises `LakeError` where the study names a file that is not there."""
    if not study.guard.tombstones:
        return []
    file = resolve(study.guard.tombstones)
    if not file.is_file():
        raise LakeError(f"{study.path}: guard.tombstones: no file {file}; correct the path or create it")
    lines = file.read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
