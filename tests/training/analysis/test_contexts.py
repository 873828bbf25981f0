from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palimpsest.lake import Facts, LakeError
from tests.training.analysis import planted
from training.analysis import markdown, publish
from training.analysis.contexts import compare_contexts

BUCKETS = [(0, 0), (1, 2), (3, 4), (5, 8), (9, 16)]
GAIN, GROWTH = 0.02, 0.01
"""Of stitched where there is one or two tokens of context, and what each doubling adds."""


def publish_read(lake, mix, seed, rng, *, documents=40, noise=0.002, digest=0):
    """What `training.contexts` publishes, of losses that are known: half the documents stop before the last bucket."""
    shifts = rng.normal(0, noise) + 0.05 * seed
    rows = []
    for number in range(documents):
        for place, (first, last) in enumerate(BUCKETS[: 4 if number % 2 else 5]):
            tokens = (last - first + 1) * (1 + number % 3) + digest
            loss = 4 - 0.3 * place + 0.1 * np.sin(number) + shifts
            if mix.startswith("stitched") and place:
                loss -= GAIN + GROWTH * (place - 1)
            named = "reports" if number < 10 else None
            rows.append({"document_id": f"d{number}", "set": named, "is_short": False, "is_long": number > 30,
                         "first": first, "last": last, "tokens": tokens, "nats": tokens * loss})  # fmt: skip
    facts = {"run": f"{mix}-s{seed}", "recipe": mix, "seed": seed, "context": 16, "sets": ["iid", "reports"]}
    return lake.publish(
        f"studies/planted/contexts/{mix}-s{seed}",
        lambda folder: pq.write_table(pa.Table.from_pylist(rows), folder / "contexts.parquet") or Facts(extra=facts),
        config={"digest": digest, "documents": documents},
    )


def gap_of(mix="stitched_8", against="simple_8"):
    return {"layout": "stitched", "against": "simple", "points": [{"mix": mix, "against": against}]}


@pytest.fixture
def found(lake):
    rng = np.random.default_rng(0)
    mixes = ("real", "simple_8", "stitched_8")
    verdicts = [publish_read(lake, mix, seed, rng) for mix in mixes for seed in (0, 1, 2)]
    return compare_contexts(planted.make_study(), verdicts, [gap_of(), gap_of(), gap_of("first_8")])


def test_loss_by_context_is_over_the_tokens_of_its_documents(found):
    assert [(row["mix"], row["set"]) for row in found["contexts"]] == [
        (mix, name) for mix in ("real", "simple_8", "stitched_8") for name in ("iid", "reports")
    ]
    row = found["contexts"][0]
    assert [(b["first"], b["last"]) for b in row["buckets"]] == BUCKETS and row["seeds"] == 3
    numbers = np.arange(10, 40)
    weights = 1 + numbers % 3
    expected = 4 - 0.3 + 0.1 * (np.sin(numbers) * weights).sum() / weights.sum() + 0.05
    assert row["buckets"][1]["loss"] == pytest.approx(expected, abs=0.005)
    assert row["buckets"][1]["documents"] == 30 > row["buckets"][4]["documents"] == 15
    assert row["buckets"][1]["spread"] == pytest.approx(0.05, abs=0.006)


def test_the_planted_gap_and_its_growth_with_context_are_found_seed_by_seed(found):
    (iid, reports) = found["context_gaps"]  # the pair asked for twice is there once, the one not read is not
    assert (iid["mix"], iid["against"], iid["set"], reports["set"]) == ("stitched_8", "simple_8", "iid", "reports")
    for number, bucket in enumerate(iid["buckets"]):
        truth = GAIN + GROWTH * (number - 1) if number else 0.0
        assert abs(bucket["gap"] - truth) <= bucket["margin"] and set(bucket["by_seed"]) == {"0", "1", "2"}
        assert bucket["margin"] < 0.03, "what seeds do to both alike is not noise"
        assert bucket["document_margin"] == pytest.approx(0, abs=1e-9)  # every document gains alike
    assert iid["slope"] == pytest.approx(GROWTH) and iid["slope_margin"] == pytest.approx(0, abs=1e-9)


def test_pages_and_mlflow_have_a_column_or_row_per_bucket(found):
    text = markdown.contexts(found)
    header = next(line for line in text.splitlines() if line.startswith("| mix"))
    assert header == "| mix | on | 0 | 1–2 | 3–4 | 5–8 | 9–16 |"
    assert "| stitched_8 against simple_8 | iid | " in text and "+0.0100 ± 0.0000 / 0.0000 |" in text
    assert markdown.contexts({"contexts": [], "context_gaps": []}) == ""
    lists = ("mixes", "gaps", "ablations", "laws", "lengths", "tasks", "signs", "runs", "sets", "rises", "resolution")
    empty = dict.fromkeys(lists, []) | {"long_context": "long"}
    tables = publish.tables({**empty, "ensembles": {}, "certificates": {}, "selection": {"layouts": []}, **found})
    assert tables["context_gaps.json"]["context tokens"] == ["0", "1–2", "3–4", "5–8", "9–16"] * 2
    assert len(tables["contexts.json"]["loss"]) == 6 * 5 and "cost.json" not in tables


def test_seeds_that_read_other_documents_are_refused(lake):
    rng = np.random.default_rng(1)
    verdicts = [publish_read(lake, "real", 0, rng), publish_read(lake, "real", 1, rng, digest=1)]
    with pytest.raises(LakeError, match="other documents of 'iid' than other seeds'"):
        compare_contexts(planted.make_study(), verdicts, [])
