"""Tasks after the training of a study that judges its runs by more than held-out losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from palimpsest_airflow.tasks.common import Ref, opened, stage, work

if TYPE_CHECKING:
    from palimpsest.config import Study

JUDGED = "{{ task.op_kwargs['order']['judge'] }} {{ task.op_kwargs['order']['name'] }}"


def judges(study: Study) -> bool:
    """Whether the study's Dag has these tasks."""
    return bool(study.judging.ensembles or study.judging.contexts or study.judging.tasks)


def judged(study: Study, orders: Any, trained: Any) -> Any:
    """The chain plan_judging → judge (mapped)."""
    return judge.partial(study=study.name).expand(order=plan_judging(study.name, orders, trained))


@stage()
def plan_judging(study: str, orders: list[dict[str, Any]], trained: list[Ref]) -> list[dict[str, Any]]:
    """One order per ensemble of a mix's seeds, and per run whose loss by context or whose answers are asked for."""
    from palimpsest.config import load_study
    from training.judge import plan_judging

    refs = {order["run"]["run"]: ref for order, ref in zip(orders, trained, strict=True)}
    runs = [order["run"] for order in orders]
    planned = plan_judging(load_study(study), runs, {"tokens": orders[0]["refs"]["tokens"]})
    parent = orders[0]["parent"]
    return [{**order, "parent": parent, "trained": [refs[name] for name in order["runs"]]} for order in planned]


@stage(pool="train", map_index_template=JUDGED)
def judge(study: str, order: dict[str, Any]) -> Ref:
    """Losses of an ensemble at K = 1 .. seeds, or one run's loss by context, or its accuracy on downstream tasks."""
    from palimpsest.config import load_study
    from training.judge import judge

    with work() as lake:
        runs = [opened(lake, ref) for ref in order["trained"]]
        return judge(load_study(study), lake, tokens=opened(lake, order["refs"]["tokens"]), runs=runs, order=order).ref
