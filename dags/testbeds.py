"""A Dag per testbed, on which ways to select are held against what was measured before."""

from __future__ import annotations

import datetime as dt

from airflow.sdk import dag

from palimpsest_airflow.tasks import common, testbed

PARTS = "`worth`, `simple`, `rated`, `influence`, `pvm`, `mts`, `loss`"
TESTBEDS = {
    "digits": {
        "about": "Which ways to select find good digits among bad ones",
        "what": "Scikit-learn's digits, 4,000 generated ones of known quality among them: noise of the gradient that "
        "weights are learned by, what features tell, accuracy of every arm; minutes of one thread per seed",
        "reads": "nothing but scikit-learn's digits",
        "writes": "`quality`, `noise`, `simple`, `learned`, `batches`",
        "seeds": 10,
    },
    "docs": {
        "about": "Which scores find clean documentation among degraded texts",
        "what": "CPython's help topics and docstrings, half of what is chosen from degraded in known ways: perplexity "
        "of a word trigram of what each score keeps, at one budget of tokens; minutes of one thread per seed",
        "reads": "nothing but the documentation of the Python that runs it",
        "writes": f"`texts`, {PARTS}",
        "seeds": 5,
    },
    "web": {
        "about": "Which scores find clean web text among degraded and generated texts",
        "what": "Passages of real web pages, half of what is chosen from degraded in known ways or generated: "
        "perplexity of a word trigram of what each score keeps, at one budget of tokens; minutes of one thread a seed",
        "reads": "the web text of the data folder (`PALIMPSEST_DATA`, files text/web_train-*.parquet), and the "
        "rephrases of the sample",
        "writes": f"`texts`, {PARTS}",
        "seeds": 5,
    },
    "translations": {
        "about": "Which scores find the translations that help most with another one",
        "what": "Passages in eight translations to choose from, where a ninth of other passages is the target: "
        "perplexity of a word trigram of what each score keeps, at one budget of tokens; minutes of one thread a seed",
        "reads": "the translations of the data folder (`PALIMPSEST_DATA`, translations/translations.parquet)",
        "writes": f"`texts`, {PARTS}",
        "seeds": 5,
    },
}
DOC = """
{about}: learned weights (MTS), their baselines, and simpler ways.

**What** {what}; {seeds} seeds.

**Reads** {reads}

**Writes** (lake, `testbeds/{name}/`) {writes} per seed, and `report`; `testbeds/report` has all testbeds side by
side; (MLflow) experiment `testbed_{name}`. `python -m training testbed {name} --seeds {seeds}` then copies the pages to
`docs/results`.

**When it is red** `measure`: the log's last line says what; what is published is not measured again, so clear the task.
"""


def build(name: str, told: dict):
    @dag(
        dag_id=f"testbed_{name}",
        description=told["about"],
        doc_md=DOC.format(name=name, **told),
        schedule=None,
        start_date=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        catchup=False,
        max_active_runs=1,
        default_args={**common.DEFAULTS, "owner": "pretraining"},
        tags=["testbed"],
    )
    def pipeline():
        testbed.measure.partial(name=name).expand(seed=list(range(told["seeds"]))) >> testbed.report(name)

    return pipeline()


for name, told in TESTBEDS.items():
    build(name, told)
