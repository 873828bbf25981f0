"""Sections of a report as Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from training.analysis import edges, resolution
from training.analysis.words import (
    TOLD,
    caveats,
    describe,
    gap_sentences,
    loss_text,
    margins_text,
    over_documents,
    short,
    tokens_seen,
    warnings,
)

HOLDS = {True: "holds", False: "not shown", None: "–"}
"""Does the interval over held-out documents exclude 0?"""
MARGINS = (
    "Difference ± half width of the 95% interval over seeds / over held-out documents. The first is for other seeds on "
    "these documents, the second for other documents of the same kind under these models; each by itself."
)
ABLATION = {
    "what": lambda r: r["what"],
    "from → to": lambda r: f"{r['from']} → {r['to']}",
    "mixes": lambda r: f"{r['first']} → {r['second']}",
    "on": lambda r: r["set"],
    "change of loss": lambda r: margins_text(r["difference"], r["margin"], r["document_margin"]),
    "seeds": lambda r: r["seeds"],
}
RESOLUTION = {
    "pair": lambda r: f"{r['first']} against {r['second']}",
    "on": lambda r: r["set"],
    "seeds": lambda r: r["seeds"],
    "measured": lambda r: f"{r['difference']:+.4f}",
    "what the seeds could see": resolution.sentence,
    "seen in 4 studies of 5": lambda r: or_dash(r["detectable"], ".4f"),
    "seen": lambda r: "yes" if r["seen"] else "no",
}
LAW = {
    "in": lambda r: r["in"],
    "of": lambda r: r["of"],
    "on": lambda r: r["set"],
    "A": lambda r: f"{r['fit']['law']['A']:.4g}",
    "B": lambda r: _between(r["fit"], "B"),
    "C": lambda r: _between(r["fit"], "C"),
    "points": lambda r: r["fit"]["points"],
    "R²": lambda r: "–" if r["fit"]["r2"] is None else f"{r['fit']['r2']:.3f}",
    "resampled": lambda r: r["fit"]["resampled"] or "–",
    "worst left out": lambda r: f"{max(map(abs, r['fit']['left_out'])):.4f}" if r["fit"]["left_out"] else "–",
    "to bear in mind": lambda r: r["fit"]["problem"],
}
LAWS = (
    "## Laws\n\nIntervals by bootstrap, of the law of these seeds: what a seed does to all points alike moves C, and "
    "is in no interval, so C for other seeds lies wider."
)
TASK = {
    "mix": lambda r: r["mix"],
    "task": lambda r: r["task"],
    "questions": lambda r: r["questions"],
    "chance": lambda r: f"{r['chance']:.3f}",
    "acc ± error": lambda r: _with_error(r["acc"], r["acc_stderr"]),
    "to reference": lambda r: _with_error(r["acc_difference"], r["acc_difference_stderr"], "+"),
    "acc_norm ± error": lambda r: _with_error(r["acc_norm"], r["acc_norm_stderr"]),
}
CERTIFICATE = {
    "mix": lambda r: r[0],
    "best point": lambda r: ", ".join(f"{k} {v:g}" for k, v in (r[1]["centre"] or {}).items()),
    "loss": lambda r: "–" if r[1]["loss"] is None else f"{r[1]['loss']:.4f}",
    "nearest neighbour": lambda r: "–" if r[1]["margin"] is None else f"{r[1]['margin']:+.4f}",
    "runs": lambda r: r[1]["runs"],
    "ended by": lambda r: (
        r[1]["ended"] + "".join(f", at the {end} end of {axis}" for axis, end in r[1]["edges"].items())
    ),
}


def mixes(table: Mapping) -> str:
    columns = {"mix": lambda r: r["mix"], "G": lambda r: r["generations"] or "–"}
    columns["real text seen, times"] = lambda r: "–" if r["real_exposures"] is None else f"{r['real_exposures']:.1f}"
    columns |= {
        "tokens trained": lambda r: short(r["trained_tokens"]),
        "training FLOPs": lambda r: "–" if r["flops"] is None else short(r["flops"]),
    }
    columns |= {f"loss, {s}": (lambda r, s=s: loss_text(r, s)) for s in table["sets"]}
    columns["data efficiency"] = describe
    return _table(table["mixes"], columns)


def references(table: Mapping) -> str:
    """The real-only recipe at every size: what the law, or the bounds, rest on."""
    columns = {
        "real tokens": lambda r: f"{r['tokens']:,}",
        "share of the documents": lambda r: f"{r['share']:.4g}",
        "loss, iid": lambda r: f"{fmean(r['losses'].values()):.4f}",
        "by seed": lambda r: ", ".join(f"{loss:.4f}" for _, loss in sorted(r["losses"].items())),
    }
    return rows_of("## Real text alone, by size", table["references"], columns)


def differences(table: Mapping) -> str:
    """Loss minus the reference's, with the half widths over seeds and over documents."""
    rows = [row for row in table["mixes"] if row["verdict"] != "reference"]
    columns = {"mix": lambda r: r["mix"]} | {
        f"{s}{_documents(table, s)}": (
            lambda r, s=s: margins_text(r[f"difference_{s}"], r[f"margin_{s}"], r[f"document_margin_{s}"])
        )
        for s in table["sets"]
    }
    long = table.get("long_context", "long")
    columns[f"long-context gain ({long} beyond iid)"] = lambda r: margins_text(
        r["long_context_gain"], r["long_context_margin"], r["long_context_document_margin"]
    )
    columns["over documents, iid"] = lambda r: HOLDS[r["over_documents"]]
    return rows_of(f"## Against the reference\n\n{MARGINS}", rows, columns)


def reservations(table: Mapping) -> str:
    """Why mixes are not resolved, or what their figures hang on; those of which the same is to be said together."""
    found: dict[str, list[str]] = {}
    for row in table["mixes"]:
        if row["verdict"] == "reference":
            continue
        said = caveats(row)
        if row["verdict"] in TOLD and row["over_documents"]:
            said.append(f"the difference in loss {over_documents(row)}")
        if said:
            found.setdefault("; ".join(said), []).append(row["mix"])
    return "\n".join(f"- {', '.join(names)}: {said}." for said, names in found.items())


def gaps(table: Mapping) -> str:
    found = [(gap, point) for gap in table["gaps"] for point in gap["points"]]
    if not found:
        return ""
    columns = {
        "layout": lambda r: f"{r[0]['layout']} against {r[0]['against']}",
        "at": lambda r: f"{r[0]['axis'].replace('_', ' ')} {r[1]['x']:g}",
        "on": lambda r: r[0]["set"],
        "simple minus megadoc": lambda r: margins_text(r[1]["gap"], r[1]["margin"], r[1]["document_margin"]),
        "by seed": lambda r: ", ".join(f"{value:+.4f}" for value in r[1]["by_seed"].values()),
        "mean": lambda r: margins_text(r[0]["mean"], r[0]["mean_margin"], r[0]["mean_document_margin"]),
        "per doubling": lambda r: margins_text(r[0]["slope"], r[0]["slope_margin"], r[0]["slope_document_margin"]),
        "widens": lambda r: r[0]["widens"] or "–",
        "over documents": lambda r: HOLDS[r[0]["over_documents"]],
    }
    told = " ".join(gap_sentences(table["gaps"]))
    at_end = edges.sentence(table, (point[key] for _, point in found for key in ("mix", "against")))
    return "\n\n".join(filter(None, ["## Together or apart", told, at_end, _table(found, columns)]))


def ablations(table: Mapping) -> str:
    """Pairs of mixes that differ in one thing."""
    at_end = edges.sentence(table, (pair[key] for pair in table["ablations"] for key in ("first", "second")))
    title = "\n\n".join(filter(None, ["## One thing changed", at_end]))
    return rows_of(title, table["ablations"], ABLATION)


def rises(table: Mapping) -> str:
    """Where loss does not fall with more generations, and whether paired seeds resolve it."""
    columns = {
        "layout": lambda r: r["layout"],
        "on": lambda r: r["set"],
        "G": lambda r: f"{r['from']:g} → {r['to']:g}",
        "mixes": lambda r: f"{r['first']} → {r['second']}",
        "rise of loss": lambda r: margins_text(r["difference"], r["margin"], r["document_margin"]),
        "seeds": lambda r: r["seeds"],
        "resolved": lambda r: "yes" if r["resolved"] else "no",
        "over documents": lambda r: HOLDS[r["over_documents"]] if r["resolved"] else "–",
    }
    told = [f"**Warning.** {sentence}" for sentence in warnings(table)]
    return rows_of("\n\n".join(["## Where loss rises with G", *told]), table.get("rises", ()), columns)


def seen(table: Mapping) -> str:
    """What the paired seeds of each compared pair could have told apart."""
    said = (
        "Loss of the first mix minus that of the second over paired seeds. Below the half width of its 95% interval a "
        "difference is not seen, and “not shown” means no more than that; a true difference as large as in “seen in 4 "
        "studies of 5” is seen with a power of 80%, by the scatter of this very pair. More seeds lower both."
    )
    return rows_of(f"## What the seeds could have seen\n\n{said}", resolution.shown(table), RESOLUTION)


def contexts(table: Mapping) -> str:
    """Loss and gap by the number of context tokens, a column per bucket."""
    if not table["contexts"]:
        return ""
    names = {(b["first"], b["last"]): tokens_seen(b) for row in table["contexts"] for b in row["buckets"]}

    def by_bucket(text) -> dict:
        def cell(row: Mapping, key: tuple) -> str:
            return next((text(b) for b in row["buckets"] if (b["first"], b["last"]) == key), "–")

        return {names[key]: (lambda r, key=key: cell(r, key)) for key in sorted(names)}

    losses = {"mix": lambda r: r["mix"], "on": lambda r: r["set"]} | by_bucket(
        lambda b: f"{b['loss']:.4f}" + ("" if b["spread"] is None else f" ± {b['spread']:.4f}")
    )
    gaps = {"mix": lambda r: f"{r['mix']} against {r['against']}", "on": lambda r: r["set"]}
    gaps |= by_bucket(lambda b: margins_text(b["gap"], b["margin"], b["document_margin"]))
    gaps["per doubling"] = lambda r: margins_text(r["slope"], r["slope_margin"], r["slope_document_margin"])
    said = (
        "Loss by how many tokens of its document a token sees, in overlapping windows, every token scored once; mean "
        "over seeds ± their standard deviation."
    )
    about = (
        "Loss of the simple layout minus that of the megadoc in each bucket, above 0 the megadoc is better, ± over "
        "seeds / over documents; per doubling: what twice the context adds to the gap, by least "
        "squares over the tokens (0 is left out)."
    )
    parts = [f"## Loss by context\n\n{said}", _table(table["contexts"], losses)]
    return "\n\n".join([*parts, *([about, _table(table["context_gaps"], gaps)] if table["context_gaps"] else [])])


def ensembles(table: Mapping) -> str:
    rows = [row for own in table["ensembles"].values() for row in own]
    columns = {key: (lambda r, key=key: r[key]) for key in ("mix", "members", "set", "choices")}
    columns["loss"] = lambda r: f"{r['loss']:.4f}"
    columns["lowest to highest"] = lambda r: "–" if r["choices"] == 1 else f"{r['lowest']:.4f} to {r['highest']:.4f}"
    said = "Loss of averaged probabilities, mean over every choice of so many of the mix's seeds."
    return rows_of(f"## Ensembles\n\n{said}", rows, columns)


def rows_of(title: str, rows: Sequence, columns: Mapping) -> str:
    return f"{title}\n\n{_table(rows, columns)}" if rows else ""


def _documents(table: Mapping, name: str) -> str:
    found = table["documents"].get(name)
    return f", {found['documents']:,} documents" if found else ""


def _table(rows: Sequence, columns: Mapping) -> str:
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    lines += [" | ".join(str(value(row)).replace("|", "\\|") for value in columns.values()) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _between(fit: Mapping, name: str) -> str:
    value = f"{fit['law'][name]:.3f}"
    return value + (f" ({fit['low'][name]:.3f} to {fit['high'][name]:.3f})" if fit["low"] else "")


def or_dash(value: float | None, form: str) -> str:
    return "–" if value is None else f"{value:{form}}"


def _with_error(value: float | None, error: float | None, sign: str = "") -> str:
    if value is None:
        return "–"
    return f"{value:{sign}.3f}" + (f" ± {error:.3f}" if error is not None else "")
