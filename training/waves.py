"""``studies/<study>/search``: the points of every searched recipe, run in waves that the lake's results decide.

A wave is what all searches lack now. Nothing is kept between waves but the runs themselves, so any of them may be cut
off or asked for again: `survey` finds what is there by its key.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from palimpsest.config import Study
from palimpsest.lake import Facts, Lake, LakeError, NotPublished, Published
from training import points, search
from training.costs import run_cost
from training.failure import Diverged
from training.loop import Progress, Tracker
from training.points import Point
from training.pretrain import UNSHAPING, plan_runs, publication, train

CODE = [f"training/{name}.py" for name in ("flops", "points", "search", "waves")]


@dataclass(frozen=True)
class Searched:
    """The search of one recipe so far."""

    recipe: str
    axes: tuple[str, ...]
    start: Point
    runs: Mapping[Point, dict]
    """Of every point asked for."""
    results: Mapping[Point, Published]
    """Of those that have run: the run, or the record of its divergence."""
    losses: Mapping[Point, float]
    walk: search.Walk


def survey(study: Study, lake: Lake, *, tokens: Published, mixes: Published) -> dict[str, Searched]:
    """Every searched recipe, as far as the lake has its runs."""
    recipes = points.recipes(mixes)
    return {
        recipe: _searched(study, lake, tokens, mixes, rows)
        for recipe, rows in recipes.items()
        if study.is_searched(recipe)
    }


def wave(study: Study, lake: Lake, *, tokens: Published, mixes: Published) -> list[dict]:
    """What is to be run now, the longest first: {run, wave}; none when every search has ended."""
    found = survey(study, lake, tokens=tokens, mixes=mixes).values()
    orders = [{"run": one.runs[point], "wave": len(one.walk.waves)} for one in found for point in one.walk.missing]
    return sorted(orders, key=lambda order: (-order["run"]["steps"], order["run"]["run"]))


def train_point(
    study: Study,
    lake: Lake,
    *,
    tokens: Published,
    mixes: Published,
    run: dict,
    tracked: Callable[[], AbstractContextManager[Tracker | None]] = nullcontext,
    progress: Progress | None = None,
) -> Published:
    """The run at a point of the search, or ``studies/<study>/diverged/<run>`` where its loss went up for good.

    A search tries learning rates that are too high; that is an answer, and not trained again either. The run that
    ``tracked`` opens has the curve and the cost; of a divergence it ends as failed, without a cost.
    """
    record = _divergence(publication(study, tokens, mixes, run))
    try:
        with tracked() as tracker:
            if known := lake.version(**record):
                raise Diverged(known.extra["diverged"])
            trained = train(study, lake, tokens=tokens, mixes=mixes, run=run, tracker=tracker, progress=progress)
            if tracker:
                tracker.log_metrics(run_cost(trained), run["steps"])
            return trained
    except Diverged as error:
        told = str(error)
        return lake.publish(**record, write=lambda directory: Facts(extra={"run": run["run"], "diverged": told}))


def choose(study: Study, lake: Lake, *, tokens: Published, mixes: Published) -> Published:
    """``studies/<study>/search``: points.parquet; in ``extra`` the best points and their certificates, by recipe.

    Raises `LakeError` while points are missing, and where no point of a recipe has a finite loss.
    """
    found = survey(study, lake, tokens=tokens, mixes=mixes)
    for one in found.values():
        if one.walk.missing:
            missing = ", ".join(one.runs[point]["run"] for point in one.walk.missing)
            raise LakeError(
                f"study {study.name}: the search of '{one.recipe}' still lacks {missing}; run the wave again"
            )
        if one.walk.ended == "diverged":
            raise LakeError(
                f"study {study.name}: all {len(one.losses)} points tried of recipe '{one.recipe}' diverged; add lower "
                f"values to search.lr or start lower, now at {one.start.lr:g}"
            )

    def write(directory: Path) -> Facts:
        rows = [row for one in found.values() for row in _rows(one)]
        sets = sorted({name for row in rows for name in row["losses"]})
        pq.write_table(_table(rows, sets), directory / "points.parquet")
        certificates = {name: search.certificate(study.search_of(name), one.axes, one.start, one.losses)
                        for name, one in found.items()}  # fmt: skip
        best = {one.recipe: one.walk.best._asdict() for one in found.values()}
        return Facts(extra={"metric": study.search.metric, "best": best, "certificates": certificates})

    results = sorted((r for one in found.values() for r in one.results.values()), key=lambda result: result.dataset)
    place = {"dataset": f"studies/{study.name}/search", "config": _config(study, mixes), "code": CODE}
    return lake.publish(**place, write=write, parents=[mixes, *results])


def best(published: Published) -> dict[str, Point]:
    """The best point of each searched recipe."""
    return {recipe: Point(**point) for recipe, point in published.extra["best"].items()}


def final_runs(study: Study, lake: Lake, mixes: Published) -> list[dict]:
    """The runs a study compares: as planned, or where it searches, at the points its last search found.

    Raises `LakeError` where that search was of other mixes or settings.
    """
    if study.search is None:
        return plan_runs(study, mixes)
    again = f"run python -m training search {study.name}"
    try:
        published = lake.latest(f"studies/{study.name}/search")
    except NotPublished:
        raise LakeError(f"study {study.name} finds its settings by a search, and has not yet: {again}") from None
    if published.manifest["config"] != _config(study, mixes):
        raise LakeError(f"{published.uri} is the search of other mixes or settings than {study.path} has now: {again}")
    return plan_runs(study, mixes, best(published))


def final_orders(study: Study, mixes: Published, published: Published) -> list[dict]:
    """One {run} per final run, the longest first; with its ``wave`` where it has run already."""
    rows = pq.read_table(published.file("points.parquet"), columns=["run", "wave"]).to_pylist()
    known = {row["run"]: {"wave": row["wave"]} for row in rows}
    return [{"run": run, **known.get(run["run"], {})} for run in plan_runs(study, mixes, best(published))]


def tags(study: Study, order: Mapping) -> dict[str, str]:
    """What MLflow says of a run in a searched study: its point, and the wave that asked for it, if one did."""
    point = {axis: f"{value:g}" for axis, value in points.of(study, order["run"])._asdict().items()}
    found = {"palimpsest.point": ", ".join(f"{axis} {value}" for axis, value in point.items())}
    return found | ({"palimpsest.wave": str(order["wave"])} if "wave" in order else {})


def render(published: Published) -> str:
    """What a search came to, for a terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    extra = published.extra
    grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    grid.add_column("recipe", no_wrap=True)
    for name in ("lr", "weight\ndecay", "epochs", "f", f"{extra['metric']}\nloss", "next\nbest", "runs", "waves"):
        grid.add_column(name, justify="right", no_wrap=True)
    grid.add_column("ended by")
    for recipe, found in extra["certificates"].items():
        margin = "" if found["margin"] is None else f"{found['margin']:+.4f}"
        edges = "".join(f"; best at the {end} end of {axis}" for axis, end in found["edges"].items())
        settings = (f"{found['centre'][axis]:g}" for axis in Point._fields)
        counts = (f"{found['loss']:.4f}", margin, str(found["runs"]), str(found["waves"]))
        grid.add_row(recipe, *settings, *counts, found["ended"] + edges)
    buffer = io.StringIO()
    Console(file=buffer, width=132, color_system=None).print(grid)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())


def _searched(study: Study, lake: Lake, tokens: Published, mixes: Published, rows: points.Rows) -> Searched:
    recipe = rows[0]["recipe"]
    asked, start = study.search_of(recipe), points.own(study, recipe)
    axes = asked.axes(study.mix_of(recipe))
    extremes = [start._replace(**{a: getattr(asked, a)[end] for a in axes}) for end in (0, -1)]
    for point in extremes:  # too few steps or too much synthetic text is said before anything is trained
        points.at(study, rows, point, asked.seed)
    runs, results, losses = {}, {}, {}
    while missing := search.next_points(asked, axes, start, losses):
        for point in missing:
            runs[point] = points.at(study, rows, point, asked.seed)
            place = publication(study, tokens, mixes, runs[point])
            result = lake.version(**place) or lake.version(**_divergence(place))
            if result:
                results[point], losses[point] = result, _loss(study, result)
        if any(point not in results for point in missing):
            break
    return Searched(recipe, axes, start, runs, results, losses, search.walk(asked, axes, start, losses))


def _loss(study: Study, result: Published) -> float:
    """Infinite for a divergence."""
    if "diverged" in result.extra:
        return float("inf")
    loss = result.extra["losses"].get(study.search.metric)
    if loss is None:
        raise LakeError(
            f"{result.uri} has no loss on '{study.search.metric}': that held-out set has no document; name another as "
            f"search.metric in {study.path}, or widen its rule under 'validation'"
        )
    return loss


def _divergence(place: Mapping) -> dict:
    """Where the lake says of a run that it diverged."""
    return {**place, "dataset": place["dataset"].replace("/runs/", "/diverged/")}


def _config(study: Study, mixes: Published) -> dict:
    """What is asked; the answer's key also has the runs, and so the settings that make them."""
    recipes = [recipe for recipe in points.recipes(mixes) if study.is_searched(recipe)]
    starts = {recipe: points.own(study, recipe)._asdict() for recipe in recipes}
    training = {r: study.training_of(r).model_dump(mode="json", exclude=UNSHAPING) for r in recipes}
    asked = {"search": study.search.model_dump(mode="json"), "starts": starts, "training": training}
    own = {r: study.search_of(r).model_dump(mode="json") for r in recipes if isinstance(study.mix_of(r).search, dict)}
    return asked | ({"own": own} if own else {}) | {"mixes": mixes.digest}


def _rows(one: Searched) -> list[dict]:
    rows = []
    for point, result in one.results.items():
        run = one.runs[point]
        rows.append(
            {
                "recipe": one.recipe,
                "run": run["run"],
                "wave": one.walk.wave(point),
                **point._asdict(),
                "steps": run["steps"],
                "losses": result.extra.get("losses", {}),
                "seconds": result.extra.get("seconds"),
                "diverged": result.extra.get("diverged"),
                "best": point == one.walk.best,
                "uri": result.uri,
            }
        )
    return rows


def _table(rows: list[dict], sets: list[str]) -> pa.Table:
    """One row per point; ``loss_<set>`` of every held-out set, null where the run diverged (``diverged`` says how)."""
    types = [("recipe", pa.string()), ("run", pa.string()), ("wave", pa.int32())]
    types += [(axis, pa.float64()) for axis in Point._fields] + [("steps", pa.int64()), ("seconds", pa.float64())]
    types += [("diverged", pa.string()), ("best", pa.bool_()), ("uri", pa.string())]
    types += [(f"loss_{name}", pa.float64()) for name in sets]
    flat = [row | {f"loss_{name}": row["losses"].get(name) for name in sets} for row in rows]
    return pa.Table.from_pylist(flat, schema=pa.schema(types))
