"""The main job on the sample, end to end through the real scheduler: WARC in, comparison of pre-training runs out."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import httpx
import psutil
from rich.console import Console

from palimpsest.config import Corpus, Study, load_corpus, load_study
from palimpsest.lake import Lake, Published
from palimpsest_airflow.local import stack, unchanged
from palimpsest_airflow.local.api import Api
from palimpsest_airflow.local.pools import pools
from palimpsest_airflow.local.progress import Display
from palimpsest_airflow.local.runs import Following, RunFailed, abandon, follow, trigger, triggered_by, wait_for_dags
from palimpsest_airflow.local.settings import Refused, Settings

CORPUS, STUDY = "sample", "demo"


def demo(settings: Settings, *, again: bool = False) -> int:
    """0 when the report is there, 1 when a task failed; everything that was started is stopped either way."""
    console = Console()
    corpus, study, lake = load_corpus(CORPUS), load_study(STUDY), Lake(settings.lake)
    memory, wanted = settings.state / "demo.json", unchanged.fingerprint([corpus], study)
    published = None if again else unchanged.remembered(memory, wanted, lake)
    if published:
        console.print("nothing changed since the last run: this is its report (--again runs it once more)\n")
        show_report(console, published, settings)
        return 0
    display = Display(plan(study, corpus), console)
    try:
        seen = run(settings, corpus, study, display)
    except RunFailed as failure:
        show_failure(console, failure, settings)
        return 1
    published = lake.latest(f"studies/{STUDY}/report")
    unchanged.remember(memory, wanted, published)
    show_report(console, published, settings)
    show_split(console, seen)
    return 0


def run(settings: Settings, corpus: Corpus, study: Study, display: Display) -> Following:
    """Both Dag runs to their end, and what was seen of them. Their tasks are short, so the scheduler looks often."""
    settings = replace(settings, scheduler_sleep=0.3)
    corpus_dag, study_dag = f"corpus_{corpus.name}", f"study_{study.name}"
    with display.shown():
        display.say("starting Airflow")
        with stack.running_stack(settings) as (api, _):
            try:
                wait_for_dags(api, [corpus_dag, study_dag])
                display.say(f"Airflow is up at {settings.airflow_url}")
                for dag_id in (corpus_dag, study_dag):
                    abandon(api, dag_id)
                api.patch(f"dags/{study_dag}", {"is_paused": False})
                run_id = trigger(api, corpus_dag, {"from": str(corpus.start), "to": str(corpus.end)})
                _watch(api, corpus_dag, run_id, display)
                display.say("waiting for the asset to start the study")
                study_run = next(found for found in triggered_by(api, corpus_dag, run_id, study_dag) if found)
                display.say(f"{study_dag} was started by the asset of {corpus_dag}")
                _watch(api, study_dag, study_run, display)
            except httpx.TransportError as error:
                raise Refused(
                    f"Airflow's API server stopped answering ({error}): see {settings.logs}/api-server.log"
                ) from error
    return display.seen


def _watch(api: Api, dag_id: str, run_id: str, display: Display) -> None:
    for seen in follow(api, dag_id, run_id, display.seen):
        display.update(seen)


def plan(study: Study, corpus: Corpus) -> dict[tuple[str, str], tuple[int, int]]:
    """Every stage of both Dags in order: instances, and how many run at a time."""
    slots = {name: int(pool["slots"]) for name, pool in pools().items()}
    recipes = [*study.mixes, *study.reference_recipes]
    trainings = sum(len(study.training_of(recipe).seeds) for recipe in recipes)
    several = {"generate": (study.shards, slots["gpu"]), "train": (trainings, slots["train"])}
    tasks = {
        f"corpus_{corpus.name}": ("extract", "documents", "gate", "publish"),
        f"study_{study.name}": ("plan", "generate", "collect", "build", "gate", "waive", "tokenize", "train", "report"),
    }
    return {(dag, task): several.get(task, (1, 1)) for dag, names in tasks.items() for task in names}


def show_report(console: Console, published: Published, settings: Settings) -> None:
    from training.analysis.report import render_table

    table = render_table(json.loads(published.file("table.json").read_text()))
    console.print(table, highlight=False, markup=False, soft_wrap=True)
    lines = [
        f"report      {published.file('report.html')}",
        f"data        {settings.lake}",
        f"task logs   {settings.logs / 'tasks'}",
        "",
        "make up                                    Airflow, MLflow, Data Docs and dbt docs on this state",
        ".venv/bin/python -m palimpsest datasets    what is in the lake, and where",
        ".venv/bin/python -m palimpsest trace URL   everything made of one page",
    ]
    console.print("\n  " + "\n  ".join(lines) + "\n", highlight=False, markup=False, soft_wrap=True)


def show_split(console: Console, seen: Following) -> None:
    """Wall clock in two parts: some task was at its own work, or nothing but processes starting and waiting."""
    began, now = psutil.Process().create_time(), time.time()
    intervals = sorted(interval for interval in seen.work.values() if interval[1])
    own, reached = 0.0, 0.0
    for start, end in intervals:
        own += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    first, wall = intervals[0][0], now - began
    tasks = f"{len(intervals)} tasks {reached - first - own:.0f} s"
    parts = f"Airflow {first - began:.0f} s, {tasks}, end {now - reached:.0f} s"
    line = (
        f"{wall:.0f} s in all: {own:.0f} s ({own / wall:.0%}) the stages' own work, {wall - own:.0f} s process start-up"
    )
    console.print(f"{line} ({parts})", highlight=False, soft_wrap=True)


def show_failure(console: Console, failure: RunFailed, settings: Settings) -> None:
    """The failed task, the end of its log, its error, and what to do."""
    task = failure.task
    if task is None:
        console.print(f"{failure}: no task failed; see {settings.logs}/scheduler.log", style="red")
        return
    name = task["task_id"] + (
        f" [{task.get('rendered_map_index') or task['map_index']}]" if task["map_index"] >= 0 else ""
    )
    console.print(f"\n{failure.dag_id}: task {name} failed\n", style="bold red", highlight=False, markup=False)
    errors = []
    for event in failure.log[-20:]:
        if event.get("timestamp") and not event.get("error_detail") and not event["event"].startswith("::"):
            console.print(f"  {event['event']}", style="dim", highlight=False, markup=False, soft_wrap=True)
        raised = (event.get("error_detail") or [])[:1]  # its causes follow; it is the one that names the fix
        errors += [f"{e['exc_type']}: {e['exc_value']}" for e in raised]
    for error in errors[-1:]:
        console.print(f"\n{error}", highlight=False, markup=False, soft_wrap=True)
    folder = f"dag_id={failure.dag_id}/run_id={failure.run_id}/task_id={task['task_id']}"
    lines = [
        f"log    {settings.logs}/tasks/{folder}",
        "fix    what the message names, then `make demo` again: what is published already is not made again",
        "look   `make up` shows this run in Airflow",
    ]
    console.print("\n  " + "\n  ".join(lines) + "\n", highlight=False, markup=False, soft_wrap=True)
