"""The comparison as data: one row per mix with its tokens, losses, worth and cost, and what varies between mixes.

`compare_runs` reads the mix manifest, the runs' evaluations and, where the study has them, its search, ensembles and
downstream tasks. Counts of tokens and passes are those of the runs, not of the plan: a search changes the plan.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace

import pyarrow.parquet as pq

from palimpsest.config import Study
from palimpsest.lake import LakeError, Published
from training.analysis import (
    contexts,
    edges,
    gaps,
    judged,
    laws,
    lengths,
    members,
    monotone,
    resolution,
    sampling,
    scaling,
    selected,
    series,
)
from training.analysis.ensembles import fit_members
from training.analysis.rows import OWN, cost, losses_of, make_row, real_stream
from training.analysis.words import TOLD, aside, describe, headline
from training.points import Point


def compare_runs(
    study: Study,
    mixes: Published,
    runs: Sequence[Published],
    *,
    generated: Mapping[tuple, Mapping] | None = None,
    search: Published | None = None,
    verdicts: Sequence[Published] = (),
) -> dict:
    """Everything the report says in numbers; ``verdicts`` are the ensembles, contexts and tasks of these runs.

    ``generated`` is, by the layouts of a mix, what its generations cost: ``output_tokens`` and ``engine_seconds``.

    D of a real-only point is the tokens of its real stream; a mix's data efficiency is D' over the D of its own.
    """
    streams = defaultdict(list)
    for row in pq.read_table(mixes.file("mixes.parquet")).to_pylist():
        streams[row["recipe"]].append(row)
    evaluated = [_evaluation(run, streams) for run in runs]
    evaluations = sorted(evaluated, key=lambda e: (e["recipe"], e["seed"]))
    by_recipe = defaultdict(dict)
    for evaluation in evaluations:
        by_recipe[evaluation["recipe"]][evaluation["seed"]] = evaluation
    sets = [*OWN, *sorted({name for run in evaluations for name in run["losses"]} - set(OWN))]
    of_mixes = [(run, found) for run, found in zip(runs, evaluated, strict=True) if found["recipe"] in study.mixes]
    documents = sampling.read(of_mixes, study.reference)

    references = _references(study, streams, by_recipe)
    names = [name for name in study.mixes if name in streams]
    tokens = {name: real_stream(streams[name])["stream_tokens"] for name in names}
    losses = {name: losses_of(by_recipe[name], "iid") for name in names if name != study.reference}
    compared = _compared(references, losses, tokens)
    fresh = _compared(references, losses, tokens, without=study.search.seed) if study.search else None
    whole = scaling.Efficiency("reference", "the yardstick", 1.0, difference=0.0, seeds=len(by_recipe[study.reference]))
    found = {study.reference: whole, **compared.mixes}
    places = members.describe_mixes(study, by_recipe)
    lines = series.find_series(places)
    known = {member.mix: member for member in places}
    rows = [make_row(study, name, streams[name], by_recipe, found[name], sets, documents) for name in names]
    rows = [row | _among(known.get(row["mix"]), row) | cost(study, row, rows, generated or {}) for row in rows]
    for row in rows:
        row["differs"] += _arithmetic(by_recipe[row["mix"]], by_recipe[study.reference])
        row["efficiency_fresh"] = _said(fresh.mixes[row["mix"]]) if fresh and row["mix"] in losses else None
    certificates = dict(search.extra["certificates"]) if search else {}
    beyond = edges.of_references(certificates, [point["recipe"] for point in references])
    rows = [_bounded(row, edges.of_mix(study, certificates, row["mix"]), beyond) for row in rows]
    verdict, together = judged.read(study, verdicts), gaps.find_gaps(places, sets, documents)
    pairs = {
        "gaps": together,
        "rises": monotone.find_rises(places, sets, documents),
        "ablations": gaps.find_ablations(places, sets, documents),
    }
    table = {
        "study": study.name,
        "reference": study.reference,
        "long_context": study.judging.long_context,
        "sets": sets,
        "mixes": rows,
        "references": references,
        "law": asdict(compared.law) if compared.law else None,
        "problem": compared.problem,
        "noise": compared.noise.deviation,
        "freedom": compared.noise.freedom,
        "documents": documents.counts(),
        "lengths": lengths.stream_lengths(study, mixes, streams),
        "series": series.as_rows(lines),
        **pairs,
        "resolution": resolution.find_resolution(places, study.reference, sets, **pairs),
        "laws": _laws(references, compared.problem, lines, sets, judged.choices(verdicts)),
        "certificates": certificates,
        "searched": _searched(search) if search else {},
        "selection": selected.read(study, mixes, evaluations),
        **verdict,
        **contexts.compare_contexts(study, verdicts, together),
        "runs": evaluations,
    }
    return {**table, "headline": headline(table), "aside": aside(table)}


def _compared(
    references: Sequence[Mapping], losses: Mapping[str, Mapping[int, float]], tokens: Mapping[str, int], without=None
) -> scaling.Comparison:
    """By all seeds, or ``without`` the one that a search chose by: the best of many points is lucky on that one."""

    def kept(own: Mapping[int, float]) -> dict[int, float]:
        return {seed: loss for seed, loss in own.items() if seed != without}

    points = [scaling.Reference(point["tokens"], kept(point["losses"])) for point in references]
    points = [point for point in points if point.losses]
    return scaling.compare(points, {name: kept(own) for name, own in losses.items()}, tokens=tokens)


def _said(found: scaling.Efficiency) -> str:
    own = {"efficiency": found.value, "efficiency_low": found.low, "efficiency_high": found.high}
    return describe({"verdict": found.verdict, "extrapolated": found.extrapolated, **own})


def _arithmetic(own: Mapping[int, Mapping], reference: Mapping[int, Mapping]) -> list[str]:
    """What the runs of a mix calculated in, where that is not the same for all of them and the reference's.

    'auto' chooses by the machine, and two precisions may be further apart than layouts are.
    """
    kinds = [
        {f"{run['precision']} on a {'CPU' if run['device'] == 'cpu' else 'GPU'}" for run in runs.values()}
        for runs in (own, reference)
    ]
    return [f"trained in {' and '.join(sorted(kinds[0]))}"] if kinds[0] and len(set.union(*kinds)) > 1 else []


def _references(study: Study, streams: Mapping[str, list], by_recipe: Mapping[str, Mapping]) -> list[dict]:
    """The real-only recipe at every size it has run at, the smallest first."""
    found = [
        {"recipe": recipe, "share": rows[0]["share"], "tokens": real_stream(rows)["stream_tokens"], "losses": own}
        for recipe, rows in streams.items()
        if (recipe == study.reference or rows[0]["role"] == "reference")
        and (own := losses_of(by_recipe[recipe], "iid"))
    ]
    return sorted(found, key=lambda point: point["tokens"])


def _bounded(row: Mapping, at_end: str, beyond: str) -> dict:
    """The row with what its own search and those of the real-only recipe could not see."""
    reasons = [row["reason"]] if row["reason"] else []
    if beyond and row["verdict"] in TOLD:
        reasons.append(beyond)
    if at_end and row["verdict"] != "reference":
        reasons.append(f"the search of its settings ended at {at_end}, so the mix may be better than shown")
    return {**row, "at_end": at_end, "reason": "; ".join(reasons)}


def _searched(search: Published) -> dict:
    """Every point that a search tried, by recipe; its loss is null where the run diverged."""
    loss, found = f"loss_{search.extra['metric']}", defaultdict(list)
    for row in pq.read_table(search.file("points.parquet")).to_pylist():
        point = {axis: row[axis] for axis in Point._fields}
        found[row["recipe"]].append(point | {"loss": row[loss], "best": row["best"], "wave": row["wave"]})
    return {"metric": search.extra["metric"], "points": dict(found)}


def _among(member: members.Member | None, row: Mapping) -> dict:
    """The family a mix belongs to (mixes that differ in G alone), and in what else it is unlike the reference."""
    if member is None:
        return {"family": row["layout"], "differs": []}
    return {
        "family": member.name("generations"),
        "differs": [word for key, word in member.words.items() if key != "real"],
    }


def _evaluation(run: Published, streams: Mapping[str, list]) -> dict:
    """The run's evaluation, with the point a search or another mix gave it."""
    evaluation = json.loads(run.file("evaluation.json").read_text(encoding="utf-8"))
    if evaluation["recipe"] not in streams:
        raise LakeError(
            f"{run.uri}: recipe '{evaluation['recipe']}' is not in these mixes ({', '.join(sorted(streams))}); "
            "run the study's trainings again for the mixes as they are now"
        )
    point = run.manifest["config"].get("run", {}).get("point")
    return evaluation | {"lowest": _lowest(run, evaluation["losses"])} | ({"point": point} if point else {})


def _lowest(run: Published, sets: Iterable[str]) -> dict[str, dict]:
    """By held-out set the lowest loss at any evaluation of the run, and its step; empty for a run without a curve."""
    if not (run.path / "curve.parquet").exists():
        return {}
    curve = pq.read_table(run.file("curve.parquet")).to_pydict()
    found = {
        name: [pair for pair in zip(curve[name], curve["step"], strict=True) if pair[0] is not None] for name in sets
    }
    return {name: dict(zip(("loss", "step"), min(pairs), strict=True)) for name, pairs in found.items() if pairs}


def _laws(
    references, problem: str, lines: Sequence[series.Series], sets: Sequence[str], ensembles: judged.Choices
) -> list[dict]:
    """Fits in D (real-only), N and G (per series and set) and K (per ensemble and set).

    ``problem`` is why no efficiency is read off the law in D: it stands beside that law too.
    """
    found = []
    if len(references) > 2:
        fit = laws.fit_series([r["tokens"] for r in references], [r["losses"] for r in references])
        fit = replace(fit, problem=problem or fit.problem)
        found.append({"in": "D", "of": "real only", "set": "iid", "x": [r["tokens"] for r in references], "fit": fit})
    for line in lines:
        if line.axis not in ("generations", "parameters") or len(line.members) < 3:
            continue
        for name in sets:
            losses = [member.losses.get(name, {}) for member in line.members.values()]
            if all(losses):
                x = list(line.members)
                fit = laws.fit_series(x, losses)
                found.append({"in": series.AXES[line.axis], "of": line.name, "set": name, "x": x, "fit": fit})
    for mix, by_set in ensembles.items():
        for name, losses in by_set.items():
            x = sorted({len(chosen) for chosen in losses})
            found.append({"in": "K", "of": mix, "set": name, "x": x, "fit": fit_members(losses)})
    return [law | {"fit": asdict(law["fit"])} for law in found if law["fit"].law]
