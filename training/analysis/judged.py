"""Ensembles, downstream tasks and early signs of a study as rows of its report, read from what its runs published."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np
import pyarrow.parquet as pq

from palimpsest.config import Study
from palimpsest.lake import LakeError, Published
from training.analysis import signs

ALL = "all tasks"
"""No task can be called so."""
Choices = dict[str, dict[str, dict[tuple[str, ...], float]]]
"""By mix and held-out set: the loss of every choice of members."""
Right = dict[tuple[str, int], float]
"""By task and question: the share of a mix's seeds that answer it rightly."""


def read(study: Study, verdicts: Sequence[Published]) -> dict:
    """``ensembles``: rows by mix; ``tasks``: a row per mix and task; ``signs``: a row per mix. Empty without any."""
    ensembles, answers, chance = _chosen(verdicts), defaultdict(list), {}
    for published in verdicts:
        if "/tasks/" not in published.dataset:
            continue
        tasks = pq.read_table(published.file("tasks.parquet")).to_pylist()
        chance |= {row["task"]: row["chance"] for row in tasks}
        answers[tasks[0]["recipe"]].append(pq.read_table(published.file("answers.parquet")).to_pylist())
    return {
        "ensembles": {mix: _by_size(ensembles[mix]) for mix in study.mixes if mix in ensembles},
        "tasks": _tasks(study, answers, chance),
        "signs": signs.rows(study, [published for published in verdicts if "/signs/" in published.dataset]),
    }


def choices(verdicts: Sequence[Published]) -> Choices:
    """The losses that the law of each ensemble in K is fitted to."""
    found: Choices = {}
    for mix, rows in _chosen(verdicts).items():
        for row in rows:
            found.setdefault(mix, {}).setdefault(row["set"], {})[tuple(row["runs"])] = row["loss"]
    return found


def _chosen(verdicts: Sequence[Published]) -> dict[str, list[dict]]:
    """By mix a row per choice of members and held-out set."""
    found = {}
    for published in verdicts:
        if "/ensembles/" not in published.dataset:
            continue
        rows = pq.read_table(published.file("losses.parquet")).to_pylist()
        if "runs" not in rows[0]:
            raise LakeError(
                f"{published.uri} is of an older version, which judged one chain of seeds and not every choice of "
                "them; run the study's task 'judge' again"
            )
        found[published.extra["mix"]] = rows
    return found


def _by_size(rows: Sequence[Mapping]) -> list[dict]:
    """A row per number of members and set: the mean over the choices of so many, the lowest and the highest."""
    found = defaultdict(list)
    for row in rows:
        found[row["members"], row["set"]].append(row)
    return [
        {
            **{key: own[0][key] for key in ("mix", "members", "set", "tokens")},
            "parameters": round(fmean(row["parameters"] for row in own)),
            "choices": len(own),
            "loss": fmean(row["loss"] for row in own),
            "lowest": min(row["loss"] for row in own),
            "highest": max(row["loss"] for row in own),
        }
        for own in found.values()
    ]


def _tasks(study: Study, answers: Mapping[str, list[list[dict]]], chance: Mapping[str, float]) -> list[dict]:
    """Acc and acc_norm with standard errors over the questions, and acc minus the reference's, question by question.

    A question counts as the mean over the seeds. The same questions are asked of every mix, so the paired difference
    is far better known than either accuracy. Seeds differ too: with few of them the error is a lower bound.
    """
    found = []
    right = {score: {mix: _right(runs, score) for mix, runs in answers.items()} for score in ("acc", "acc_norm")}
    for mix in (name for name in study.mixes if name in answers):
        for task in chance:
            row = {"mix": mix, "task": task, "seeds": len(answers[mix]), "chance": chance[task]}
            for score, by_mix in right.items():
                own = {key: value for key, value in by_mix[mix].items() if key[0] == task}
                mean, error = _mean(list(own.values()))
                row |= {score: mean, f"{score}_stderr": error, "questions": len(own)}
                row[f"{score}_above_chance"] = (mean - chance[task]) / (1 - chance[task])
                reference = by_mix.get(study.reference, {})
                paired = [value - reference[key] for key, value in own.items() if key in reference]
                told = _mean(paired) if paired and mix != study.reference else (None, None)
                row |= {f"{score}_difference": told[0], f"{score}_difference_stderr": told[1]}
            found.append(row)
        if len(chance) > 1:
            found.append(_over_tasks(found[-len(chance) :]))
    return found


def _over_tasks(rows: Sequence[Mapping]) -> dict:
    """Of a mix's tasks: every figure is the mean of theirs, 1 - acc the mean error; tasks are taken as independent."""
    found = {"mix": rows[0]["mix"], "task": ALL, "seeds": rows[0]["seeds"]}
    found["questions"] = sum(row["questions"] for row in rows)
    for key in rows[0].keys() - found.keys():
        values = [row[key] for row in rows]
        if None in values:
            found[key] = None
        elif key.endswith("_stderr"):
            found[key] = math.hypot(*values) / len(values)
        else:
            found[key] = fmean(values)
    return {key: found[key] for key in rows[0]}


def _right(runs: Sequence[Sequence[Mapping]], score: str) -> Right:
    found = defaultdict(list)
    for answers in runs:
        for answer in answers:
            found[answer["task"], answer["question"]].append(float(answer[score]))
    return {question: fmean(values) for question, values in found.items()}


def _mean(values: Sequence[float]) -> tuple[float, float | None]:
    if len(values) < 2:
        return (fmean(values), None)
    return fmean(values), float(np.std(values, ddof=1)) / math.sqrt(len(values))
