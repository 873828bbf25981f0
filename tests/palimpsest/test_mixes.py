from __future__ import annotations

import json
import math
import shutil
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palimpsest import tokenizer as tok
from palimpsest import warehouse
from palimpsest.generate.plan import plan
from palimpsest.generate.publish import publish_generations
from palimpsest.generate.run import generate_shard
from palimpsest.lake import Facts, Lake, LakeError
from palimpsest.mixes import MARKS, build_mixes, tables_of
from palimpsest.split import split
from tests.palimpsest.conftest import document, publish_documents, write_study


def build(study, lake, documents):
    parts = split(study, lake, documents=[documents])
    planned = plan(study, lake, split=parts)
    for shard in range(study.shards):
        generate_shard(study, lake, split=parts, plan=planned, shard=shard)
    generations = publish_generations(study, lake, split=parts, plan=planned)
    return parts, build_mixes(study, lake, split=parts, plan=planned, generations=generations)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def built(study, parsed_dbt, tmp_path_factory):
    """One build that the tests below look at from every side."""
    folder = tmp_path_factory.mktemp("built")
    (folder / "dbt").symlink_to(parsed_dbt)
    lake = Lake(folder / "lake")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PALIMPSEST_STATE", str(folder))
        parts, mixes = build(study, lake, publish_documents(lake))
    tables = {
        name: pq.read_table(mixes.file(f"{name}.parquet")).to_pylist()
        for name in ("megadoc_parts", "megadocs", "mixes", "mix_shares")
    }
    published = {"split": parts, "plan": lake.latest("studies/small/plan")}
    published["generations"] = lake.latest("studies/small/generations")
    tables["inputs"] = tables_of(study, folder, **published)
    tables["lineage"] = mixes.extra["lineage"]
    tables["documents"] = {r["document_id"]: r for r in pq.read_table(parts.file("train.parquet")).to_pylist()}
    tables["held_out"] = set(pq.read_table(parts.file("validation.parquet"))["document_id"].to_pylist())
    tables["tokenizer"] = tok.load(parts.file("tokenizer.json"))
    return tables


def parts_of(built, layout, document_id=None):
    rows = [r for r in built["megadoc_parts"] if r["layout"] == layout]
    return [r for r in rows if document_id in (None, r["document_id"])]


def test_token_counts_are_those_of_what_is_laid_out(built):
    for row in built["megadoc_parts"]:
        assert row["tokens"] == len(built["tokenizer"].encode(row["text"]).ids) + row["ends_row"], row


def test_simple_and_stitched_hold_the_same_rows_in_another_order(built):
    simple, stitched = (parts_of(built, layout) for layout in ("simple", "stitched"))
    assert Counter((r["text"], r["tokens"]) for r in simple) == Counter((r["text"], r["tokens"]) for r in stitched)
    assert [r["text"] for r in simple] != [r["text"] for r in stitched]


@pytest.mark.parametrize(
    ("layout", "kinds"),
    [
        ("stitched", ["rephrase", "rephrase", "rephrase", "real"]),
        ("front", ["real", "rephrase", "rephrase"]),
        ("bare", ["rephrase", "rephrase", "rephrase"]),
        ("stretched", ["slice", "rationale", "slice", "rationale", "slice"]),
    ],
)
def test_a_megadoc_has_its_parts_in_the_layouts_order(built, layout, kinds):
    complete = next(d for d, row in built["documents"].items() if row["url"].endswith("/9"))
    rows = parts_of(built, layout, complete)
    assert [r["kind"] for r in rows] == kinds
    assert [r["part"] for r in rows] == list(range(len(kinds)))
    assert len({r["position"] for r in rows}) == 1
    samples = [r["g"] for r in rows if r["kind"] in ("rephrase", "rationale")]
    assert samples == sorted(samples)


def test_a_stretched_megadoc_without_its_rationales_is_the_document(built):
    for document_id, row in built["documents"].items():
        parts = parts_of(built, "stretched", document_id)
        assert "".join(p["text"] for p in parts if p["kind"] == "slice") == row["text"]
        assert [p["ends_row"] for p in parts] == [False] * (len(parts) - 1) + [True]


def test_a_document_without_generations_stands_as_itself(built):
    lonely = next(d for d, row in built["documents"].items() if row["url"].endswith("/7"))
    assert [r["kind"] for r in parts_of(built, "stitched", lonely)] == ["real"]
    assert {r["kind"] for r in parts_of(built, "stretched", lonely)} == {"slice"}


def test_megadocs_are_their_parts_joined_and_counted(built):
    for megadoc in built["megadocs"]:
        parts = [
            r
            for r in built["megadoc_parts"]
            if (r["layout"], r["position"]) == (megadoc["layout"], megadoc["position"])
        ]
        assert megadoc["text"] == "".join(r["text"] + tok.BOUNDARY * r["ends_row"] for r in parts)
        assert (
            megadoc["tokens"] == sum(r["tokens"] for r in parts) == megadoc["real_tokens"] + megadoc["synthetic_tokens"]
        )


def test_the_mix_manifest_follows_the_rule_of_steps(built, study):
    mixes = {(r["recipe"], r["is_synthetic"]): r for r in built["mixes"]}
    tokens = {layout: sum(r["tokens"] for r in parts_of(built, layout)) for layout in ("real", "simple")}
    windows = math.ceil(tokens["real"] / 32)
    real, synthetic = mixes["simple", False], mixes["simple", True]
    assert real["windows"] == windows
    assert real["steps_per_real_epoch"] == windows // 4
    assert real["steps"] == math.floor((windows // 4) * 2 / 0.25)
    assert real["stream_sequences"] + synthetic["stream_sequences"] == real["steps"] * 4
    assert synthetic["windows"] == math.ceil(tokens["simple"] / 32)
    assert synthetic["passes"] == pytest.approx(synthetic["stream_sequences"] / synthetic["windows"])
    assert synthetic["realised_fraction"] == pytest.approx(0.75, abs=0.01)
    assert real["stream_tokens"] == tokens["real"]


def test_a_cap_and_a_share_take_the_first_whole_megadocs(built):
    mixes = {(r["recipe"], r["is_synthetic"]): r for r in built["mixes"]}
    lengths = [r["tokens"] for r in built["megadocs"] if r["layout"] == "stitched"]
    capped, total = mixes["stitched", True], 0
    for count, length in enumerate(lengths):  # noqa: B007
        if total + length > 900:
            break
        total += length
    assert (capped["stream_megadocs"], capped["stream_tokens"]) == (count, total)
    half = mixes["real_0p5", False]
    assert (half["role"], half["share"], half["stream_megadocs"]) == ("reference", 0.5, 10)


def test_no_held_out_document_is_in_any_stream(built):
    assert len(built["held_out"]) == 4
    assert not built["held_out"] & {r["document_id"] for r in built["megadoc_parts"]}


def test_the_layouts_seed_alone_decides_the_order(lake, make_study, documents, study):
    _, first = build(make_study(), lake, documents)
    layouts = {name: layout.model_dump() for name, layout in study.layouts.items()}
    layouts["simple"]["seed"] = 1
    _, other = build(make_study(layouts=layouts), lake, documents)

    def order(mixes, layout):
        rows = pq.read_table(mixes.file("megadocs.parquet")).to_pylist()
        return [r["megadoc_id"] for r in rows if r["layout"] == layout]

    assert order(first, "stitched") == order(other, "stitched")
    assert order(first, "simple") != order(other, "simple")
    assert sorted(order(first, "simple")) == sorted(order(other, "simple"))


def test_a_corpus_too_small_for_one_batch_is_refused_with_the_setting_to_lower(lake, make_study, documents, study):
    training = {**study.training.model_dump(), "batch": 4096}
    with pytest.raises(LakeError, match=r"recipe 'real' would train for no step.*lower training.batch"):
        build(make_study(training=training), lake, documents)


def test_a_reserve_is_for_the_reference_alone(lake, make_study, documents, study):
    training = {**study.training.model_dump(), "batch": 1, "reference_shares": [0.25, 0.5, 1.0]}
    scarce = make_study(real_share=0.5, training=training)
    parts, mixes = build(scarce, lake, documents)
    train = pq.read_table(parts.file("train.parquet")).to_pylist()
    reserve = {row["document_id"] for row in train if row["is_reserve"]}
    assert len(reserve) == 10
    rows = pq.read_table(mixes.file("megadoc_parts.parquet")).to_pylist()
    assert {row["layout"] for row in rows if row["document_id"] in reserve} == {"real"}
    assert {row["document_id"] for row in rows if row["layout"] == "simple"} == {
        row["document_id"] for row in train if not row["is_reserve"]
    }
    real = sorted((row for row in rows if row["layout"] == "real"), key=lambda row: row["position"])
    assert [row["document_id"] in reserve for row in real] == [False] * 10 + [True] * 10
    planned = pq.read_table(mixes.file("mixes.parquet")).to_pylist()
    streams = {row["recipe"]: row for row in planned if not row["is_synthetic"]}
    assert {name: row["stream_megadocs"] for name, row in streams.items()} == {
        "real": 10, "simple": 10, "stitched": 10, "real_0p25": 5, "real_1": 20
    }  # fmt: skip
    assert streams["simple"]["stream_tokens"] == sum(row["tokens"] for row in real[:10])


def test_what_a_recipe_is_trained_on_is_told_by_domain_and_origin(built):
    """Counted here from the parts of the capped stream alone: its first whole megadocs, as often as they are passed."""
    capped = next(r for r in built["mixes"] if (r["recipe"], r["is_synthetic"]) == ("stitched", True))
    real = next(r for r in built["mixes"] if (r["recipe"], r["is_synthetic"]) == ("stitched", False))
    expected = Counter()
    for stream in (capped, real):
        for part in parts_of(built, stream["layout"]):
            if part["position"] < stream["stream_megadocs"]:
                times = stream["trained_tokens"] / stream["stream_tokens"]
                key = (built["documents"][part["document_id"]]["site"], part["kind"] == "rephrase")
                expected[key] += part["tokens"] * times
    rows = [r for r in built["mix_shares"] if r["recipe"] == "stitched"]
    assert {(r["domain"], r["grounded"]): r["trained_tokens"] for r in rows} == pytest.approx(dict(expected))
    assert {(r["origin"], r["depth"], r["self_consuming"]) for r in rows} == {
        ("real", 0, False),
        ("synthetic", 1, False),
    }
    assert sum(r["recipe_share"] for r in rows) == pytest.approx(1)
    assert {r["origin"] for r in built["mix_shares"] if r["recipe"] == "real"} == {"real"}
    assert [built["lineage"][name]["depth"] for name in ("real", "stitched")] == [0, 1]
    total = capped["trained_tokens"] + real["trained_tokens"]
    assert built["lineage"]["stitched"]["tokens"] == pytest.approx(total)


def test_documents_of_unknown_origin_are_not_real_text(lake, make_study):
    documents = publish_documents(lake, origin="unknown")
    _, mixes = build(make_study(guard={"domain": "all"}), lake, documents)
    rows = pq.read_table(mixes.file("mix_shares.parquet")).to_pylist()
    assert {r["origin"] for r in rows if r["recipe"] == "real"} == {"unknown"}
    assert {r["domain"] for r in rows} == {"all"}
    assert mixes.extra["lineage"]["real"]["real_tokens"] == 0
    megadocs = pq.read_table(mixes.file("megadocs.parquet")).to_pylist()
    assert all(row["unknown_tokens"] == row["real_tokens"] for row in megadocs)


def test_documents_without_provenance_stop_the_study(lake, make_study):
    documents = publish_documents(lake, origin=None)
    with pytest.raises(LakeError, match="24 of 24 documents of sample have no 'origin'; publish their corpus again"):
        split(make_study(), lake, documents=[documents])
    good = publish_documents(lake)

    def copied(directory):
        shutil.copyfile(documents.file("documents.parquet"), directory / "documents.parquet")
        return Facts()

    other = lake.publish("corpora/other/documents", copied)
    with pytest.raises(LakeError, match="24 of 24 documents of other have no 'origin'.* documents other, and gate"):
        split(make_study(), lake, documents=[good, other])


def test_the_unit_tests_of_the_study_models_pass(state, tmp_path, built):
    guard = {"domain": "site", "domain_min_share": 0.01, "real_min": 0.1, "depth_max": 1}
    results = warehouse.build(
        "path:models/study",
        inputs=built["inputs"],
        variables={**MARKS, "guard": guard},
        out=tmp_path,
        unit_tests=True,
    )
    tested = [result for result in results if result.kind == "unit_test"]
    assert len(tested) >= 5
    assert all(result.status == "pass" for result in tested)


def test_a_stretched_layout_has_the_first_candidate_of_each_place_or_the_one_that_it_chose(lake, make_study, tmp_path):
    engine = {"kind": "recorded", "file": str(tmp_path / "thoughts.jsonl")}
    plain = {"kind": "stretched", "strategy": "thought"}
    study = make_study(
        strategies={"thought": {"kind": "rationale", "generations": 2, "candidates": 3, "engine": engine}},
        layouts={
            "real": {"kind": "real"},
            "first": plain,
            "best": plain | {"select": {"by": "likelihood", "each": "place"}},
        },
        mixes={"real": {"layout": "real", "epochs": 4}, "best": {"layout": "best", "f": 0.5, "epochs": 1}},
    )
    lines = [{"url": document(n)["url"], "strategy": "rationale", "g": g, "text": f"Candidate {g // 2} at {g % 2}."}
             for n in range(24) for g in range(6) if (n, g) != (9, 0)]  # fmt: skip
    (tmp_path / "thoughts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    parts = split(study, lake, documents=[publish_documents(lake)])
    planned = plan(study, lake, split=parts)
    for shard in range(study.shards):
        generate_shard(study, lake, split=parts, plan=planned, shard=shard)
    made = publish_generations(study, lake, split=parts, plan=planned)
    columns = ["generation_id", "document_id", "strategy", "g", "tokens"]
    rows = pq.read_table(made.file("generations.parquet"), columns=columns).to_pylist()

    def score(folder):
        told = {"method": "likelihood", "origin": "synthetic", "weight": 1.0}
        scored = [row | told | {"score": float(row["g"] in (2, 5))} for row in rows]
        pq.write_table(pa.Table.from_pylist(scored), folder / "weights.parquet")
        return Facts(extra={"methods": {"likelihood": {}}, "reserve_documents": 0})

    selection = lake.publish("studies/small/selection", score, parents=[parts, made])
    mixes = build_mixes(study, lake, split=parts, plan=planned, generations=made, selection=selection)
    found = pq.read_table(mixes.file("megadoc_parts.parquet")).to_pylist()
    urls = {row["document_id"]: row["url"] for row in pq.read_table(parts.file("train.parquet")).to_pylist()}
    for layout, kept in (("first", [0, 1]), ("best", [2, 5])):
        for key, url in urls.items():
            own = [row for row in found if row["layout"] == layout and row["document_id"] == key]
            asked = kept[1:] if (layout, url[-2:]) == ("first", "/9") else kept
            assert [row["g"] for row in own if row["kind"] == "rationale"] == asked
            between = [row["text"] for row in own if row["kind"] == "rationale"]
            assert between == [f"<think>Candidate {g // 2} at {g % 2}.</think>" for g in asked]
            if len(asked) == 2:
                assert [row["kind"] for row in own] == ["slice", "rationale", "slice", "rationale", "slice"]
