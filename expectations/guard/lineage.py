"""G1 and G5: every text says where it comes from, and few models lie between it and people."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb

from palimpsest.config import Study
from palimpsest.guard.learned import generators_of
from palimpsest.guard.thresholds import Thresholds
from palimpsest.guard.verdict import Verdict, bounded, not_judged, percent
from palimpsest.lake import Lake, NotPublished, Published

NEEDED = {
    "train": {
        "corpus": "coalesce(corpus, '') = ''",
        "origin": "coalesce(origin, '') not in ('real', 'unknown')",
        "depth": "depth is null",
    },
    "generations": {
        "origin": "coalesce(origin, '') <> 'synthetic'",
        "depth": "coalesce(depth, 0) < 1",
        "grounded": "grounded is null",
        "seed_document_ids": "seed_document_ids is null or (grounded and len(seed_document_ids) = 0)",
        "model": "coalesce(model, '') = ''",
        "generator_mix": "self_consuming is null or (self_consuming and coalesce(generator_mix, '') = '')",
        "prompt": "coalesce(prompt_sha256, '') = ''",
        "decoding": "engine = 'vllm' and coalesce(decoding, '') = ''",
        "verifier": "coalesce(verifier, '') = '' or coalesce(verdict, '') = ''",
    },
    "megadoc_parts": {
        "origin": "origin is null",
        "depth": "depth is null",
        "grounded": "grounded is null or self_consuming is null",
        "domain": "coalesce(domain, '') = ''",
    },
}
"""What each row must say, and when it does not."""
CALLED = {"train": "training documents", "generations": "generations", "megadoc_parts": "megadoc parts"}


def provenance(connection: duckdb.DuckDBPyConnection, limits: Thresholds) -> Iterator[Verdict]:
    """G1: the share of rows of each table whose provenance is complete."""
    for table, columns in NEEDED.items():
        lacking = ", ".join(f'count(*) filter (where {said}) as "{name}"' for name, said in columns.items())
        any_of = " or ".join(f"({said})" for said in columns.values())
        query = f"select count(*) as total, count(*) filter (where {any_of}) as wanting, {lacking} from {table}"
        row = connection.execute(query).df().iloc[0].to_dict()
        total, wanting = int(row.pop("total")), int(row.pop("wanting"))
        if not total:
            if table != "generations":
                why = f"there are no {CALLED[table]} to ask where they come from; build the study again"
                yield not_judged("G1", "provenance", why, subject=table)
            continue
        missing = {name: int(count) for name, count in row.items() if count}
        said = f": {', '.join(f'{count:,} lack {name}' for name, count in missing.items())}" if missing else ""
        yield bounded(
            "G1",
            "provenance",
            (total - wanting) / total,
            f"{_exact(total - wanting, total)} of the {total:,} {CALLED[table]} say where they come from; "
            f"{percent(limits.provenance_min)} is asked{said}",
            at_least=limits.provenance_min,
            subject=table,
            details={"missing": missing, "waivable": False},
        )


def _exact(some: int, of: int) -> str:
    """A percentage that says 100% only of all."""
    return "100%" if some == of else f"{100 * some / of:.4g}%" if 100 * some / of < 99.99 else "nearly all"


def acyclic(connection: duckdb.DuckDBPyConnection, lake: Lake, mixes: Published) -> Iterator[Verdict]:
    """G1: no text is its own ancestor, by its seeds or by what its generator was trained on."""
    query = """
        select count(*) from (select unnest(seed_document_ids) as seed from generations)
        where seed in (select generation_id from generations)
    """
    seeded = connection.execute(query).fetchall()[0][0]
    circles = [" → ".join(chain) for chain in _chains(connection, lake, mixes) if len(set(chain)) < len(chain)]
    found = seeded + len(circles)
    what = "no text is its own ancestor" if not found else f"{found} lines of descent run in a circle"
    yield bounded(
        "G1",
        "acyclic",
        found,
        f"{what}, neither by the documents it was made of nor by what its generator was trained on"
        + (f": {circles[0]}" if circles else ""),
        at_most=0,
        subject="lineage",
        details={"waivable": False},
    )


def _chains(connection: duckdb.DuckDBPyConnection, lake: Lake, mixes: Published) -> Iterator[list[str]]:
    """From this mix back through the mixes of all its generators and theirs, each line to where it ends, repeats, or
    joins one that was followed before.
    """
    waiting, followed = [[mixes.uri, uri] for uri in generator_mixes(connection)], set()
    while waiting:
        chain = waiting.pop()
        yield chain
        if len(set(chain)) == len(chain) and chain[-1] not in followed:
            followed.add(chain[-1])
            waiting += [[*chain, older] for older in _generators_of(lake, chain[-1])]


def _generators_of(lake: Lake, mix: str) -> list[str]:
    try:
        return generators_of(lake, lake.open(mix))
    except NotPublished:
        return []


def generator_mixes(connection: duckdb.DuckDBPyConnection) -> list[str]:
    query = "select distinct generator_mix from generations where generator_mix is not null order by 1"
    return [row[0] for row in connection.execute(query).fetchall()]


def depth(connection: duckdb.DuckDBPyConnection, limits: Thresholds) -> Iterator[Verdict]:
    """G5: the models between each recipe's text and people."""
    query = """
        select
            recipe,
            max(depth),
            count(*) filter (where depth is null),
            coalesce(sum(recipe_share) filter (where depth > ?), 0)
        from mix_shares where trained_tokens > 0 group by recipe order by recipe
    """
    for recipe, deepest, unknown, share in connection.execute(query, [limits.depth_max]).fetchall():
        if unknown or deepest is None:
            why = f"mix {recipe} holds text whose depth nobody knows; train its generator again, or leave it out"
            told = {"recipe": recipe}
            yield not_judged("G5", "depth", why, subject=recipe, limit=limits.depth_max, details=told)
            continue
        beyond = f": {percent(share)} of its tokens lie deeper" if share else ""
        yield bounded(
            "G5",
            "depth",
            deepest,
            f"{_lying(deepest)} between the text of mix {recipe} and people; at most {limits.depth_max} is asked"
            + beyond,
            at_most=limits.depth_max,
            subject=recipe,
            details={"recipe": recipe, "share_deeper": share, "waivable": deepest <= limits.depth_waived_max},
        )


def _lying(models: int) -> str:
    return {0: "no model lies", 1: "one model at most lies"}.get(models, f"up to {models} models lie")


def generators(connection: duckdb.DuckDBPyConnection, lake: Lake) -> Iterator[Verdict]:
    """G5: what each strategy's generator of this platform was trained on has passed its own guard."""
    query = "select distinct strategy, generator_mix from generations where generator_mix is not null order by 1, 2"
    for strategy, uri in connection.execute(query).fetchall():
        passed = has_passed(lake, uri)
        yield bounded(
            "G5",
            "generator_passed",
            int(passed),
            f"the mix {uri} that the generator of strategy {strategy} was trained on has "
            f"{'' if passed else 'not '}passed its own guard",
            at_least=1,
            subject=f"{strategy} by {uri}",
            details={"strategy": strategy},
        )


def has_passed(lake: Lake, mix: str) -> bool:
    """Whether a gate let this version of a mix through, and not for the sake of an experiment."""
    try:
        published = lake.open(mix)
    except NotPublished:
        return False
    gates = [
        gate
        for gate in lake.versions(published.dataset.rsplit("/", 1)[0] + "/gate")
        if not any(verdict["details"].get("experiment") for verdict in gate.extra.get("guard", []))
    ]
    return any(published.digest in {p["digest"] for p in gate.manifest["parents"]} for gate in gates)


def decoding(connection: duckdb.DuckDBPyConnection, study: Study, limits: Thresholds) -> Iterator[Verdict]:
    """G6: corpus text is drawn near the model's own distribution; what seeks its mode loses the tail."""
    used = {row[0] for row in connection.execute("select distinct strategy from generations").fetchall()}
    for name, strategy in study.strategies.items():
        if name not in used or strategy.engine.kind == "augment":
            continue
        if strategy.engine.kind == "recorded":
            why = f"how the recorded texts of strategy {name} were drawn is not known here; their words tell (G8, G9)"
            yield not_judged("G6", "temperature", why, severity="warning", subject=name, details={"strategy": name})
            continue
        sampling = strategy.sampling
        least: dict[str, tuple[float, float]] = {
            "temperature": (sampling.temperature, limits.temperature_min),
            "top_p": (sampling.top_p, limits.top_p_min),
        }
        if sampling.top_k:  # 0 is off
            least["top_k"] = (sampling.top_k, limits.top_k_min)
        told = {"subject": name, "details": {"strategy": name}}
        for measure, (value, limit) in least.items():
            greedy = (measure, value) in (("temperature", 0), ("top_k", 1))
            said = f"strategy {name} draws its texts {'greedily' if greedy else f'at {measure} {value:g}'}; "
            said += f"at least {limit:g} is asked of text for a corpus"
            yield bounded("G6", measure, value, said, at_least=limit, **told)
        if sampling.min_p:
            said = f"strategy {name} draws its texts at min_p {sampling.min_p:g}; "
            said += f"at most {limits.min_p_max:g} is asked of text for a corpus"
            yield bounded("G6", "min_p", sampling.min_p, said, at_most=limits.min_p_max, **told)
