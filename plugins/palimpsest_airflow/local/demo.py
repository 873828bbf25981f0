"""The main job on the sample, end to end through the real scheduler: WARC in, comparison of pre-training runs out."""

from __future__ import annotations

import json
import time

import psutil
from rich.console import Console

from palimpsest.config import Corpus, Study, load_corpus, load_study
from palimpsest.lake import Lake, Published
from palimpsest_airflow.local import stack, unchanged
from palimpsest_airflow.local.pools import pools
from palimpsest_airflow.local.progress import Display
from palimpsest_airflow.local.runs import Following, RunFailed, trigger, triggered_by, wait_for_dags
from palimpsest_airflow.local.settings import Settings

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
        seen, ready = run(settings, corpus, study, display)
    except RunFailed as failure:
        show_failure(console, failure, settings)
        return 1
    published = lake.latest(f"studies/{STUDY}/report")
    unchanged.remember(memory, wanted, published)
    show_report(console, published, settings)
    show_split(console, seen, ready)
    return 0


def run(settings: Settings, corpus: Corpus, study: Study, display: Display) -> tuple[Following, float]:
    """Both Dag runs to their end; what was seen of them, and when Airflow was ready (Unix seconds)."""
    corpus_dag, study_dag = f"corpus_{corpus.name}", f"study_{study.name}"
    with display.shown():
        display.say("starting Airflow")
        with stack.running_stack(settings) as (api, _):
            try:
                wait_for_dags(api, [corpus_dag, study_dag])
                ready = time.time()
                display.say(f"Airflow is up at {settings.airflow_url}")
                api.patch(f"dags/{study_dag}", {"is_paused": False})
                run_id = trigger(api, corpus_dag, {"from": str(corpus.start), "to": str(corpus.end)})
                _watch(api, corpus_dag, run_id, display)
                display.say("waiting for the asset to start the study")
                study_run = next(found for found in triggered_by(api, corpus_dag, run_id, study_dag) if found)
                display.say(f"{study_dag} was started by the asset of {corpus_dag}")
                _watch(api, study_dag, study_run, display)
            except RunFailed as failure:
                failure.log = api.log(failure.task) if failure.task else []
                raise
    return display.seen, ready


def plan(study: Study, corpus: Corpus) -> dict[tuple[str, str], tuple[int, int]]:
    """Every stage of both Dags in order: instances, and how many run at a time."""
    slots = {name: int(pool["slots"]) for name, pool in pools().items()}
    trainings = (len(study.mixes) + len(study.training.reference_shares)) * len(study.training.seeds)
    several = {"generate": (study.shards, slots["gpu"]), "train": (trainings, slots["train"])}
    tasks = {
        f"corpus_{corpus.name}": ("extract", "documents", "gate", "publish"),
        f"study_{study.name}": ("plan", "generate", "collect", "build", "gate", "tokenize", "train", "report"),
    }
    return {(dag, task): several.get(task, (1, 1)) for dag, names in tasks.items() for task in names}


def show_report(console: Console, published: Published, settings: Settings) -> None:
    from training.report import render_table

    console.print(render_table(json.loads(published.file("table.json").read_text())), highlight=False, markup=False)
    lake = settings.lake
    console.print(
        f"\n  report      {published.file('report.html')}\n  data        {lake}\n  task logs   {settings.logs / 'tasks'}\n\n"
        f"  make up                                     Airflow, MLflow, Data Docs, dbt docs on this state\n"
        f"  python -m palimpsest trace URL              everything made of one page\n"
        f"  duckdb -c \"from '{lake}/studies/{STUDY}/generations/*/generations.parquet' limit 5\"\n",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def show_split(console: Console, seen: Following, ready: float) -> None:
    """Wall clock in two parts: some task was at its own work, or nothing but processes starting and waiting."""
    began, now = psutil.Process().create_time(), time.time()
    own, reached = 0.0, 0.0
    for start, end in sorted(seen.work.values()):
        own += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    wall = now - began
    last = max((end for _, end in seen.work.values()), default=ready)
    between = last - ready - own
    console.print(
        f"{wall:.0f} s in all: {own:.0f} s ({own / wall:.0%}) the stages' own work, {wall - own:.0f} s start-up "
        f"(Airflow {ready - began:.0f} s, tasks {between:.0f} s, end {now - last:.0f} s); "
        f"the {len(seen.work)} tasks worked {sum(e - s for s, e in seen.work.values()):.0f} s in parallel",
        highlight=False,
        soft_wrap=True,
    )


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
        if event.get("timestamp") and not event.get("error_detail"):
            console.print(f"  {event['event']}", style="dim", highlight=False, markup=False)
        errors += [f"{e['exc_type']}: {e['exc_value']}" for e in event.get("error_detail") or []]
    for error in errors[-1:]:
        console.print(f"\n{error}", highlight=False, markup=False, soft_wrap=True)
    folder = f"dag_id={failure.dag_id}/run_id={failure.run_id}/task_id={task['task_id']}"
    console.print(
        f"\n  log    {settings.logs}/tasks/{folder}\n  fix    what the message names, then `make demo` again: what is published "
        "already is not made again\n  look   `make up` shows this run in Airflow\n",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
