"""Extraction profiles beside each extractor alone on pages with a gold text: F1 by page type, pages/s, token yield.

The pages are the WCXB development set in $PALIMPSEST_DATA/html (528 pages of 500 sites); F1 is over words as its own
evaluation counts them. Every page goes through every extractor in turn, in one process, and CPU seconds are counted,
so other load on the machine weighs on all alike. The cross-validated rows choose the thresholds of `best` anew on nine
tenths of the sites and score the tenth: what a profile is worth on pages that its thresholds have not seen.
"""

from __future__ import annotations

import gzip
import itertools
import json
import re
import time
from collections import Counter
from collections.abc import Callable
from urllib.parse import urlsplit

import justext
import numpy as np
import trafilatura
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import HTMLTree
from rich.console import Console
from rich.table import Table

from palimpsest.config import resolve
from palimpsest.ingest import charset
from palimpsest.ingest.profiles import Candidates, Thresholds, choose, load

PAGES = "$PALIMPSEST_DATA/html/wcxb_dev"
WORD = re.compile(r"\w+")
FOLDS, SEEDS = 10, 3
MOST_ASKED = 0.55  # share of the pages that trafilatura may be asked about: what it costs decides the speed of `best`
GRID = {
    "thin": (0.05, 0.1, 0.15), "sure_share": (0.5, 0.6, 0.7), "sure_prose": (0.4, 0.5), "heavy_share": (0.3, 0.5),
    "lost": (0.2, 0.25), "shorter": (0.8, 0.9),
}  # fmt: skip


def _profile(profile: str) -> Callable[[str], str]:
    return lambda page: choose(Candidates(page, HTMLTree.parse(page)), profile).text


def _justext(page: str, words: frozenset[str], **shares: float) -> str:
    return "\n".join(p.text for p in justext.justext(page, words, **shares) if not p.is_boilerplate)


ENGLISH = justext.get_stoplist("English")
PEERS = {
    "resiliparse": lambda page: extract_plain_text(
        HTMLTree.parse(page), main_content=True, alt_texts=False, list_bullets=False
    ),
    "trafilatura": lambda page: trafilatura.extract(page) or "",
    "jusText (English)": lambda page: _justext(page, ENGLISH),
    "jusText (any language)": lambda page: _justext(page, frozenset(), stopwords_low=0, stopwords_high=0),
}
OURS = {"best": _profile("best"), "fast": _profile("fast")}


def run() -> list[dict]:
    pages = _pages()
    if not pages:
        return []
    load("best")
    scores, seconds, words = _measure(pages)
    kinds = np.array([page["page_type"] for page in pages])
    scores["best, cross-validated"] = _cross_validated(pages)
    _print(scores, seconds, words, kinds)
    rows = []
    for ours in ("best", "best, cross-validated", "fast"):
        for kind in (*sorted(set(kinds)), "all"):
            here = np.full(len(kinds), True) if kind == "all" else kinds == kind
            peer = "resiliparse" if ours == "fast" else max(PEERS, key=lambda name: scores[name][here].mean())
            name = f"extraction {ours}: {kind} ({here.sum()} pages), against {peer}"
            rows.append({"name": name, "ours": scores[ours][here].mean(), "peer": scores[peer][here].mean()})
            rows[-1]["unit"] = "word F1"
    for ours, peer in itertools.product(OURS, PEERS):
        speed = {"ours": len(pages) / seconds[ours], "peer": len(pages) / seconds[peer], "unit": "pages/s"}
        rows.append({"name": f"extraction {ours}: speed, against {peer}", **speed})
        found = {"ours": words[ours] / len(pages), "peer": words[peer] / len(pages), "unit": "words/page"}
        rows.append({"name": f"extraction {ours}: token yield, against {peer}", **found})
    return rows


def f1(text: str, gold: Counter[str]) -> float:
    found = Counter(WORD.findall(text.lower()))
    both = found.total() + gold.total()
    return 2 * (found & gold).total() / both if both else 1.0


def _pages() -> list[dict]:
    folder = resolve(PAGES)
    if not (folder / "gold.jsonl.gz").exists():
        print(f"extraction: no pages with a gold text in {folder}; set PALIMPSEST_DATA to the data folder")
        return []
    lines = gzip.decompress((folder / "gold.jsonl.gz").read_bytes()).splitlines()
    pages = [json.loads(line) for line in lines]
    for page in pages:
        payload = gzip.decompress((folder / page["file"]).read_bytes())
        page["html"] = charset.decode(payload, charset.find(payload, "").name)
        page["gold"] = Counter(WORD.findall(page["main_content"].lower()))
    return pages


def _measure(pages: list[dict]) -> tuple[dict[str, np.ndarray], dict[str, float], dict[str, int]]:
    extractors = {**PEERS, **OURS}
    scores = {name: np.zeros(len(pages)) for name in extractors}
    seconds, words = dict.fromkeys(extractors, 0.0), dict.fromkeys(extractors, 0)
    for extractor in extractors.values():
        extractor(pages[0]["html"])  # imports and stop lists
    for number, page in enumerate(pages):
        for name, extractor in extractors.items():
            began = time.process_time()
            text = extractor(page["html"])
            seconds[name] += time.process_time() - began
            scores[name][number] = f1(text, page["gold"])
            words[name] += len(text.split())
    return scores, seconds, words


def _cross_validated(pages: list[dict]) -> np.ndarray:
    """F1 of `best` on each page under thresholds chosen without its site; mean over the seeds."""
    settings = [Thresholds(*values) for values in itertools.product(*GRID.values())]
    scores, asked = np.zeros((len(settings), len(pages))), np.zeros((len(settings), len(pages)), bool)
    for number, page in enumerate(pages):
        found, known = Candidates(page["html"], HTMLTree.parse(page["html"])), {}
        for row, setting in enumerate(settings):
            chosen = choose(found, "best", setting)
            if chosen.extractor not in known:
                known[chosen.extractor] = f1(chosen.text, page["gold"])
            scores[row, number], asked[row, number] = known[chosen.extractor], "trafilatura" in chosen.words
    sites = np.unique([urlsplit(page["url"]).netloc for page in pages], return_inverse=True)[1]
    unseen, picked = np.zeros((SEEDS, len(pages))), Counter()
    for seed in range(SEEDS):
        fold = np.random.default_rng(seed).integers(0, FOLDS, sites.max() + 1)[sites]
        for held in range(FOLDS):
            mean = np.where(asked[:, fold != held].mean(axis=1) <= MOST_ASKED, scores[:, fold != held].mean(axis=1), 0)
            unseen[seed, fold == held] = scores[mean.argmax(), fold == held]
            picked[settings[mean.argmax()]] += 1
    for setting, times in picked.most_common(3):
        print(f"extraction: {times} of {FOLDS * SEEDS} folds choose {setting}")
    return unseen.mean(axis=0)


def _print(scores, seconds, words, kinds) -> None:
    table = Table("word F1", *(f"{kind} ({(kinds == kind).sum()})" for kind in sorted(set(kinds))), "all")
    for column in ("pages/s", "words"):
        table.add_column(column)
    for name, found in scores.items():
        means = [f"{found[kinds == kind].mean():.3f}" for kind in sorted(set(kinds))]
        speed = f"{len(kinds) / seconds[name]:.1f}" if name in seconds else ""
        table.add_row(name, *means, f"{found.mean():.4f}", speed, f"{words[name]:,}" if name in words else "")
    Console(width=160).print(table)
