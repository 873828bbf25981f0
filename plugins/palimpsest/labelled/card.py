"""The report card of a labelled study: all seeds together, the gates, and the data they let through."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from palimpsest.config import Labelled, resolve
from palimpsest.guard.verdict import Verdict
from palimpsest.labelled.audit import looked_at
from palimpsest.labelled.coverage import Cell
from palimpsest.labelled.deal import deal
from palimpsest.labelled.items import take
from palimpsest.labelled.judge import judge, values
from palimpsest.labelled.learner import balanced
from palimpsest.labelled.score import FIGURES
from palimpsest.labelled.stages import HERE, MEASURED, opened
from palimpsest.lake import Facts, Lake, LakeError, Published, Rows, digest_file

CODE = [
    f"{HERE}/audit.py",
    f"{HERE}/card.py",
    f"{HERE}/judge.py",
    "plugins/palimpsest/guard/judge.py",
    "plugins/palimpsest/guard/verdict.py",
]
TITLES = {
    "nothing": "nothing",
    "oversampled": "oversampling",
    "clean": "generated, without the planted faults",
    "unverified": "generated",
    "verified": "generated, verified",
    "real": "as much real data",
}


def card(study: Labelled, lake: Lake, planned: Published, measured: Sequence[Published]) -> Published:
    """``labelled/<name>/card``: table.json with every mean, deviation and verdict, and verdicts.parquet."""

    def write(directory: Path) -> Facts:
        _, cells = opened(planned)
        seeds = [json.loads(one.file("figures.json").read_text(encoding="utf-8")) for one in measured]
        if told := looked_at(study, measured):
            seeds = [seed | {"audit": own} for seed, own in zip(seeds, told, strict=True)]
        verdicts = judge(study, cells, seeds)
        table = compare(study, cells, seeds, verdicts)
        (directory / "table.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
        rows = [{**one.as_dict(), "details": json.dumps(one.details)} for one in verdicts]
        pq.write_table(pa.Table.from_pylist(rows), directory / "verdicts.parquet")
        # what nobody compared with oversampling has not passed, if there is something to compare
        made = any(seed["arms"]["verified"]["added"] for seed in seeds)
        failed = [
            one.sentence
            for one in verdicts
            if one.outcome == "failed" or (one.gate == "L1" and one.outcome == "not_judged" and made)
        ]
        return Facts(extra={"headline": table["headline"], "failed": failed})

    config = {
        "gates": study.gates.model_dump(),
        "audit": study.verification.audit,
        "coverage": study.coverage.max_ratio,
    }
    if study.verification.audit_file and (file := resolve(study.verification.audit_file)).is_file():
        config["audited"] = digest_file(file)
    return lake.publish(
        f"labelled/{study.name}/card", write, config=config, parents=[planned, *measured], code=CODE
    )  # fmt: skip


def compare(
    study: Labelled, cells: Sequence[Cell], seeds: Sequence[Mapping], verdicts: Sequence[Verdict]
) -> dict[str, object]:
    """Means and standard deviations over seeds of everything that the seeds measured."""
    rows = []
    for arm in (arm for arm in TITLES if any(arm in seed["arms"] for seed in seeds)):
        row: dict[str, object] = {"arm": arm, "title": TITLES[arm]}
        row["added"] = _mean([seed["arms"][arm]["added"] for seed in seeds if arm in seed["arms"]])
        for figure in FIGURES:
            row |= _spread(figure, values(seeds, arm, figure))
        base = values(seeds, "nothing", "head_recall")
        own = values(seeds, arm, "head_recall")
        row |= _spread("head_change", own - base if len(own) == len(base) else own[:0])
        rows.append(row)
    table = {
        "study": study.name,
        "description": study.description,
        "generator": study.generator.model_dump(exclude_defaults=True),
        "seeds": [seed["seed"] for seed in seeds],
        "cells": [cell.as_dict() | _made(cell, seeds) for cell in cells],
        "arms": rows,
        "curve": _curve(seeds),
        "fidelity": _fidelity(seeds),
        "noise": _nested([seed["noise"] for seed in seeds]),
        "verifier": _nested(
            [{key: value for key, value in seed["verifier"].items() if key != "cells"} for seed in seeds]
        ),
        "audit": _nested([seed["audit"] for seed in seeds]),
        "real_dropped": _mean([sum(seed["real_dropped"].values()) for seed in seeds]),
        "verdicts": [verdict.as_dict() for verdict in verdicts],
    }
    return table | {"headline": headline(table)}


def headline(table: Mapping) -> str:
    """What came of it, in two sentences."""
    arms = {row["arm"]: row for row in table["arms"]}
    base, own = (arms[arm]["balanced_accuracy"] for arm in ("oversampled", "verified"))
    real = arms.get("real", {}).get("balanced_accuracy")
    if not arms["verified"]["added"]:
        told = "No item was generated"
    else:
        told = f"Verified items {'take' if own >= base else 'lower'} balanced accuracy from {base:.1%} (oversampling) "
        told += f"to {own:.1%}"
        if real is not None and real > own >= base:
            told += f", {(own - base) / (real - base):.0%} of the way to as much real data ({real:.1%})"
        elif real is not None:
            told += f"; as much real data takes it to {real:.1%}"
    outcomes = [verdict["outcome"] for verdict in table["verdicts"]]
    failed, unknown = outcomes.count("failed"), outcomes.count("not_judged")
    gates = f"{failed} of {len(outcomes)} gates failed" if failed else "No gate failed"
    return f"{told}. {gates}{f', {unknown} could not be judged' if unknown else ''}."


def repaired(study: Labelled, lake: Lake, planned: Published, first: Published, told: Published) -> Published:
    """``labelled/<name>/repaired``: the first seed's real training items and accepted generated ones, weighted so that
    cells count alike; held_out.parquet has the keys of the validation and test items, which are in neither.

    Raises `LakeError` where a gate failed, or L1 could not judge what was generated, unless the file says
    ``experiment: true``.
    """
    failed = told.extra["failed"]
    if failed and not study.experiment:
        raise LakeError(
            f"labelled study {study.name}: {len(failed)} gate{'s' * (len(failed) > 1)} not passed, the data are "
            f"not published: {'; '.join(failed)}. Change the plan, the generator or the verifier in {study.path}"
        )

    def write(directory: Path) -> Facts:
        items, cells = opened(planned)
        dealt = deal(study, items, cells, study.seeds[0])
        generated = pq.read_table(first.file("generated.parquet"))
        used = generated.filter(generated["used"])
        places = {cell.cell: place for place, cell in enumerate(cells)}
        named = {(cell.label, cell.group): places[cell.cell] for cell in cells}
        made = [named[pair] for pair in zip(used["label"].to_pylist(), used["group"].to_pylist(), strict=True)]
        weights = balanced(np.concatenate([items.cells[dealt.train], made]).astype(int))
        value = "pixels" if "pixels" in generated.column_names else "text"
        own = take(items.values, dealt.train)
        real = pa.table(
            {
                "key": [items.keys[place] for place in dealt.train],
                value: own.tolist() if value == "pixels" else own,
                "label": [cells[items.cells[place]].label for place in dealt.train],
                "group": [cells[items.cells[place]].group for place in dealt.train],
                "label_source": ["source"] * len(dealt.train),
                "origin": ["real"] * len(dealt.train),
                "depth": pa.array([0] * len(dealt.train), pa.int32()),
                "grounded": [False] * len(dealt.train),
            }
        )
        both = pa.concat_tables([real, used.drop_columns(["planted", "used"])], promote_options="default")
        pq.write_table(both.append_column("weight", pa.array(weights)), directory / "data.parquet")
        kept = [*dealt.validation, *dealt.test]
        parts = ["validation"] * len(dealt.validation) + ["test"] * len(dealt.test)
        pq.write_table(pa.table({"key": [items.keys[place] for place in kept], "part": parts}),
                       directory / "held_out.parquet")  # fmt: skip
        away = {"not_accepted_or_not_needed": generated.num_rows - used.num_rows}
        rows = Rows(real.num_rows + generated.num_rows, both.num_rows, away)
        return Facts(rows, {"real": real.num_rows, "generated": used.num_rows, "failed": list(failed)})

    config = {"experiment": study.experiment}
    code = [f"{HERE}/card.py", *MEASURED]
    return lake.publish(
        f"labelled/{study.name}/repaired", write, config=config, parents=[planned, first, told], code=code
    )  # fmt: skip


def render(table: Mapping) -> str:
    """The card for a terminal: arms, curve, fidelity, verdicts."""
    lines = [
        table["headline"],
        "",
        f"{'arm':<40}{'added':>7}{'bal. acc.':>16}{'worst':>8}{'tail':>8}{'head':>8}{'ECE':>8}",
    ]
    for row in table["arms"]:
        acc = f"{_shown(row['balanced_accuracy'])} ± {_shown(row['balanced_accuracy_sd'])}"
        rest = "".join(f"{_shown(row[name]):>8}" for name in ("worst_cell_recall", "tail_recall", "head_recall", "ece"))
        lines.append(f"{row['title']:<40}{row['added']:>7,.0f}{acc:>16}{rest}")
    points = (f"{row['share']:.0%}: {_shown(row['balanced_accuracy'])}" for row in table["curve"])
    lines += ["", "balanced accuracy by share of the deficit filled: " + ", ".join(points)]
    found = table["fidelity"]
    if found.get("tstr") is not None:
        lines.append(f"TSTR {found['tstr']:.3f} (real: {found['trtr']:.3f}), TRTS {found['trts']:.3f}")
    for label, apart in found["c2st"].items():
        figures = "" if "why" in apart else f"{apart['auc']:.3f}, real against real {apart['null']:.3f}"
        lines.append(f"C2ST {label}: {apart.get('why', figures)}")
    for arm, noise in table["noise"].items():
        lines.append(f"label noise, {arm}: {noise['why'] if 'why' in noise else format(noise['estimate'], '.1%')}")
    return "\n".join([*lines, "", *(f"{v['gate']} {v['outcome']}: {v['sentence']}" for v in table["verdicts"])])


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _made(cell: Cell, seeds: Sequence[Mapping]) -> dict[str, float]:
    """Drafts, accepted and used ones of a cell, means over seeds."""
    found = [seed["verifier"]["cells"].get(cell.cell, {}) for seed in seeds]
    return {key: _mean([one.get(key, 0) for one in found]) for key in ("drafts", "accepted", "used")}


def _curve(seeds: Sequence[Mapping]) -> list[dict[str, object]]:
    found = []
    for points in zip(*(seed["curve"] for seed in seeds), strict=True):
        row: dict[str, object] = {"share": points[0]["share"], "added": _mean([point["added"] for point in points])}
        for figure in FIGURES:
            own = [point[figure] for point in points]
            row |= _spread(figure, np.array([] if None in own else own, float))
        found.append(row)
    return found


def _fidelity(seeds: Sequence[Mapping]) -> dict[str, object]:
    found = [seed["fidelity"] for seed in seeds]
    labels = sorted({label for one in found for label in one["c2st"]})
    apart = {label: _nested([one["c2st"][label] for one in found if label in one["c2st"]]) for label in labels}
    return _nested([{k: v for k, v in one.items() if k != "c2st"} for one in found]) | {"c2st": apart}


def _nested(found: Sequence[Mapping]) -> dict[str, object]:
    """Means of figures, the first of words, of mappings that are built alike; a figure that one lacks is left out."""
    merged: dict[str, object] = {}
    for key in dict.fromkeys(key for one in found for key in one):
        own = [one[key] for one in found if one.get(key) is not None]
        if own and isinstance(own[0], Mapping):
            merged[key] = _nested(own)
        elif own and isinstance(own[0], str):
            merged[key] = own[0]
        elif len(own) == len(found):
            merged[key] = _mean(own)
    if "why" in merged:
        return {"why": merged["why"]}
    return merged


def _spread(figure: str, found: np.ndarray) -> dict[str, float | None]:
    sd = float(found.std(ddof=1)) if len(found) > 1 else None
    return {figure: float(found.mean()) if len(found) else None, f"{figure}_sd": sd}


def _mean(found: Sequence[float]) -> float:
    return float(np.mean(found)) if len(found) else 0.0
