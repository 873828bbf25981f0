"""Tasks that score a study's texts: one, and before it, where 'meta_rater' is asked for, one per proxy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from palimpsest_airflow.tasks import study as stages
from palimpsest_airflow.tasks.common import Ref, opened, stage, work

if TYPE_CHECKING:
    from palimpsest.config import Study

INPUTS = ("split", "generations")
RED = "`proxy`: a mapped row is one of the small models that 'meta_rater' learns from; clear that row only. "


def words(study: Study) -> dict[str, str]:
    """What the Dag's page says of its scores; nothing where there are none."""
    proxies = "meta_rater" in study.selects
    scores = "scores/<method>, selection, alignment, " if study.selects else ""
    return {"scores": ("raters, proxies/<number>, " if proxies else "") + scores, "proxies": RED if proxies else ""}


def selected(study: Study, generations: Any) -> Any:
    """What *build* reads: the generations, scored where layouts or 'selection.methods' ask for it."""
    if not study.selects:
        return generations
    if "meta_rater" not in study.selects:
        return stages.select(study.name, generations)
    rated = rate(study.name, generations)
    numbers = list(range(study.selection.meta_rater.proxies))
    trained = proxy.partial(study=study.name, so_far=rated).expand(number=numbers)
    scored = stages.select(study.name, generations)
    trained >> scored
    return scored


@stage(pool="train")
def rate(study: str, so_far: dict[str, Ref]) -> dict[str, Ref]:
    """The scores that proxies weigh, of all texts but those over the target, on which the proxies are judged."""
    from palimpsest.config import load_study
    from training.selection.proxies import rate

    with work() as lake:
        return {**so_far, "raters": rate(load_study(study), lake, **_open(lake, so_far, *INPUTS)).ref}


@stage(pool="train", map_index_template="proxy {{ task.op_kwargs['number'] }}")
def proxy(study: str, so_far: dict[str, Ref], number: int) -> Ref:
    """A small model of what one mixture of the scores takes, and its loss on the target."""
    from palimpsest.config import load_study
    from training.selection.proxies import train

    with work() as lake:
        return train(load_study(study), lake, **_open(lake, so_far, *INPUTS, "raters"), number=number).ref


def _open(lake, refs: dict[str, Ref], *names: str) -> dict[str, Any]:
    return {name: opened(lake, refs[name]) for name in names}
