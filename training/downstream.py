"""``studies/<study>/tasks/<run>``: multiple choice through lm-evaluation-harness, on local files.

The harness builds the prompts and scores the answers; the model is asked here, so nothing but lm-eval itself has to be
installed, and nothing is looked for on the network. Prompts are those of the harness's own ARC, PIQA and SciQ tasks.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from statistics import fmean

import pyarrow as pa
import pyarrow.parquet as pq

from palimpsest.config import ConfigError, Study, Task, resolve
from palimpsest.lake import Facts, Lake, LakeError, Published, digest_file

CODE = [f"training/{name}.py" for name in ("attention", "downstream", "evaluate", "export", "loss", "model", "student")]
SEED = 1234  # of the harness's own choice of examples
INSTALL = "make tasks"
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_EVALUATE_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TQDM_DISABLE": "1",
}

log = logging.getLogger(__name__)


def require(study: Study) -> None:
    """Raise `ConfigError` if the study names tasks that cannot be asked here: no harness, or a file that is wrong."""
    if study.judging.tasks and importlib.util.find_spec("lm_eval") is None:
        names = ", ".join(study.judging.tasks)
        raise ConfigError(
            f"judging.tasks ({names}): lm-evaluation-harness is not installed in this environment; install it with "
            f"'{INSTALL}' (in a container: build the image again), or take 'judging.tasks' out of the study"
        )
    for name, task in study.judging.tasks.items():
        read(name, task)


def read(name: str, task: Task) -> list[dict]:
    """The questions: query, choices and answer (index), and ``support`` where the file has it (SciQ's paragraph)."""
    file = resolve(task.file)
    if not file.is_file():
        raise ConfigError(f"judging.tasks.{name}.file: no file {file}; correct the path or create it")
    found = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            wrong = _wrong(row)
        except json.JSONDecodeError as error:
            wrong = f"not a line of JSON ({error})"
        if wrong:
            raise LakeError(f"{file}, line {number}: {wrong}; a question is query, choices (texts) and answer (index)")
        found.append({key: row.get(key, "") for key in ("query", "choices", "answer", "support")})
    if len(found) <= task.shots:
        raise LakeError(f"{file}: {len(found)} questions are too few for {task.shots} examples before each")
    return found


def ask(study: Study, lake: Lake, *, run: Published) -> Published:
    """Every task of the study, asked of the run's model: ``tasks.parquet`` and ``answers.parquet``.

    A row per task: questions, shots, chance (the mean of 1 / choices), acc (the likeliest answer is right), acc_norm
    (the likeliest per character), their standard errors, and both above chance as a share of what is above chance,
    not clipped at 0, so that noise around chance averages out. Of the answers, per question: right by either measure,
    and the choices' log-likelihoods in nats; equal questions pair two runs.
    """
    require(study)
    name = run.dataset.rsplit("/", 1)[1]
    config = {
        task: {**settings.model_dump(), "digest": digest_file(resolve(settings.file))}
        for task, settings in study.judging.tasks.items()
    }

    def write(directory: Path) -> Facts:
        os.environ.update(QUIET)  # read when the harness and its libraries are imported
        from training.student import Student

        recipe = json.loads(run.file("evaluation.json").read_text(encoding="utf-8"))["recipe"]
        training = study.training_of(recipe)
        student = Student(run.path / "model", training.precision, training.threads)
        tasks, answers = [], []
        for task, settings in study.judging.tasks.items():
            row, found = _asked(task, settings, student)
            tasks.append({"run": name, "recipe": recipe, **row})
            answers += found
            error = "" if row["acc_stderr"] is None else f" ± {row['acc_stderr']:.3f}"
            log.info("%s: %s %.3f%s of %d questions", name, task, row["acc"], error, row["questions"])
        pq.write_table(pa.Table.from_pylist(tasks), directory / "tasks.parquet")
        pq.write_table(pa.Table.from_pylist(answers), directory / "answers.parquet")
        return Facts(extra={"lm_eval": version("lm_eval"), "acc": {row["task"]: row["acc"] for row in tasks}})

    return lake.publish(f"studies/{study.name}/tasks/{name}", write, config=config, parents=[run], code=CODE)


def _asked(name: str, task: Task, student) -> tuple[dict, list[dict]]:
    """The task's row and its answers'."""
    from lm_eval.evaluator import evaluate

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    student.cut = 0
    found = evaluate(student, {"tasks": {name: _as_harness(name, task)}, "groups": {}}, limit=task.max_questions)
    scores = found["results"][name]
    answers = [
        {
            "task": name,
            "question": sample["doc_id"],
            "answer": sample["doc"]["answer"],
            "log_likelihoods": [likelihood for likelihood, _ in sample["filtered_resps"]],
            "acc": sample["acc"],
            "acc_norm": sample["acc_norm"],
        }
        for sample in found["samples"][name]
    ]
    chance = fmean(1 / len(answer["log_likelihoods"]) for answer in answers)
    row = {"task": name, "questions": len(answers), "shots": task.shots, "cut": student.cut, "chance": chance}
    for score in ("acc", "acc_norm"):
        row |= {
            score: scores[f"{score},none"],
            # of a single question the harness says 'N/A'
            f"{score}_stderr": scores[f"{score}_stderr,none"] if len(answers) > 1 else None,
            f"{score}_above_chance": (scores[f"{score},none"] - chance) / (1 - chance),
        }
    return row, answers


def _as_harness(name: str, task: Task):
    """The file as a task of the harness, worded as its ARC, PIQA and SciQ are."""
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask

    questions = Dataset.from_list(read(name, task))
    found = ConfigurableTask(
        config={
            "task": name,
            "custom_dataset": lambda: {"all": questions},
            "output_type": "multiple_choice",
            "test_split": "all",
            "fewshot_split": "all",  # the harness leaves the question itself out
            "num_fewshot": task.shots,
            "doc_to_text": _prompt,
            "doc_to_choice": "choices",
            "doc_to_target": "answer",
            "metric_list": [
                {"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in ("acc", "acc_norm")
            ],
        }
    )
    found.set_fewshot_seed(SEED)
    return found


def _prompt(question: Mapping) -> str:
    support = f"{question['support'].lstrip()}\n" if question["support"] else ""
    return f"{support}Question: {question['query']}\nAnswer:"


def _wrong(row: object) -> str | None:
    if not isinstance(row, dict):
        return "not a JSON object"
    for key, kind in (("query", str), ("choices", list), ("answer", int), ("support", str)):
        if not isinstance(row.get(key, "" if key == "support" else None), kind):
            return f"'{key}' is missing or of the wrong type"
    choices = row["choices"]
    if len(choices) < 2 or not all(isinstance(choice, str) and choice.strip() for choice in choices):
        return "'choices' are fewer than two, or not all of them texts"
    if not 0 <= row["answer"] < len(choices):
        return f"'answer' is {row['answer']}, an index from 0 to {len(choices) - 1} is needed"
    return None
