"""Tasks of a study Dag: from published documents to a comparison of pre-training runs."""

from __future__ import annotations

import logging
from typing import Any

from airflow.sdk import get_current_context

from palimpsest_airflow.tasks import serving
from palimpsest_airflow.tasks.common import Ref, keep_guard, keep_links, keep_run, opened, stage, work

log = logging.getLogger(__name__)
Refs = dict[str, Ref]
"""Everything published so far in this run, by stage name; each task adds its own."""
GATED = ("split", "generations", "mixes")


@stage()
def plan(study: str) -> Refs:
    """Training and validation documents, every generation request with its content key, and what asking them costs."""
    from palimpsest.config import check_files, load_study
    from palimpsest.generate.plan import plan
    from palimpsest.split import split

    loaded = load_study(study)
    check_files(loaded)  # those of tasks and held-out sets are read only after everything has been generated
    serving.keep_generation_link(study)
    if loaded.judging.tasks:  # asked after days of training; what keeps them from it is said now
        from training.downstream import require

        require(loaded)
    with work() as lake:
        documents = corpora_versions(get_current_context(), loaded.corpora, lake)
        divided = split(loaded, lake, documents=documents)
        planned = plan(loaded, lake, split=divided)
        if serving.servers(loaded):
            serving.keep_estimate(loaded, lake, planned)
        return {"split": divided.ref, "plan": planned.ref}


@stage(pool="gpu", map_index_template="shard {{ task.op_kwargs['shard'] }}")
def generate(study: str, so_far: Refs, shard: int) -> dict[str, Any]:
    """What the generation ledger lacks of one shard; a shard that has everything costs nothing."""
    from palimpsest.config import load_study
    from palimpsest.generate.run import generate_shard

    loaded = load_study(study)
    serving.keep_generation_link(study)
    with work() as lake:
        serving.with_keys(loaded)
        return generate_shard(
            loaded,
            lake,
            **_open(lake, so_far, "split", "plan"),
            shard=shard,
            replay=serving.replayed(),
            began=serving.began(),
            progress=lambda progress: log.info("shard %d: %s", shard, progress.line()),
        )


@stage()
def collect(study: str, so_far: Refs, shards: list[dict[str, Any]]) -> Refs:
    """The plan's generations as one table, with counts of those that could not be made."""
    from palimpsest.config import load_study
    from palimpsest.generate.publish import publish_generations

    loaded = load_study(study)
    if serving.servers(loaded):  # what comes next may need the GPU, and stop_serving is nobody's predecessor
        serving.stop(study)
    with work() as lake:
        published = publish_generations(loaded, lake, **_open(lake, so_far, "split", "plan"))
        return {**so_far, "generations": published.ref}


@stage(pool="train")
def select(study: str, so_far: Refs) -> Refs:
    """Scores of documents and generations, for the layouts that take the best of them; what each cost is in the log."""
    from palimpsest.config import load_study
    from training.selection.stage import select, told

    with work() as lake:
        published = select(load_study(study), lake, **_open(lake, so_far, "split", "generations"))
        log.info("%s", told(published))
        return {**so_far, "selection": published.ref}


@stage(pool="dbt")
def build(study: str, so_far: Refs) -> Refs:
    """Megadocs of every layout and the mixes made of them (dbt)."""
    from palimpsest import align
    from palimpsest.config import load_study
    from palimpsest.mixes import build_mixes

    with work() as lake:
        scored = ["selection"] if "selection" in so_far else []
        inputs = _open(lake, so_far, "split", "plan", "generations", *scored)
        published = build_mixes(load_study(study), lake, **inputs)
        for line in align.told(lake, published).splitlines():
            log.info("%s", line)
        return {**so_far, "mixes": published.ref}


@stage(pool="train")
def probe(study: str, so_far: Refs) -> Refs:
    """What generated text costs a small neural model of real text (`guard.probe`), for the collapse guard to judge."""
    from palimpsest.config import load_study
    from training.probe import probe

    with work() as lake:
        published = probe(load_study(study), lake, **_open(lake, so_far, *GATED))
        return {**so_far, "probe": published.ref}


@stage()
def gate(study: str, so_far: Refs) -> Refs:
    """The verdict on generations, megadocs and mixes (Great Expectations); a critical failure stops before training.

    Where the collapse guard alone fails, and a person may answer for all of it, task `waive` asks.
    """
    from expectations.gate import gate_study
    from expectations.guard.history import publish_history
    from expectations.verdicts import GateFailed
    from palimpsest.config import load_study
    from training.verdicts import log_stopped

    loaded = load_study(study)
    keep_guard(study)
    with work() as lake:
        try:
            verdict = gate_study(loaded, lake, **_open(lake, so_far, *gated(so_far)))
        except GateFailed as failure:
            log_stopped(loaded, failure.record)
            if not failure.waivable:
                raise
            log.warning("%s", failure)
            get_current_context()["ti"].xcom_push("breaches", failure.waivable)
            get_current_context()["ti"].xcom_push("probes", failure.report)
            return so_far
        publish_history(loaded, lake)
        keep_guard(study, verdict.extra["data_docs"])
        return {**so_far, "gate": verdict.ref}


@stage()
def tokenize(study: str, so_far: Refs) -> list[dict[str, Any]]:
    """Token files of every stream, and one order per training run."""
    from palimpsest.config import load_study
    from training.pack import tokenize
    from training.pretrain import plan_runs
    from training.track import open_parent
    from training.verdicts import log_verdicts

    loaded = load_study(study)
    with work() as lake:
        inputs = _open(lake, so_far, "split", "mixes")
        refs = {**so_far, "tokens": tokenize(loaded, lake, **inputs).ref}
        parent = open_parent(loaded)
        log_verdicts(parent, loaded, opened(lake, so_far["gate"]))
        keep_run(parent)
        return [{"run": run, "parent": parent, "refs": refs} for run in plan_runs(loaded, inputs["mixes"])]


@stage(pool="train", map_index_template="{{ task.op_kwargs['order']['run']['run'] }}")
def train(study: str, order: dict[str, Any]) -> Ref:
    """One pre-training run from scratch, evaluated and read for early signs; a child of the study's MLflow run."""
    from palimpsest.config import load_study
    from training import tracked

    index = get_current_context()["ti"].map_index
    with work() as lake:
        inputs = _open(lake, order["refs"], "split", "tokens", "mixes")
        return tracked.train(load_study(study), lake, **inputs, order=order, map_index=index, begun=keep_run).ref


@stage()
def report(study: str, orders: list[dict[str, Any]], trained: list[Ref], judged: list[Ref]) -> Ref:
    """The comparison: how many times its real tokens each mix is worth; and the newest models' place in the trends."""
    from expectations.guard.history import publish_history
    from palimpsest.config import load_study
    from training import signs
    from training.analysis.report import report
    from training.verdicts import log_history

    loaded = load_study(study)
    parent = orders[0]["parent"]
    keep_links(Report=f"report/study_{study}/", MLflow=f"#/runs/{parent}")
    with work() as lake:
        refs, runs = orders[0]["refs"], [opened(lake, ref) for ref in trained]
        inputs = _open(lake, refs, "mixes", "generations", "gate", *(["search"] if "search" in refs else []))
        judgements = [*(opened(lake, ref) for ref in judged), *signs.of_runs(loaded, lake, runs)]
        publish_history(loaded, lake)
        log_history(parent, loaded, lake)
        return report(loaded, lake, **inputs, runs=runs, judged=judgements, parent_run_id=parent).ref


def corpora_versions(context, corpora: list[str], lake) -> list:
    """The documents that triggered the run, by the digest in their asset event; otherwise the newest admitted ones."""
    from palimpsest.documents import admitted_documents

    events = {asset.name: found[-1].extra for asset, found in (context.get("triggering_asset_events") or {}).items()}
    refs = {corpus: events.get(f"corpus_{corpus}") for corpus in corpora}
    return [opened(lake, ref) if ref else admitted_documents(corpus, lake) for corpus, ref in refs.items()]


def gated(so_far: Refs) -> tuple[str, ...]:
    """What the gate judges: data, and what the study's own probe made of it where it has one."""
    return (*GATED, "probe") if "probe" in so_far else GATED


def _open(lake, refs: Refs, *names: str) -> dict[str, Any]:
    return {name: opened(lake, refs[name]) for name in names}
