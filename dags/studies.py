"""One Dag per file in dags/studies: documents in, a comparison of pre-training runs out."""

from __future__ import annotations

import datetime as dt

from airflow.sdk import Asset, AssetAny, dag

from palimpsest.config import loops_dir
from palimpsest_airflow import definitions
from palimpsest_airflow.tasks import common, judging, search, selecting, serving, study, waive

DOC = """
{description}

**What** Plans and runs the generations, lays them out as megadocs and mixes, checks these, {search}trains one model per
recipe and seed, and reports how many times its real tokens each mix is worth. File: `dags/studies/{name}.yaml`.

**Reads** asset{plural} {assets}

**Writes** (lake) `studies/{name}/` split, plan, generations, {scores}mixes, gate, tokens, runs/<run>,
{more}report; (MLflow) experiment `{name}`

**When it is red** Open the failed task's log; its last line names the file and the fix.
`plan`: the study file or a file it names is wrong. `approve` (studies with model servers): waits for an answer under
*Required Actions*, or was rejected. `serve`: the server's own last lines are in the log. `generate`: an engine is away
(tried again by itself) or the recordings do not fit; the button *Generation* shows servers, cost and failed requests,
which a run with `replay` asks again. {proxies}`build`: a dbt test failed; its name and rows are in the log.
`gate`: the table in the log says what was expected and found; see Data Docs, then change the study or its `gates`.
`waive`: the collapse guard found too little real text or too much of a model's own; it waits for an answer under
*Required Actions*, or was rejected (docs/guard.md).
`train`: a mapped row is one run; clear that row only. {red}Clear the failed task to go on: what is published already
is not made again, and no generation is paid twice.
"""


def schedule(s):
    if s.schedule == "on_corpora":
        return AssetAny(
            *(Asset(f"corpus_{name}", uri=f"palimpsest://lake/corpora/{name}/documents") for name in s.corpora)
        )
    return None if s.schedule == "manual" else definitions.timetable(s)


def build(s):
    assets = ", ".join(f"`corpus_{name}`" for name in s.corpora)
    plural = "s" * (len(s.corpora) > 1)
    is_round = s.path.parent == loops_dir()
    words = search.words(s) | selecting.words(s)
    doc = DOC.format(name=s.name, description=s.description, assets=assets, plural=plural, **words)

    @dag(
        dag_id=f"study_{s.name}",
        description=s.description,
        doc_md=doc,
        schedule=schedule(s),
        start_date=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        catchup=False,
        max_active_runs=1,
        params=serving.params(s),
        default_args={**common.DEFAULTS, "owner": s.owner},
        tags=["study", *s.corpora, *(["loop"] if is_round else [])],
        is_paused_upon_creation=False if is_round else None,  # its loop alone says when it runs
    )
    def pipeline():
        planned = study.plan(s.name)
        shards = study.generate.partial(study=s.name, so_far=planned).expand(shard=list(range(s.shards)))
        generations = study.collect(s.name, planned, shards)
        if serving.servers(s):
            serving.around(s.name, planned, shards)
        texts = selecting.selected(s, generations)
        checked = waive.checked(s, study.build(s.name, texts))
        orders = search.waves(s, checked) if s.search else study.tokenize(s.name, checked)
        trained = study.train.partial(study=s.name).expand(order=orders)
        judged = judging.judged(s, orders, trained) if judging.judges(s) else []
        study.report(s.name, orders, trained, judged)

    return pipeline()


for found in definitions.studies():
    build(found)
