"""Tasks of a searched study: waves of runs whose results decide the next wave, then the final runs.

A Dag cannot grow while it runs, so it has as many waves as the study allows (`max_waves`). A wave with nothing left to
run is skipped, and with it all that follow. What has run is known by the lake, not by the Dag run: whatever is cleared
or triggered again finds it there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import TaskGroup, TriggerRule, get_current_context

from palimpsest_airflow.tasks.common import Ref, keep_run, opened, stage, work

if TYPE_CHECKING:
    from palimpsest.config import Study
    from palimpsest.lake import Lake, Published

WORDS = {
    "search": "finds the best settings of each mix in waves of runs (group *search*), ",
    "more": "search, diverged/<run>, ",
    "red": "`search.train_N`: as `train`, but a run that diverges is a result. `search.choose`: all points of a mix "
    "diverged; start at a lower learning rate. A wave that is skipped was not needed. ",
}
RUN = "{{ task.op_kwargs['order']['run']['run'] }}"


def words(study: Study) -> dict[str, str]:
    """What the Dag's page says of its search; nothing where there is none."""
    return WORDS if study.search else dict.fromkeys(WORDS, "")


def waves(study: Study, checked: Any) -> Any:
    """The chain tokenize → (decide → train) for every wave → choose, which returns the orders of the final runs."""
    begun = tokenize(study.name, checked)
    trained = None
    with TaskGroup("search", tooltip="Waves of runs; each looks at the results of all before it."):
        chosen = choose(study.name, begun)
        for number in range(1, (1 if study.search.method == "grid" else study.search.max_waves) + 1):
            orders = decide.override(task_id=f"decide_{number}")(study.name, begun)
            if trained is not None:
                trained >> orders
            trained = train.override(task_id=f"train_{number}").partial(study=study.name).expand(order=orders)
            trained >> chosen
    return chosen


@stage()
def tokenize(study: str, so_far: dict[str, Ref]) -> dict[str, Any]:
    """Token files of every stream."""
    from palimpsest.config import load_study
    from training.pack import tokenize
    from training.track import open_parent
    from training.verdicts import log_verdicts

    loaded = load_study(study)
    with work() as lake:
        tokens = tokenize(loaded, lake, **{name: opened(lake, so_far[name]) for name in ("split", "mixes")})
        parent = open_parent(loaded)
        log_verdicts(parent, loaded, opened(lake, so_far["gate"]))
        keep_run(parent)
        return {"parent": parent, "refs": {**so_far, "tokens": tokens.ref}}


@stage()
def decide(study: str, begun: dict[str, Any]) -> list[dict[str, Any]]:
    """The runs that the searches need next, by the results so far; none when all have ended."""
    from palimpsest.config import load_study
    from training.waves import wave

    with work() as lake:
        return [{**order, **begun} for order in wave(load_study(study), lake, **_inputs(lake, begun))]


@stage(pool="train", map_index_template=RUN)
def train(study: str, order: dict[str, Any]) -> Ref:
    """The run at one point of a search.

    One whose loss diverges is an answer too: the task succeeds, its run in MLflow has failed.
    """
    from palimpsest.config import load_study
    from training import tracked

    index = get_current_context()["ti"].map_index
    with work() as lake:
        inputs = _inputs(lake, order)
        return tracked.train_point(load_study(study), lake, **inputs, order=order, map_index=index, begun=keep_run).ref


@stage(trigger_rule=TriggerRule.NONE_FAILED)
def choose(study: str, begun: dict[str, Any]) -> list[dict[str, Any]]:
    """The best point of every mix with its certificate, and one order per final run: each seed at the best points."""
    from palimpsest.config import load_study
    from training.waves import choose, final_orders

    loaded = load_study(study)
    with work() as lake:
        inputs = _inputs(lake, begun)
        published = choose(loaded, lake, **inputs)
        refs = {**begun["refs"], "search": published.ref}
        return [{**order, **begun, "refs": refs} for order in final_orders(loaded, inputs["mixes"], published)]


def _inputs(lake: Lake, order: dict[str, Any]) -> dict[str, Published]:
    return {name: opened(lake, order["refs"][name]) for name in ("tokens", "mixes")}
