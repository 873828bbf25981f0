"""The collapse guard's page: its verdicts on the newest version of a study, what was waived, and the quarantine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape

from palimpsest.guard import quarantine
from palimpsest.lake import Lake, NotPublished, Published
from palimpsest_airflow.ui.html import document, fold, table

KIND = {"failed": "bad", "warned": "wait", "not_judged": "quiet", "passed": "good"}
HEADER = ("gate", "verdict", "what was found and asked")


def guard_page(lake: Lake, study: str) -> str:
    newest = newest_gate(lake, study)
    if newest is None:
        return document("Guard", f"<h1>Guard of {escape(study)}</h1><p>Task gate has not judged this study yet.</p>")
    verdicts = newest.extra.get("guard", [])
    end = "The study is stopped here" if newest.dataset.endswith("_failed") else "The study may train"
    bad, good = ([v for v in verdicts if (v["outcome"] == "passed") == passed] for passed in (False, True))
    body = [
        f"<h1>Collapse guard: {escape(study)}</h1>",
        f"<p class=quiet>{summary(verdicts)}. {end}.</p>",
        table(HEADER, map(_row, bad)),
    ]
    if good:
        body.append(fold(f"{len(good)} passed", table(HEADER, map(_row, good))))
    body += ["<h2>Waivers</h2>", _waivers(lake, study), "<h2>Generators in quarantine</h2>", _quarantine(lake)]
    return document(f"Guard: {study}", "\n".join(body))


def newest_gate(lake: Lake, study: str) -> Published | None:
    """The gate's last word: let through, or stopped."""
    told = {f"studies/{study}/{name}": lake.pointed_at(f"studies/{study}/{name}") for name in ("gate", "gate_failed")}
    last = max((name for name, at in told.items() if at), key=told.get, default=None)
    try:
        return lake.latest(last) if last else None
    except NotPublished:  # its folder was deleted, as one does with what is damaged
        return None


def summary(verdicts: Sequence[dict]) -> str:
    """'2 warned, 40 passed', the worst first."""
    counts = Counter(verdict["outcome"] for verdict in verdicts)
    return ", ".join(f"{counts[o]} {o.replace('_', ' ')}" for o in KIND if counts[o]) or "nothing was judged"


def _row(verdict: dict) -> tuple[str, ...]:
    outcome = verdict["outcome"]
    said = f"<span class={KIND[outcome]}>{outcome.replace('_', ' ')}</span>"
    response = verdict["details"].get("response")
    todo = f"<br><span class=quiet>what to do: {escape(response)}</span>" if response else ""
    return f"<code>{escape(verdict['gate'])}</code>", said, escape(verdict["sentence"]) + todo


def _waivers(lake: Lake, study: str) -> str:
    given = lake.versions(f"studies/{study}/waivers")
    if not given:
        return "<p class=quiet>Nobody has waived anything for this study under Required Actions.</p>"
    return table(
        ("who", "when", "until", "why", "what"),
        (
            (
                escape(w.extra["by"]),
                escape(w.extra["at"]),
                escape(w.extra["until"]),
                escape(w.extra["why"]),
                "<br>".join(escape(f"{c['gate']}: {c['sentence']}") for c in w.extra["covers"]),
            )
            for w in given
        ),
    )


def _quarantine(lake: Lake) -> str:
    """Of all studies: a generator that one of them found wanting is another's, too."""
    found = quarantine.standing(lake)
    events = [event for event in quarantine.history(lake) if event["event"] != "put"]
    told = [
        f"{escape(str(event['at'])[:10])}: {escape(event['generator'])} {_let(event)} by {escape(event['by'])}"
        for event in events
    ]
    past = fold(f"{len(told)} times let through", "<br>".join(told)) if told else ""
    if not found:
        return f"<p class=quiet>None.</p>{past}"
    rows = ((f"<code>{escape(e.generator)}</code>", escape(e.since[:10]), escape(e.sentence)) for e in found.values())
    return table(("generator", "since", "why"), rows) + past


def _let(event: dict) -> str:
    if event["event"] == "approved":
        return f"approved for a run of study {escape(event['study'])}"
    return f"lifted ({escape(event['why'])})"
