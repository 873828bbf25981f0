"""``docs/results/<study>.md``: what a study came to, from the lake's report and MLflow's record of how it was made.

``python -m training results STUDY`` writes the page and its figures; nothing in it is written by hand.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from palimpsest.config import Study, load_study
from palimpsest.lake import REPOSITORY, Lake, LakeError, Published
from training import judge, track
from training.analysis.amounts import cost, lengths, multiples, passes
from training.analysis.figures import explain
from training.analysis.history import as_table
from training.analysis.markdown import (
    CERTIFICATE,
    LAW,
    LAWS,
    TASK,
    ablations,
    contexts,
    differences,
    ensembles,
    gaps,
    mixes,
    references,
    reservations,
    rises,
    rows_of,
    seen,
)
from training.analysis.report import load_table
from training.analysis.selected import LAYOUT
from training.analysis.took import took
from training.analysis.words import bounds, short


def main(study_name: str, folder: Path | None = None) -> Path:
    """Write the page of the study's latest report; its path.

    Raises `LakeError` if MLflow does not know the run that made that report: then nobody could look further.
    """
    study, lake = load_study(study_name), Lake.from_env()
    published = lake.latest(f"studies/{study.name}/report")
    reports = track.reports(study)
    made = maker(reports, published, f"run python -m training report {study.name}, or trigger study_{study.name}")
    folder = folder or REPOSITORY / "docs" / "results"
    copied(published, published.extra["figures"], folder / study.name)
    page = folder / f"{study.name}.md"
    times = took(published, load_table(published), judge.seconds(study))
    page.write_text(render(study, published, made, reports, track.children(made["run"]), times), encoding="utf-8")
    return page


def maker(reports: Sequence[Mapping], published: Published, remedy: str) -> Mapping:
    """The run among ``reports`` that made the report. Raises `LakeError`, with the remedy, where there is none."""
    made = next((report for report in reports if report["report"] == published.digest), None)
    if made is None:
        raise LakeError(
            f"{published.uri} was made by no finished run in MLflow at {track.tracking_uri()}; {remedy}, or set "
            "MLFLOW_TRACKING_URI to the store that has it"
        )
    return made


def machines(runs: Sequence[Mapping], children: Sequence[Mapping]) -> dict[str, str]:
    """What evaluations and tracked runs say of where they ran."""
    hardware = sorted({child["hardware"] for child in children if child["hardware"]})
    devices = sorted({f"{run['device']} in {run['precision']}, {run.get('threads', 1)} thread(s)" for run in runs})
    return {"Hardware": "; ".join(hardware) or "not recorded", "Device of the runs": "; ".join(devices)}


def copied(published: Published, names: Sequence[str], folder: Path) -> Sequence[str]:
    """The names of a report's figures, now in ``folder`` as PNG and alone there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in names:
        shutil.copy(published.file(f"{name}.png"), folder / f"{name}.png")
    return names


def render(
    study: Study,
    published: Published,
    made: Mapping,
    reports: Sequence[Mapping],
    children: Sequence[Mapping],
    times: Mapping[str, str],
) -> str:
    """The page in Markdown; ``times`` is how long things took (`training.analysis.took`)."""
    table = load_table(published)
    parts = [
        f"# {study.name}: what the data is worth",
        f"**{table['headline']}**",
        table["aside"],
        study.description,
        f"Written by `python -m training results {study.name}` from report `{published.digest[:12]}` in the lake and "
        f"MLflow run `{made['run']}` (experiment `{study.name}`), commit `{track.short_commit(made['commit'])}`.",
        "## Mix by mix",
        "Losses in nats per token on held-out documents: mean over seeds ± their standard "
        "deviation. Data efficiency: how many times more real text the real-only recipe would have needed for the same "
        "loss, with its 95% interval.",
        mixes(table),
        reservations(table),
        references(table),
        differences(table),
        gaps(table),
        rises(table),
        contexts(table),
        ablations(table),
        seen(table),
        rows_of("## What was selected", table["selection"]["layouts"], LAYOUT),
        rows_of(LAWS, table["laws"], LAW),
        rows_of("## Downstream tasks", table["tasks"], TASK),
        ensembles(table),
        cost(table),
        multiples(table),
        passes(table),
        lengths(table),
        rows_of("## Settings that were found", list(table["certificates"].items()), CERTIFICATE),
        _figures(study, published),
        "## Cost and hardware",
        _cost(table, made, children, times),
        _history(reports),
        "## Once more",
        _commands(study),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _figures(study: Study, published: Published) -> str:
    names = published.extra["figures"]
    drawn = [f"### {explain(n)[0]}\n\n{explain(n)[1]}\n\n![{explain(n)[0]}]({study.name}/{n}.png)" for n in names]
    return "\n\n".join(["## Figures", *drawn]) if drawn else ""


def _cost(table: Mapping, made: Mapping, children: Sequence[Mapping], times: Mapping[str, str]) -> str:
    runs = table["runs"]
    facts = {
        **machines(runs, children),
        **times,
        "Tokens trained, runs compared": short(sum(run["tokens"]["total"] for run in runs)),
        "Training FLOPs, runs compared": short(sum(run["flops"] for run in runs)),
        "Tokens generated, largest layout": short(max((r["generated_tokens"] or 0 for r in table["mixes"]), default=0)),
        "Report finished": made["time"],
    }
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


def _history(reports: Sequence[Mapping]) -> str:
    if len(reports) < 2:
        return ""
    columns = as_table(reports)
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    shown = {
        "report": lambda r: f"{r['time'][:10]}, {track.short_commit(r['commit'], 7)}",
        "mix": lambda r: r["mix"],
        "loss": lambda r: "–" if r["loss"] is None else f"{r['loss']:.4f}",
        "data efficiency": _worth,
        "to bear in mind": lambda r: "not recorded" if r["caveat"] is None else r["caveat"] or "–",
    }
    return rows_of("## Earlier reports", rows, shown)


def _worth(row: Mapping) -> str:
    """Of one report of a mix, whose verdict MLflow's metrics tell by what they have."""
    if row["efficiency"] is not None:
        return f"{row['efficiency']:.2f}x"
    known = row["efficiency_low"] is not None or row["efficiency_high"] is not None
    return bounds(row, "x") if known else "–"


def _commands(study: Study) -> str:
    """From nothing to this page; a Dag that was never switched on would keep its run waiting."""
    file = study.path.relative_to(REPOSITORY) if study.path.is_relative_to(REPOSITORY) else study.path.name
    dags = [*(f"corpus_{corpus}" for corpus in study.corpora), f"study_{study.name}"]
    lines = [
        f"python -m palimpsest validate {study.name}     # {file}",
        *(["make tasks"] if study.judging.tasks else []),
        "make up",
        *(f'make airflow ARGS="dags {what} {dag}"' for dag in dags for what in ("unpause -y", "trigger")),
        f"python -m training results {study.name}",
    ]
    return "\n".join(["```", *lines, "```", "", "Each Dag is triggered when the one before it has ended."])
