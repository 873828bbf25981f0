"""G10 of downstream tasks: whether generated text recites a question that the study's models will be asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from palimpsest.config import ConfigError, Study, evaluation_sets, resolve
from palimpsest.generate.review import benchmark
from palimpsest.generate.review.facts import Facts
from palimpsest.guard.verdict import Verdict, bounded, not_judged


def files(study: Study) -> dict[str, Path]:
    """The file of each task; raises `ConfigError` for one that is not there."""
    found = {name: resolve(task.file) for name, task in study.judging.tasks.items()}
    for name, file in found.items():
        if not file.is_file():
            raise ConfigError(f"judging.tasks.{name}.file: no file {file}; correct the path or create it")
    return found


def judge_tasks(study: Study, texts: Sequence[str], subject: str) -> Iterator[Verdict]:
    """Texts that hold 13 words in a row of a question and its right answer, or the whole of a shorter one; a run that
    several questions share proves nothing (`palimpsest.generate.review.benchmark`). Nothing for a study without tasks
    whose corpora name no evaluation sets.
    """
    sets = evaluation_sets(study)
    if not study.judging.tasks and not sets:
        return
    names, most = ", ".join([*files(study), *sets]), study.guard.thresholds.held_out_runs_max
    known = benchmark.load((*(task.file for task in study.judging.tasks.values()), *sets.values()))
    if known.items == known.too_short or not texts:
        lacking = "there is no text" if not texts else "every question is too short to be told"
        why = f"whether {subject} recite downstream tasks ({names}) cannot be judged: {lacking}"
        yield not_judged("G10", "task_questions", why, subject=subject, limit=most)
        return
    recited = [item for text in texts if (item := known.recited(Facts(text)))]
    first = f" (the first: '{recited[0]}')" if recited else ""
    said = (
        f"{len(recited):,} of {len(texts):,} {subject} recite a question of the downstream tasks ({names}){first}; at "
        f"most {most} may"
    )
    details = {"documents": len(texts), "questions": known.items, "example": recited[0] if recited else ""}
    yield bounded("G10", "task_questions", len(recited), said, at_most=most, subject=subject, details=details)
