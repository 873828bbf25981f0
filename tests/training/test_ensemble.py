from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from palimpsest.lake import LakeError
from tests.training.judged import probabilities, publish_run
from training import ensemble, export
from training.ensemble import ensemble as judge_together


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch):
    monkeypatch.setattr(ensemble, "choose_device", lambda: torch.device("cpu"))


def documents(small):
    ids = np.fromfile(small.tokens.file("validation.bin"), small.tokens.extra["dtype"]).tolist()
    rows = pq.read_table(small.tokens.file("validation.index.parquet")).to_pylist()
    return [(row, ids[row["start"] : row["start"] + row["tokens"]]) for row in rows]


def test_the_loss_of_k_members_is_that_of_the_mean_of_their_probabilities(lake, small):
    members = [publish_run(lake, small, f"simple-s{seed}", seed=seed) for seed in (3, 1, 2)]
    published = judge_together(small.study, lake, tokens=small.tokens, mix="simple", members=members)
    rows = {(*row["runs"], row["set"]): row for row in pq.read_table(published.file("losses.parquet")).to_pylist()}
    names = ["simple-s3", "simple-s1", "simple-s2"]
    every = [chosen for size in (1, 2, 3) for chosen in combinations(names, size)]
    assert list(rows) == [(*chosen, name) for chosen in every for name in ("iid", "short", "long")]
    context = small.study.training.context
    found = documents(small)
    each = {n: [probabilities(r, ids, context) for _, ids in found] for n, r in zip(names, members, strict=True)}
    chosen = {"iid": lambda row: True, "short": lambda row: row["is_short"], "long": lambda row: row["is_long"]}
    for (*runs, name), row in rows.items():
        wanted = [place for place, (document, _) in enumerate(found) if chosen[name](document)]
        mean = torch.cat([sum(each[run][place] for run in runs) / len(runs) for place in wanted])
        assert row["loss"] == pytest.approx(-mean.log().mean().item(), abs=2e-5)
        assert (row["tokens"], row["members"]) == (len(mean), len(runs))
    size = export.load(members[0].path / "model").parameter_counts()["total"]
    assert [rows[*names[:k], "iid"]["parameters"] for k in (1, 2, 3)] == [size, 2 * size, 3 * size]
    assert rows[*names, "iid"]["loss"] < np.mean([rows[name, "iid"]["loss"] for name in names])  # Jensen
    assert published.extra["members"] == names


def test_choices_are_all_of_them_until_they_are_too_many():
    assert sum(1 for _ in ensemble.choices(10)) == 2**10 - 1
    many = list(ensemble.choices(12))
    assert len(many) == len(set(many)) < 2**12 and max(Counter(map(len, many)).values()) == ensemble.MOST
    assert all(any(member not in chosen for chosen in many if len(chosen) == 11) for member in range(12))


def test_equal_members_add_nothing(lake, small):
    members = [publish_run(lake, small, f"simple-s{copy}", seed=0) for copy in (0, 1)]
    published = judge_together(small.study, lake, tokens=small.tokens, mix="simple", members=members)
    rows = pq.read_table(published.file("losses.parquet")).to_pylist()
    alone = {row["set"]: row["loss"] for row in rows if row["members"] == 1}
    assert len(rows) == 9 and all(row["loss"] == pytest.approx(alone[row["set"]], abs=1e-12) for row in rows)


def test_one_member_is_an_error_that_names_the_mix_and_the_way_out(lake, small):
    with pytest.raises(LakeError, match=r"judging\.ensembles: mix 'simple' has 1 run.*training\.seeds"):
        judge_together(
            small.study, lake, tokens=small.tokens, mix="simple", members=[publish_run(lake, small, "simple-s0")]
        )


def test_what_was_judged_is_not_judged_again(lake, small, monkeypatch):
    members = [publish_run(lake, small, f"simple-s{seed}", seed=seed) for seed in (0, 1)]
    order = {"tokens": small.tokens, "mix": "simple", "members": members}
    first = judge_together(small.study, lake, **order)
    monkeypatch.setattr(ensemble, "_member", None)
    assert judge_together(small.study, lake, **order).uri == first.uri
