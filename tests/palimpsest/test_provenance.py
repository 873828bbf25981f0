"""Depth is computed: from the documents, and from what a generator was trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from palimpsest.config import ConfigError
from palimpsest.generate.plan import plan
from palimpsest.generate.publish import publish_generations
from palimpsest.generate.run import generate_shard
from palimpsest.lake import Facts, Lake, LakeError
from palimpsest.provenance import LINEAGE, Generator, generator_of, write_lineage
from palimpsest.split import split
from tests.palimpsest.generate.test_models import write_model
from tests.palimpsest.generate.test_plan import model, vllm_study  # noqa: F401


def publish_run(lake: Lake, folder: Path, depth: int | None, *, lineage: bool = True):
    """A run of study 'old' whose mix has texts of this depth."""
    told = {"lineage": {"simple": {"depth": depth, "real_tokens": 1.0}}}
    mixes = lake.publish("studies/old/mixes", lambda directory: Facts(extra=told))
    tokens = lake.publish("studies/old/tokens", lambda directory: Facts(), parents=[mixes])
    exported = write_model(folder / "model")

    def write(directory: Path) -> Facts:
        (directory / "model").mkdir()
        for file in exported.iterdir():
            (directory / "model" / file.name).write_bytes(file.read_bytes())
        if lineage:
            write_lineage(directory / "model", tokens, "simple")
        return Facts()

    return mixes, lake.publish("studies/old/runs/simple-s0", write, parents=[tokens])


@pytest.mark.parametrize(("depth", "then"), [(0, 1), (1, 2), (2, 3), (None, None)])
def test_a_model_trained_here_adds_one_to_the_depth_of_its_mix(lake, tmp_path, vllm_study, depth, then):  # noqa: F811
    mixes, run = publish_run(lake, tmp_path / "old", depth)
    study = vllm_study(server={"model": "run:old/simple-s0"})
    found = generator_of(study, "asked", "weights:x", lake)
    assert (found.mix, found.recipe, found.depth, found.self_consuming) == (mixes.uri, "simple", depth, True)
    assert found.depth_of_text(0) == then
    copied = vllm_study(server={"model": str(run.path / "model")})
    assert generator_of(copied, "asked", "weights:x", lake) == found


def test_a_run_without_lineage_has_no_depth(lake, tmp_path, vllm_study):  # noqa: F811
    publish_run(lake, tmp_path / "old", 1, lineage=False)
    found = generator_of(vllm_study(server={"model": "run:old/simple-s0"}), "asked", "weights:x", lake)
    assert (found.depth, found.self_consuming) == (None, True)


def test_a_forged_lineage_of_a_run_is_found(lake, tmp_path, vllm_study):  # noqa: F811
    _, run = publish_run(lake, tmp_path / "old", 2)
    file = run.path / "model" / LINEAGE
    file.write_text(json.dumps(json.loads(file.read_text()) | {"depth": 0}))
    with pytest.raises(LakeError, match="no longer matches its manifest"):
        generator_of(vllm_study(server={"model": "run:old/simple-s0"}), "asked", "weights:x", lake)


def test_lineage_does_not_make_another_model_of_the_same_weights(lake, tmp_path, vllm_study):  # noqa: F811
    from palimpsest.generate.models import folder_digest

    folder = write_model(tmp_path / "plain")
    before = folder_digest(folder, "model")
    (folder / LINEAGE).write_text("{}")
    assert folder_digest(folder, "model") == before


def test_text_of_a_deep_document_is_deeper():
    assert Generator("m").depth_of_text(3) == 4
    assert Generator("m", "mix", "r", "d", 1).depth_of_text(3) == 4
    assert Generator("m", "mix", "r", "d", 4).depth_of_text(3) == 5


def test_every_generation_says_where_it_comes_from(lake, study, documents):
    parts = split(study, lake, documents=[documents])
    planned = plan(study, lake, split=parts)
    for shard in range(study.shards):
        generate_shard(study, lake, split=parts, plan=planned, shard=shard)
    rows = pq.read_table(
        publish_generations(study, lake, split=parts, plan=planned).file("generations.parquet")
    ).to_pylist()
    assert {row["origin"] for row in rows} == {"synthetic"}
    assert {row["depth"] for row in rows} == {1}
    assert {(row["grounded"], row["self_consuming"], row["generator_mix"]) for row in rows} == {(True, False, None)}
    assert all(row["seed_document_ids"] == [row["document_id"]] for row in rows)
    verdicts = {(row["kind"], row["verifier"] == "none", row["verdict"]) for row in rows}
    assert ("augment", True, "not_reviewed") in verdicts
    assert all(done == "not_reviewed" for kind, _, done in verdicts if kind == "augment")
    assert {row["verifier"].split(":")[0] for row in rows if row["kind"] == "rephrase"} == {"review"}


def test_a_lineage_file_that_is_no_lineage_is_named(tmp_path, vllm_study, lake):  # noqa: F811
    folder = write_model(tmp_path / "model2")
    (folder / LINEAGE).write_text('{"mix": "x"}')
    with pytest.raises(LakeError, match="lacks its mix or depth") as failure:
        generator_of(vllm_study(server={"model": str(folder)}), "asked", "weights:x", lake)
    assert not isinstance(failure.value, ConfigError)
