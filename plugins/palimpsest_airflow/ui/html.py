"""Tables, figures and the frame of the plugin's own pages: one stylesheet, light and dark, no script."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent);
--faint: color-mix(in srgb, currentColor 7%, transparent); --good: light-dark(#1a7f4b, #4cc38a);
--bad: light-dark(#b3261e, #ff8a80); --wait: light-dark(#9a6700, #e3b341); }
body { background: Canvas; color: CanvasText; font: 15px/1.55 system-ui, sans-serif;
margin: 2.5rem auto; max-width: 60rem; padding: 0 1.5rem; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p { margin: .2rem 0 1rem; } .quiet { opacity: .65; }
table { border-collapse: collapse; width: 100%; } td, th { padding: .45rem .8rem .45rem 0; text-align: left;
vertical-align: top; border-bottom: 1px solid var(--line); }
th { font-weight: 600; font-size: .85rem; opacity: .7; } td.number { font-variant-numeric: tabular-nums; }
a { color: light-dark(#0b5cad, #7cb8f7); text-decoration: none; } a:hover { text-decoration: underline; }
code { font-size: .9em; }
body.wide { max-width: 76rem; }
.figures td, .figures th { white-space: nowrap; } .scroll { overflow-x: auto; }
.figures td.number, .figures th.number { text-align: right; }
.figures td:first-child { white-space: normal; } tr.sum td { font-weight: 600; }
.texts { table-layout: fixed; } .texts td { overflow-wrap: anywhere; } .texts th:first-child { width: 8rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .8rem; margin: 1rem 0; }
.tiles div { background: var(--faint); border-radius: .5rem; padding: .7rem .9rem; }
.tiles b { display: block; font-size: 1.3rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.tiles span { font-size: .85rem; opacity: .7; }
progress { appearance: none; border: 0; width: 7rem; height: .5rem; vertical-align: middle; border-radius: .25rem;
background: var(--line); overflow: hidden; } progress.whole { width: 100%; }
progress::-webkit-progress-bar { background: transparent; }
progress::-webkit-progress-value { background: var(--good); } progress::-moz-progress-bar { background: var(--good); }
.good { color: var(--good); } .bad { color: var(--bad); } .wait { color: var(--wait); }
details { margin: .4rem 0; } summary { cursor: pointer; }
@media (max-width: 40rem) { body { margin: 1rem auto; padding: 0 .8rem; } .texts { min-width: 36rem; } }
pre { background: var(--faint); border-radius: .5rem; padding: .9rem; overflow-x: auto; font-size: .82rem; }
"""


META = '<meta name=viewport content="width=device-width, initial-scale=1"><meta name=color-scheme content="light dark">'
"""A phone shows the page at its own width, and no page flashes white in the dark."""


def document(title: str, body: str, *, wide: bool = False) -> str:
    """A whole page; ``title`` is escaped here, ``body`` is HTML already."""
    return (
        f"<!doctype html><html lang=en><head><meta charset=utf-8>{META}<title>{escape(title)}</title>"
        f"<style>{STYLE}</style></head><body{' class=wide' * wide}>{body}</body></html>"
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """Cells are HTML already."""
    head = "".join(f"<th>{name}</th>" for name in header)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    opened = f"<div class=scroll><table{f' class={kind}' * bool(kind)}>"
    return f"{opened}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def figures(header: Sequence[str], rows: Iterable[Sequence[str]], total: Sequence[str] = (), words: int = 1) -> str:
    """A table of numbers: the first ``words`` columns on the left, all others on the right; cells are HTML already.
    A ``total`` stands above the rows, however many there are.
    """
    kinds = ["" if place < words else " class=number" for place in range(len(header))]
    head = "".join(f"<th{kind}>{name}</th>" for kind, name in zip(kinds, header, strict=True))

    def row(cells: Sequence[str], name: str = "") -> str:
        return f"<tr{name}>{''.join(f'<td{k}>{c}</td>' for k, c in zip(kinds, cells, strict=True))}</tr>"

    body = (row(total, " class=sum") if total else "") + "".join(row(cells) for cells in rows)
    head = f"<thead><tr>{head}</tr></thead>"
    return f"<div class=scroll><table class=figures>{head}<tbody>{body}</tbody></table></div>"


def fold(title: str, body: str) -> str:
    """Something to open; ``title`` is escaped here, ``body`` is HTML already."""
    return f"<details><summary>{escape(title)}</summary>{body}</details>"


def tiles(named: Mapping[str, str]) -> str:
    """A few large figures side by side, each with its name below; figures are HTML already."""
    cells = (f"<div><b>{figure}</b><span>{escape(name)}</span></div>" for name, figure in named.items())
    return f"<div class=tiles>{''.join(cells)}</div>"


def bar(part: float, whole: float, kind: str = "part") -> str:
    return f"<progress class={kind} max={max(whole, 1):g} value={min(part, whole):g}></progress>"


def number(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}%"


def duration(seconds: float | None) -> str:
    """'41 s', '12.4 min', '3.4 h': as much as a reader needs."""
    if seconds is None:
        return "–"
    for longest, size, unit, digits in ((10, 1, "s", 1), (120, 1, "s", 0), (7200, 60, "min", 1)):
        if seconds < longest:
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds / 3600:,.1f} h"
