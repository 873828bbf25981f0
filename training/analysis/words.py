"""What the comparison comes to in sentences, and its table for a terminal: no better than it is."""

from __future__ import annotations

import io
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence

SETS = {"iid": "held-out documents", "short": "short documents", "long": "long documents"}
TOLD = ("resolved", "beyond floor", "bracketed")
READ_OFF = ("resolved", "beyond floor")
"""Verdicts whose figure hangs on the law."""


def headline(table: Mapping) -> str:
    """The result in one sentence."""
    others = [row for row in table["mixes"] if row["verdict"] != "reference"]
    told = [row for row in others if row["verdict"] in TOLD]
    if not others:
        return f"Study {table['study']} has no mix to compare with real-only training."
    if told:
        best = max(told, key=_rank)
        held = best["reason"] if best["verdict"] in READ_OFF else ""
        said = _over(best, "the difference in loss") + (held and f"; to bear in mind: {held}")
        return f"Mix ‘{best['mix']}’ makes {best['real_tokens']:,} real tokens worth {_worth(best)}{said}."
    ran = [row for row in others if row["difference"] is not None]
    if not ran:
        return "Not resolved: no mix has a finite loss to compare with real-only training."
    best = min(ran, key=lambda row: row["difference"])
    known = [("margin", "seed noise"), ("document_margin", "the choice of documents")]
    margin = ", ".join(f"± {best[key]:.3f} from {what}" for key, what in known if best[key] is not None)
    margin = margin and f" ({margin})"
    return (
        "Data efficiency is not resolved for any mix: the lowest loss is that of "
        f"‘{best['mix']}’, {best['difference']:+.3f} nats from real-only{margin}."
    )


def aside(table: Mapping) -> str:
    """What the headline leaves out: the best of every other family, what was not resolved, and a cause they share."""
    others = [row for row in table["mixes"] if row["verdict"] != "reference"]
    told = [row for row in others if row["verdict"] in TOLD]
    best = max(told, key=_rank, default=None)
    families = {row["family"]: row for row in sorted(told, key=_rank)}  # of each the best: the table has them all
    sentences = [f"‘{row['mix']}’: {describe(row)}." for row in families.values() if row is not best]
    open_rows = [f"‘{row['mix']}’" for row in others if row not in told]
    if table["problem"]:
        sentences.append(f"Why: {table['problem']}.")
    if told and open_rows:
        sentences.append(f"Not resolved: {', '.join(open_rows)}.")
    return " ".join([*sentences, *gap_sentences(table["gaps"])])


def gap_sentences(gaps: Sequence[Mapping]) -> list[str]:
    """A line on each layout against simple along G, and one on all that met simple at a single G."""
    found = [said for said in map(gap_sentence, gaps) if said]
    alone = [gap for gap in gaps if _along_g(gap) and len(gap["points"]) == 1]
    if alone:
        named = [
            f"‘{gap['layout']}’ ({gap['points'][0]['gap']:+.4f} nats at G = {gap['points'][0]['x']:g})" for gap in alone
        ]
        found.append(f"At one G only, which does not tell whether a gap widens: {', '.join(named)}.")
    return found


def gap_sentence(gap: Mapping) -> str:
    """One line on a layout against simple; empty for other sets than 'iid' and for a single place."""
    if not _along_g(gap) or gap["slope"] is None:
        return ""
    words = {"yes": "widens with G", "narrows": "narrows with G", "not resolved": "is not shown to change with G"}
    first, last = gap["points"][0], gap["points"][-1]
    return (
        f"Loss of ‘{gap['against']}’ minus ‘{gap['layout']}’: {first['gap']:+.4f} nats at G = {first['x']:g}, "
        f"{last['gap']:+.4f} at G = {last['x']:g}; the gap {words[gap['widens']]}"
        f"{_unseen(gap) if gap['widens'] == 'not resolved' else _over(gap, 'this')}."
    )


def _unseen(gap: Mapping) -> str:
    """Of a slope that is not resolved: how large it might be."""
    if gap["slope_margin"] is None:
        return ", as one seed cannot tell"
    return f" (less than {gap['slope_margin']:.4f} nats per doubling could not have been seen)"


def _along_g(gap: Mapping) -> bool:
    return gap["set"] == "iid" and gap["axis"] == "generations"


def warnings(table: Mapping) -> list[str]:
    """A sentence for each place where loss rises with G and paired seeds resolve it."""
    return [
        f"Loss of ‘{rise['layout']}’ on {SETS.get(rise['set'], rise['set'])} rises from G = {rise['from']:g} "
        f"(‘{rise['first']}’) to G = {rise['to']:g} (‘{rise['second']}’): {rise['difference']:+.4f} "
        f"± {rise['margin']:.4f} nats over {rise['seeds']} paired seeds{_over(rise, 'this')}."
        for rise in table.get("rises", ())  # which older reports do not have
        if rise["resolved"]
    ]


def describe(row: Mapping) -> str:
    """A row's data efficiency as the table shows it."""
    match row["verdict"]:
        case "reference":
            return "1 (reference)"
        case "resolved":
            return f"{row['efficiency']:.2f}x ({_span(row)}){', extrapolated' if row['extrapolated'] else ''}"
        case "beyond floor":
            return f"at least {row['efficiency_low']:.2f}x, beyond the law’s floor"
        case "bracketed":
            return f"{bounds(row, 'x')}, without a law"
        case _:
            return "not resolved"


def caveats(row: Mapping) -> list[str]:
    """What a mix's data efficiency hangs on, or why there is none; with it wherever the figure is shown or kept."""
    if row["verdict"] == "reference":
        return []
    said = [row["reason"]] if row["reason"] else []
    if row["verdict"] == "resolved" and not row["familywise"]:
        said.append("does not stand when all mixes of the study are compared at once")
    if row["verdict"] in TOLD and row["over_documents"] is False:
        said.append(f"the difference in loss {over_documents(row)}")
    if row["verdict"] == "resolved" and row["extrapolated"] and row["efficiency_without_floor"] is not None:
        said.append(f"{row['efficiency_without_floor']:.2f}x under a law without a floor")
    if row["verdict"] in TOLD and row.get("efficiency_fresh"):  # which older reports do not have
        said.append(f"without the seed that the search chose by: {row['efficiency_fresh']}")
    return said + [f"{word}, unlike the reference" for word in row["differs"]]


def law_text(table: Mapping) -> str:
    """The reference law with what is to be held against it, or why there is none that could be read off."""
    law = table["law"]
    if law is None:
        return f"none: {table['problem']}"
    own = next((one["fit"]["problem"] for one in table["laws"] if one["in"] == "D"), "")
    formula = f"{law['A']:.4g} / D^{law['B']:.3f} + {law['C']:.3f}"
    sizes = f"over {len(table['references'])} sizes of ‘{table['reference']}’"
    return f"{formula} {sizes}" + (own and f"; to bear in mind: {own}")


def bounds(row: Mapping, times: str) -> str:
    """What is said of an efficiency of which only the ends are known: those the real-only runs set, without a law."""
    low, high = row["efficiency_low"], row["efficiency_high"]
    if low is None:
        return f"less than {high:.2f}{times}"
    return f"more than {low:.2f}{times}" if high is None else f"{low:.2f} to {high:.2f}{times}"


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
    grid.add_column("data efficiency\n(95% interval)", min_width=19)
    for row in table["mixes"]:
        passes = f"{row['real_passes']:.1f}" + (f"/{row['synthetic_passes']:.1f}" if row["synthetic_passes"] else "")
        grid.add_row(
            row["mix"],
            count(row["real_tokens"]),
            count(row["synthetic_tokens"]),
            passes,
            f"{row['fraction']:.2f}",
            *(loss_text(row, name, digits=3, spread=not narrow) for name in ("iid", table["long_context"])),
            describe(row),
        )
    buffer = io.StringIO()
    console = Console(file=buffer, width=width, color_system=None)
    console.print(grid)
    console.print(table["headline"], markup=False)
    reasons = defaultdict(list)
    for row in table["mixes"]:
        for said in caveats(row):
            reasons[row["verdict"], said].append(row["mix"])
    for (verdict, said), names in reasons.items():
        console.print(f"{verdict} ({', '.join(names)}): {said}", markup=False)
    for sentence in gap_sentences(table["gaps"]):
        console.print(sentence, markup=False)
    for sentence in warnings(table):
        console.print(f"Warning: {sentence}", markup=False)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())


def loss_text(row: Mapping, name: str, *, digits: int = 4, spread: bool = True) -> str:
    mean, deviation = row.get(f"loss_{name}"), row.get(f"spread_{name}")
    if mean is None:
        return "none"
    return f"{mean:.{digits}f}" + (f" ± {deviation:.{digits}f}" if spread and deviation is not None else "")


def margins_text(value: float | None, seeds: float | None, documents: float | None) -> str:
    """The difference ± half width over seeds / half width over held-out documents; a dash for what is not known."""
    if value is None:
        return "–"
    return f"{value:+.4f} ± {' / '.join('–' if m is None else f'{m:.4f}' for m in (seeds, documents))}"


def lengths_text(row: Mapping, unit: str) -> str:
    """How many there are of a unit of a stream, and their lengths in tokens."""
    mean, median, ninth, longest = (f"{row[f'{unit}_{of}']:,.0f}" for of in ("mean", "median", "p90", "max"))
    return f"{row[unit]:,}: {mean}, {median}, {ninth}, {longest}"


def tokens_seen(bucket: Mapping) -> str:
    """A bucket of context tokens: 0, 1–2, 257–512."""
    first, last = bucket["first"], bucket["last"]
    return f"{first:g}" if first == last else f"{first:g}–{last:g}"


def seeds_span(row: Mapping) -> str:
    """The lowest and the highest perplexity of the arm's seeds; empty for a single one."""
    found = row["perplexities"]
    return f"{found[0]:,.1f} to {found[-1]:,.1f}" if len(found) > 1 else ""


def over_documents(claim: Mapping) -> str:
    """Whether what seeds show of a mix's loss or a gap also stands over held-out documents; empty if not known."""
    words = {True: "also holds over held-out documents", False: "is not shown over held-out documents", None: ""}
    return words[claim["over_documents"]]


def short(count: float) -> str:
    """1234 as 1.23k, 56000000 as 56M."""
    for limit, suffix in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= limit:
            return f"{count / limit:.3g}{suffix}"
    return f"{count:.0f}"


def _rank(row: Mapping) -> tuple[float, float]:
    return row["efficiency"] or row["efficiency_low"] or 0.0, -row["loss_iid"]


def _over(claim: Mapping, what: str) -> str:
    """The same at the end of a sentence."""
    said = over_documents(claim)
    return said and f"; {what} {said}"


def _span(row: Mapping) -> str:
    low, high = row["efficiency_low"], row["efficiency_high"]
    if low is None:
        return f"up to {high:.2f}"
    return f"{low:.2f} or more" if high is None else f"{low:.2f} to {high:.2f}"


def _worth(row: Mapping) -> str:
    if row["verdict"] == "beyond floor":
        return f"at least {row['efficiency_low']:.2f} times as many"
    if row["verdict"] == "bracketed":
        return f"{bounds(row, ' times')} as many, by real-only runs alone and without a law"
    only = "only " if row["efficiency"] < 1 else ""
    return f"{only}{row['efficiency']:.2f} times as many ({_span(row)})"
