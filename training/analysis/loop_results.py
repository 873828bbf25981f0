"""``docs/results/loop_<name>.md``: what a loop came to, from the lake's report, its rounds' gates and MLflow's record.

``python -m training rounds LOOP --results`` writes the page and its figures; nothing in it is written by hand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from palimpsest.config import Arm, Loop
from palimpsest.lake import REPOSITORY, Lake, NotPublished, Published
from training import track
from training.analysis.loops import FIGURES
from training.analysis.markdown import rows_of
from training.analysis.results import copied, machines, maker
from training.analysis.took import duration
from training.analysis.words import seeds_span, short

ROUND = {
    "round": lambda r: r["round"],
    "arm": lambda r: r["arm"],
    "perplexity": lambda r: f"{r['perplexity']:,.1f}",
    "lowest to highest seed": lambda r: seeds_span(r) or "–",
    "over base": lambda r: f"{r['times_base']:.2f}x",
    "real tokens": lambda r: f"{r['real_share']:.0%}",
    "rare words kept": lambda r: _or_dash(r["rare_kept"], ".0%"),
    "entropy, bits": lambda r: _or_dash(r["entropy"], ".2f"),
    "distinct three-grams": lambda r: _or_dash(r["distinct_3"], ".3f"),
    "compression": lambda r: _or_dash(r["compression"], ".2f"),
}

GUARD = "All sentences stand in each round's gate: in the task's log, in Data Docs and in MLflow."


def write(loop: Loop, lake: Lake, published: Published, folder: Path | None = None) -> Path:
    """Write the page of a loop's report; its path.

    Raises `LakeError` if MLflow does not know the run that made that report: then nobody could look further.
    """
    remedy = f"clear task report of the newest run of Dag loop_{loop.name}"
    made = maker(track.reports(loop), published, remedy)
    folder = folder or REPOSITORY / "docs" / "results"
    name = f"loop_{loop.name}"
    drawn = [figure for figure in FIGURES if (published.path / f"{figure}.png").exists()]
    figures = copied(published, drawn, folder / name)
    page = folder / f"{name}.md"
    page.write_text(render(loop, lake, published, made, figures), encoding="utf-8")
    return page


def render(loop: Loop, lake: Lake, published: Published, made: Mapping, figures: Sequence[str]) -> str:
    """The page in Markdown."""
    table = json.loads(published.file("table.json").read_text(encoding="utf-8"))
    drawn = [f"### {FIGURES[n][0]}\n\n{FIGURES[n][1]}\n\n![{FIGURES[n][0]}](loop_{loop.name}/{n}.png)" for n in figures]
    parts = [
        f"# Loop {loop.name}: models that learn from models",
        f"**{table['headline']}**",
        loop.description,
        f"Written by `python -m training rounds {loop.name} --results` from report `{published.digest[:12]}` in the "
        f"lake and MLflow run `{made['run']}` (experiment `{loop.name}`), "
        f"commit `{track.short_commit(made['commit'])}`.",
        "\n".join(["## Arms", "", *(f"- `{name}`: {told(arm)}" for name, arm in loop.arms.items())]),
        "## Round by round",
        f"Perplexity of the round's models on real documents held out before anything was generated, the geometric "
        f"mean of {len(loop.training.seeds)} seeds; over base: over that of {table['base']}. ‘real’ is trained in "
        "another order each round: what it moves by is noise. The last four columns: what the model before wrote.",
        rows_of("", table["rows"], ROUND).strip(),
        *(["## Figures", *drawn] if drawn else []),
        _guard(loop, lake, table["rounds"]),
        "## Cost and hardware",
        _cost(loop, lake, published, made, table["rounds"]),
        "## Once more",
        _commands(loop),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _commands(loop: Loop) -> str:
    dags = [*(f"corpus_{corpus}" for corpus in loop.corpora), f"loop_{loop.name}"]
    lines = ["make vllm", "make up"]
    lines += [f'make airflow ARGS="dags {what} {dag}"' for dag in dags for what in ("unpause -y", "trigger")]
    lines.append(f"python -m training rounds {loop.name} --results")
    return "\n".join(["```", *lines, "```", "", "Each Dag is triggered when the one before it has ended."])


def told(arm: Arm) -> str:
    """An arm in words."""
    share = {
        "replace": f"the newest model's text, {arm.real:.0%} real",
        "accumulate": "the real text and all that was ever written",
        "subsample": "a draw from the real text and all that was ever written, as large as the real text"
        + (f", at least {arm.real:.0%} real" if arm.real else ""),
    }[arm.policy]
    return share + (f"; sampled with {json.dumps(arm.sampling)}" if arm.sampling else "")


def _guard(loop: Loop, lake: Lake, rounds: int) -> str:
    """What the gates of the rounds said beyond 'passed', by round and gate the first sentence: the arms are alike."""
    lines = []
    for number in range(rounds + 1):
        try:
            gate = lake.latest(f"studies/{loop.studies[number]}/gate")
        except NotPublished:
            continue
        found = [v for v in gate.extra.get("guard", []) if v["outcome"] in ("failed", "warned")]
        for name in dict.fromkeys(verdict["gate"] for verdict in found):
            own = [verdict["sentence"] for verdict in found if verdict["gate"] == name]
            more = f" (and {len(own) - 1} more like it)" if len(own) > 1 else ""
            lines.append(f"- round {number}, {name}: {own[0]}{more}")
    return "\n".join(["## What the guard said", "", *lines, "", GUARD]) if lines else ""


def _cost(loop: Loop, lake: Lake, published: Published, made: Mapping, rounds: int) -> str:
    parents = [p for p in published.manifest["parents"] if "/runs/" in p["dataset"]]
    opened = [lake.open(parent["uri"], parent["digest"]) for parent in parents]
    runs = [json.loads(run.file("evaluation.json").read_text(encoding="utf-8")) for run in opened]
    tracked = [track.reports(loop.study(number))[-1:] for number in range(rounds + 1)]
    children = [child for found in tracked for report in found for child in track.children(report["run"])]
    whole = sum(report["seconds"] for found in tracked for report in found)
    facts = {
        **machines(runs, children),
        "Models trained": f"{len(runs)}, {duration(sum(run['seconds'] for run in runs))} of training together",
        "Tokens trained": short(sum(run["tokens"]["total"] for run in runs)),
        "Wall clock of the rounds": f"{duration(whole)} (of their newest runs; what was in the lake is not made again)"
        if all(tracked)
        else "not recorded for every round",
        "Finished": made["time"],
    }
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


def _or_dash(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
