"""One Dag per file in dags/corpora: web pages in, documents out, one data interval at a time."""

from __future__ import annotations

import datetime as dt

from airflow.sdk import Asset, Param, dag

from palimpsest_airflow import definitions
from palimpsest_airflow.tasks import common, corpus

DOC = """
{description}

**What** Extracts the web pages of the run's days, filters and deduplicates all days' pages into documents, checks
them, and publishes them for the studies. File: `dags/corpora/{name}.yaml`.

**Reads** `{files}`

**Writes** (lake) `corpora/{name}/pages/<day>`, `corpora/{name}/documents`, `corpora/{name}/gate`; asset `corpus_{name}`

**Summary** Tab *Funnel*: each day's records, what was quarantined and dropped, documents, words; and the reasons. The
log of `documents` ends with the same for the run's days.

**Run** {run}

**When it is red** Open the failed task's log; its last line names the file and the fix.
`fetch` (of a corpus whose files lie elsewhere): the log names each file that is missing or damaged, and where. What
came is kept: clear the task and it goes on from there.
`extract`: a source file is missing or damaged; correct `source.files`, clear the task.
`documents`: a dbt test failed; its name and rows are in the log.
`gate`: the table in the log says what was expected and found; see Data Docs, then change the rule or the data.
Clear the failed task to go on: what is published already is not made again.
"""

RUN = """A data interval's run takes its days. Trigger by hand with `from` and `to` to take a range in one run, or
without them for {start} to {end}. Backfill: in the UI, or `airflow backfill create --dag-id corpus_{name} --from-date
{start} --to-date {end}` (locally `make airflow ARGS="backfill create …"`). Days already extracted cost nothing."""
RUN_CRAWL = """Every run makes a crawl of its own, now, whatever its data interval, and takes all days of which a crawl
captured pages: what an earlier run did not get to is caught up on, days already extracted are not extracted again.
Trigger by hand with `from` and `to` to take only pages captured in that range. A backfill would only crawl again."""


def build(c):
    midnight = dt.time(tzinfo=dt.UTC)
    run = (RUN_CRAWL if c.source.kind == "crawl" else RUN).format(name=c.name, start=c.start, end=c.end)
    doc = DOC.format(
        **c.model_dump(include={"name", "description"}),
        run=run,
        files=", ".join(c.source.files) or c.source.kind,
    )
    own = "all days crawled" if c.source.kind == "crawl" else "the run's own interval"
    day = {"type": ["null", "string"], "format": "date"}

    @dag(
        dag_id=f"corpus_{c.name}",
        description=c.description,
        doc_md=doc,
        schedule=definitions.timetable(c),
        start_date=dt.datetime.combine(c.start, midnight),
        end_date=dt.datetime.combine(c.end, midnight),
        catchup=False,
        max_active_runs=1,
        params={
            "from": Param(None, **day, description=f"First day to take; empty: {own}"),
            "to": Param(None, **day, description="Last day to take, inclusive"),
        },
        default_args={**common.DEFAULTS, "owner": c.owner},
        tags=["corpus", c.name],
    )
    def pipeline():
        pages = corpus.extract(c.name, corpus.fetch(c.name)) if c.source.is_remote else corpus.extract(c.name)
        documents = corpus.documents(c.name, pages)
        verdict = corpus.gate(c.name, documents)
        asset = Asset(f"corpus_{c.name}", uri=f"palimpsest://lake/corpora/{c.name}/documents", group="corpus")
        corpus.publish.override(outlets=[asset])(documents, verdict)

    return pipeline()


for found in definitions.corpora():
    build(found)
