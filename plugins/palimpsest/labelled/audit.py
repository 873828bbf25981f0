"""What the verifier accepted, looked at by somebody else; and what it let through and turned away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow.parquet as pq

from palimpsest.config import Labelled, remedy, resolve
from palimpsest.labelled.arms import Bench
from palimpsest.labelled.learner import Classifier, balanced, stack
from palimpsest.lake import LakeError, Published
from palimpsest.table import read_table


def verified(bench: Bench) -> dict[str, object]:
    """Drafts and accepted ones by cell; of planted faults and of the others, the share that was accepted."""
    drafts, accepted = bench.drafts, bench.drafts.verdicts == "accepted"
    planted, judged = drafts.planted, drafts.separate
    found: dict[str, object] = {
        "cells": {
            bench.items.names[place]: {
                "drafts": int((drafts.cells == place).sum()),
                "accepted": int((accepted & (drafts.cells == place)).sum()),
                "used": int(min((accepted & (drafts.cells == place)).sum(), bench.cells[place].planned)),
            }
            for place in np.unique(drafts.cells)
        },
        "kept_good": float(accepted[judged & ~planted].mean()) if (judged & ~planted).any() else None,
    }
    if planted.any():
        found["dropped_planted"] = float((~accepted)[judged & planted].mean()) if (judged & planted).any() else None
    return found


def audit(study: Labelled, bench: Bench) -> dict[str, object]:
    """``by`` whom, how many accepted items were ``audited``, and how many are ``good``; ``by`` None where nobody can.

    Where there are no planted faults, a classifier judges that has seen neither the
    verifier's items nor the seeds: what it takes for the label among accepted items, over what it takes for it among
    real test items of the same cells, for it errs on real items as well.
    """
    drafts = bench.drafts
    accepted = np.flatnonzero(drafts.verdicts == "accepted")
    if drafts.planted.any():
        return {"by": "planted", "audited": len(accepted), "good": int((~drafts.planted[accepted]).sum())}
    own = bench.items.label
    planned = [place for place, cell in enumerate(bench.cells) if cell.planned]
    whole = np.isin(bench.items.cells[bench.train], [p for p, cell in enumerate(bench.cells) if not cell.deficit])
    labels = np.concatenate([own[bench.train[whole]], own[bench.held_back]])
    needed = {place // len(bench.items.groups) for place in planned}
    if not len(accepted) or not needed <= set(own[bench.held_back]) or len(np.unique(labels)) < 2:
        return {"by": None, "audited": 0, "good": 0}
    rows = stack(bench.train_rows[whole], bench.held_rows)
    model = Classifier(study.learner, bench.labels, rows, labels, balanced(labels))
    among = np.isin(bench.items.cells[bench.test], planned)
    agrees = model.probabilities(drafts.rows[accepted]).argmax(axis=1) == bench.label_of(accepted)
    real = model.probabilities(bench.test_rows[among]).argmax(axis=1) == own[bench.test][among]
    by_cell = [
        (agrees[drafts.cells[accepted] == place].mean(), real[bench.items.cells[bench.test][among] == place].mean())
        for place in planned
        if (drafts.cells[accepted] == place).any()
    ]
    shares = [min(1.0, made / max(ours, 1e-9)) for made, ours in by_cell]
    counts = [(drafts.cells[accepted] == place).sum() for place in planned if (drafts.cells[accepted] == place).any()]
    return {
        "by": "classifier",
        "audited": len(accepted),
        "good": round(float(np.dot(shares, counts))),
        "agrees": float(agrees.mean()),
        "agrees_on_real": float(real.mean()),
    }


def looked_at(study: Labelled, generated: Sequence[Published]) -> list[dict[str, object]] | None:
    """The same by people, for each seed's generated.parquet; None for a study without a file of theirs.

    Raises `LakeError` for a row of the file that is no verdict, is there twice, or is about no draft of these.
    """
    if not study.verification.audit_file:
        return None
    told, met, found = _people(study), set(), []
    for one in generated:
        table = pq.read_table(one.file("generated.parquet"), columns=["key", "verdict"])
        keys = dict(zip(table["key"].to_pylist(), table["verdict"].to_pylist(), strict=True))
        met |= keys.keys()
        verdicts = [good for key, good in told.items() if keys.get(key) == "accepted"]
        found.append({"by": "people", "audited": len(verdicts), "good": sum(verdicts)})
    if strange := sorted(told.keys() - met):
        raise LakeError(
            f"{resolve(study.verification.audit_file)}: key '{strange[0]}' is of no draft that this study has now "
            f"({len(strange)} rows); take out what was read of other drafts, or audit these"
        )
    return found


def _people(study: Labelled) -> Mapping[str, bool]:
    file = resolve(study.verification.audit_file)
    if not file.is_file():
        raise LakeError(
            f"{study.path}: verification.audit_file: no file {file}; {remedy(study.verification.audit_file)}"
        )
    found = {}
    for number, _, row in read_table(file, ["key", "good"]):
        if not isinstance(row.get("key"), str) or not isinstance(row.get("good"), bool):
            raise LakeError(f"{file}: row {number}: a row has key (of generated.parquet) and good (true or false)")
        if row["key"] in found:
            raise LakeError(f"{file}: row {number}: key '{row['key']}' is there twice; keep one verdict of each")
        found[row["key"]] = row["good"]
    return found
