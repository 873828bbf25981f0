"""The comparison as data: one row per mix with its tokens, losses and data efficiency, and the sentence it comes to.

`compare_runs` reads the mix manifest and the runs' evaluations; `render_table` prints its result in a terminal.
"""

from __future__ import annotations

import io
import json
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean, stdev

import pyarrow as pa
import pyarrow.parquet as pq

from palimpsest.config import Study
from palimpsest.lake import LakeError, Published
from training import scaling

SETS = ("iid", "short", "long")
SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("mix", "layout", "strategy", "verdict", "reason")]
    + [(name, pa.int64()) for name in ("generations", "seeds", "real_tokens", "synthetic_tokens", "trained_tokens")]
    + [(name, pa.float64()) for name in ("fraction", "real_passes", "synthetic_passes", "seconds")]
    + [(f"{kind}_{name}", pa.float64()) for name in SETS for kind in ("loss", "spread")]
    + [(name, pa.float64()) for name in ("difference", "margin", "efficiency", "efficiency_low", "efficiency_high")]
    + [("extrapolated", pa.bool_())]
)


def compare_runs(study: Study, mixes: Published, runs: Sequence[Published]) -> dict:
    """Everything the report says in numbers: ``mixes``, ``references``, ``runs``, ``law`` and ``headline``.

    D of a real-only point is the tokens of its real stream; the mixes' data efficiency is D' / D of the whole one.
    """
    streams = defaultdict(list)
    for row in pq.read_table(mixes.file("mixes.parquet")).to_pylist():
        streams[row["recipe"]].append(row)
    evaluations = sorted((_evaluation(run, streams) for run in runs), key=lambda e: (e["recipe"], e["seed"]))
    by_recipe = defaultdict(dict)
    for evaluation in evaluations:
        by_recipe[evaluation["recipe"]][evaluation["seed"]] = evaluation

    references = [
        {"recipe": recipe, "share": rows[0]["share"], "tokens": _stream(rows, False)["stream_tokens"], "losses": losses}
        for recipe, rows in streams.items()
        if recipe == study.reference or rows[0]["role"] == "reference"
        for losses in [_losses(by_recipe[recipe], "iid")]
        if losses
    ]
    references.sort(key=lambda point: point["tokens"])
    names = [name for name in study.mixes if name in streams]
    compared = scaling.compare(
        [scaling.Reference(point["tokens"], point["losses"]) for point in references],
        {name: _losses(by_recipe[name], "iid") for name in names if name != study.reference},
    )
    whole = scaling.Efficiency("reference", "the yardstick", 1.0, difference=0.0, seeds=len(by_recipe[study.reference]))
    table = {
        "study": study.name,
        "reference": study.reference,
        "mixes": [
            _row(study, name, streams[name], by_recipe[name], {study.reference: whole, **compared.mixes}[name])
            for name in names
        ],
        "references": references,
        "law": asdict(compared.law) if compared.law else None,
        "problem": compared.problem,
        "noise": compared.noise,
        "freedom": compared.freedom,
        "runs": evaluations,
    }
    return {**table, "headline": headline(table), "aside": aside(table)}


def headline(table: Mapping) -> str:
    """The result in one sentence, no better than it is."""
    others = [row for row in table["mixes"] if row["verdict"] != "reference"]
    told = [row for row in others if row["verdict"] in ("resolved", "beyond floor")]
    if not others:
        return f"Study {table['study']} has no mix to compare with real-only training."
    if told:
        best = max(told, key=lambda row: row["efficiency"] or row["efficiency_low"])
        return f"Mix ‘{best['mix']}’ makes {best['real_tokens']:,} real tokens worth {_worth(best)}."
    ran = [row for row in others if row["difference"] is not None]
    if not ran:
        return "Not resolved: no mix has a finite loss to compare with real-only training."
    best = min(ran, key=lambda row: row["difference"])
    margin = "" if best["margin"] is None else f" (± {best['margin']:.3f} from seed noise)"
    return (
        "Data efficiency is not resolved for any mix: the lowest loss is that of "
        f"‘{best['mix']}’, {best['difference']:+.3f} nats from real-only{margin}."
    )


def aside(table: Mapping) -> str:
    """What the headline leaves out: the other mixes that were resolved, those that were not, and a cause they share."""
    others = [row for row in table["mixes"] if row["verdict"] != "reference"]
    told = [row for row in others if row["verdict"] in ("resolved", "beyond floor")]
    best = max(told, key=lambda row: row["efficiency"] or row["efficiency_low"], default=None)
    sentences = [f"‘{row['mix']}’: {describe(row)}." for row in told if row is not best]
    open_rows = [f"‘{row['mix']}’" for row in others if row not in told]
    if table["problem"]:
        sentences.append(f"Why: {table['problem']}.")
    elif told and open_rows:
        sentences.append(f"Not resolved: {', '.join(open_rows)}.")
    return " ".join(sentences)


def describe(row: Mapping) -> str:
    """A row's data efficiency as the table shows it."""
    match row["verdict"]:
        case "reference":
            return "1 (reference)"
        case "resolved":
            return f"{row['efficiency']:.2f}x ({_span(row)})"
        case "beyond floor":
            return f"at least {row['efficiency_low']:.2f}x"
        case _:
            return "not resolved"


def render_table(table: Mapping, width: int | None = None) -> str:
    """The comparison for a terminal (as wide as this one unless told): one line per mix, reservations below."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    width = width or min(max(shutil.get_terminal_size((120, 24)).columns, 80), 132)
    narrow = width < 112
    count = short if narrow else "{:,}".format
    grid = Table(title=f"Study {table['study']}", title_justify="left", box=box.SIMPLE_HEAD)
    grid.padding = (0, 0) if narrow else (0, 1)
    grid.add_column("mix", overflow="fold", min_width=8)
    wide = ("real\ntokens", "synthetic\ntokens", "epochs\nreal/synth", "f", "validation\nloss", "long-context\nloss")
    for name in ("real\ntokens", "synth.\ntokens", "epochs", "f", "valid.\nloss", "long\nloss") if narrow else wide:
        grid.add_column(name, justify="right", no_wrap=True)
    grid.add_column("data efficiency\n(95% interval)", no_wrap=True)
    for row in table["mixes"]:
        passes = f"{row['real_passes']:.1f}" + (f"/{row['synthetic_passes']:.1f}" if row["synthetic_passes"] else "")
        grid.add_row(
            row["mix"],
            count(row["real_tokens"]),
            count(row["synthetic_tokens"]),
            passes,
            f"{row['fraction']:.2f}",
            *(loss_text(row, name, digits=3, spread=not narrow) for name in ("iid", "long")),
            describe(row),
        )
    buffer = io.StringIO()
    console = Console(file=buffer, width=width, color_system=None)
    console.print(grid)
    console.print(table["headline"], markup=False)
    reasons = defaultdict(list)
    for row in table["mixes"]:
        if row["verdict"] in ("not resolved", "beyond floor"):
            reasons[f"{row['verdict']} ({{}}): {row['reason']}"].append(row["mix"])
        elif row["extrapolated"]:
            reasons["extrapolated beyond the real-only runs' tokens: {}"].append(row["mix"])
    for reason, names in reasons.items():
        console.print(reason.format(", ".join(names)), markup=False)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())


def loss_text(row: Mapping, name: str, *, digits: int = 4, spread: bool = True) -> str:
    mean, deviation = row[f"loss_{name}"], row[f"spread_{name}"]
    if mean is None:
        return "none"
    return f"{mean:.{digits}f}" + (f" ± {deviation:.{digits}f}" if spread and deviation is not None else "")


def short(tokens: float) -> str:
    """1234 as 1.23k, 56000000 as 56M."""
    for limit, suffix in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if tokens >= limit:
            return f"{tokens / limit:.3g}{suffix}"
    return f"{tokens:.0f}"


def _evaluation(run: Published, streams: Mapping[str, list]) -> dict:
    evaluation = json.loads(run.file("evaluation.json").read_text(encoding="utf-8"))
    if evaluation["recipe"] not in streams:
        raise LakeError(
            f"{run.uri}: recipe '{evaluation['recipe']}' is not in these mixes ({', '.join(sorted(streams))}); "
            "run the study's trainings again for the mixes as they are now"
        )
    return evaluation


def _losses(runs: Mapping[int, Mapping], name: str) -> dict[int, float]:
    return {seed: run["losses"][name] for seed, run in runs.items() if run["losses"].get(name) is not None}


def _stream(rows: Sequence[Mapping], synthetic: bool) -> Mapping | None:
    return next((row for row in rows if row["is_synthetic"] == synthetic), None)


def _row(study: Study, name: str, rows: list, runs: Mapping[int, Mapping], found: scaling.Efficiency) -> dict:
    real, synthetic = _stream(rows, False), _stream(rows, True)
    layout = study.layouts[study.mixes[name].layout]
    strategy = study.strategies.get(layout.strategy)
    row = {
        "mix": name,
        "layout": layout.kind,
        "strategy": layout.strategy,
        "generations": (layout.generations or strategy.generations) if strategy else 0,
        "seeds": len(runs),
        "fraction": sum(r["fraction"] for r in rows if r["is_synthetic"]),
        "real_tokens": real["stream_tokens"],
        "synthetic_tokens": synthetic["stream_synthetic_tokens"] if synthetic else 0,
        "trained_tokens": sum(r["trained_tokens"] for r in rows),
        "real_passes": real["passes"],
        "synthetic_passes": synthetic["passes"] if synthetic else 0.0,
        "seconds": fmean(run["seconds"] for run in runs.values()) if runs else None,
    }
    for kind in SETS:
        losses = list(_losses(runs, kind).values())
        row[f"loss_{kind}"] = fmean(losses) if losses else None
        row[f"spread_{kind}"] = stdev(losses) if len(losses) > 1 else None
    efficiency = asdict(found)
    return row | {
        **{key: efficiency[key] for key in ("verdict", "reason", "difference", "margin", "extrapolated")},
        "efficiency": found.value,
        "efficiency_low": found.low,
        "efficiency_high": found.high,
    }


def _span(row: Mapping) -> str:
    low, high = row["efficiency_low"], row["efficiency_high"]
    if low is None:
        return f"up to {high:.2f}"
    return f"{low:.2f} or more" if high is None else f"{low:.2f} to {high:.2f}"


def _worth(row: Mapping) -> str:
    if row["verdict"] == "beyond floor":
        return f"at least {row['efficiency_low']:.2f} times as many"
    only = "only " if row["efficiency"] < 1 else ""
    return f"{only}{row['efficiency']:.2f} times as many ({_span(row)})"
