"""What aligned layouts kept, and whether that lies nearer to real text: verdicts and figures of `palimpsest.align`."""

from __future__ import annotations

import duckdb
import pyarrow.parquet as pq

from expectations.guard.found import Found
from palimpsest.config import Study
from palimpsest.guard.diversity import Null
from palimpsest.guard.thresholds import Thresholds
from palimpsest.guard.verdict import Verdict, bounded, not_judged, percent
from palimpsest.lake import Published

GATE = "ALIGN"
SAID = {
    "auc": "a classifier tells them from real text with an AUC of {after:.2f} ({before:.2f} before)",
    "mmd": "they lie {after:.3g} times as far from it as its halves from each other ({before:.3g} times before)",
    "entropy": "they have {after:.2f} bits per word ({before:.2f} before, real text {real:.2f})",
    "rare_recall": "they hold {after:.0%} of the rare words of as much real text ({before:.0%} before)",
}
"""What is said of each measure; the distance in multiples of that between halves of the real text."""


def judge_aligned(connection: duckdb.DuckDBPyConnection, study: Study, weights: Published | None, found: Found) -> None:
    """Adds the verdicts ALIGN of aligned layouts, and their figures as ``<strategy>/<layout>``; none stops anything."""
    if weights is None:
        return
    effects = pq.read_table(weights.file("effects.parquet")).to_pylist()
    for layout, told in weights.extra["layouts"].items():
        found.verdicts += _counted(study.guard.thresholds, layout, told)
        for strategy in study.layouts[layout].strategies:
            rows = {r["measure"]: r for r in effects if (r["layout"], r["strategy"]) == (layout, strategy)}
            why = told["unmeasured"][strategy]
            found.verdicts.append(_moved(study.guard.thresholds, layout, strategy, rows, why))
            query = "select min(model) from generations where strategy = ?"
            model = connection.execute(query, [strategy]).fetchall()[0][0]
            for name, row in rows.items():
                null = None if row["real_mean"] is None else Null(row["real_mean"], row["real_sd"])
                for when in ("before", "after"):
                    found.measured(f"{strategy}/{layout}", model, f"align_{name}_{when}", row[when], null)
            own = told["generations"]
            if own["texts"]:
                found.measured(f"{strategy}/{layout}", model, "align_kept_share", own["kept"] / own["texts"])
                found.measured(f"{strategy}/{layout}", model, "align_effective_share", own["effective"] / own["texts"])


def _counted(limits: Thresholds, layout: str, told: dict) -> list[Verdict]:
    """How much is kept, and how much that counts, of generated texts and of documents of unknown origin."""
    kinds = {"generations": "generated texts", "unknown_documents": "documents of unknown origin"}
    verdicts = []
    for kind, what in kinds.items():
        own, least = told[kind], limits.aligned_effective_min
        if not own["texts"]:
            continue
        share = own["effective"] / own["texts"]
        how = f"clipped at {told['clip']:g} times the mean" if "clip" in told else f"chosen {told['rule']}"
        said = (
            f"layout {layout} keeps {own['kept']:,} of {own['texts']:,} {what}, {how}; its weights tell as much as "
            f"{percent(share)} of them would (effective sample size {own['effective']:,.0f}); at least "
            f"{percent(least)} is asked"
        )
        about = {"severity": "warning", "subject": f"layout {layout}", "details": {**own, "layout": layout}}
        verdicts.append(bounded(GATE, f"effective_{kind}", share, said, at_least=least, **about))
    return verdicts


def _moved(limits: Thresholds, layout: str, strategy: str, rows: dict[str, dict], why: str) -> Verdict:
    """Whether what is kept lies nearer to real text than as many texts at random."""
    subject = f"texts of strategy {strategy} that layout {layout} keeps"
    about = {"severity": "warning", "subject": subject}
    if not rows:
        return not_judged(GATE, "auc_moved", f"whether {subject} are nearer to real text is not known: {why}", **about)
    auc = rows["auc"]
    deviations = (auc["after"] - auc["before"]) / max(auc["real_sd"], 1e-9)
    parts = []
    for name, text in SAID.items():
        if name in rows:
            unit = max(rows[name]["real_mean"], 1e-12) if name == "mmd" else 1.0
            told = {when: rows[name][when] / unit for when in ("before", "after")}
            parts.append(text.format(**told, real=rows[name]["real_mean"] or 0.0))
    said = (
        f"{auc['texts']:,} {subject}, beside as many at random: {'; '.join(parts)}; the AUC may be at most "
        f"{limits.aligned_farther_max:g} deviations of real text ({auc['real_sd']:.2g}) higher than before"
    )
    details = {
        name: {key: row[key] for key in ("before", "after", "real_mean", "real_sd")} for name, row in rows.items()
    }
    details |= {"layout": layout, "strategy": strategy}
    return bounded(GATE, "auc_moved", deviations, said, at_most=limits.aligned_farther_max, details=details, **about)
