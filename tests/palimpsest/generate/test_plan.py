from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from palimpsest import tokenizer as tok
from palimpsest.config import ConfigError
from palimpsest.generate import keys as content
from palimpsest.generate.ledger import request_key
from palimpsest.generate.plan import LANES, again, lane_of, plan, planned_requests
from palimpsest.generate.prompts import SHIPPED
from palimpsest.generate.routing import flights
from palimpsest.lake import Facts, Lake, LakeError
from palimpsest.split import split

LONG = "\n\n".join(
    " ".join(f"Paragraph {p} has a sentence number {n} about tides, bread and trains." for n in range(9))
    for p in range(12)
)
TEXTS = [
    "A short page about the tide.",
    "Bread wants time, not force. " * 6,
    LONG,
    "日本語の文もあります。" * 9,
    "A short page about the tide.",
]


def write_model(folder: Path, *, chat: bool = True) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    words = [file.read_text() for file in SHIPPED.rglob("*.yaml")] * 3
    tok.train([LONG, *TEXTS, *words], 2000).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "x"} if chat else {}))
    return folder


def publish_split(lake: Lake, texts: list[str], name: str = "small"):
    def write(directory: Path) -> Facts:
        rows = [
            {
                "document_id": hashlib.sha256(f"{n}".encode()).hexdigest()[:16],
                "url": f"https://a.example/{n}",
                "text": text,
                "is_reserve": False,
                "depth": 0,
            }
            for n, text in enumerate(texts)
        ]
        pq.write_table(pa.Table.from_pylist(rows), directory / "train.parquet")
        tok.train([LONG], 500).save(str(directory / "tokenizer.json"))
        return Facts()

    return lake.publish(f"studies/{name}/split", write, config={"texts": texts})


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "model")


@pytest.fixture
def vllm_study(make_study, model):
    """A study of one strategy that asks a model; keyword arguments are the strategy's, the server's and the study's."""

    def make(
        kind: str = "rephrase", generations: int = 4, server: dict | None = None, study: dict | None = None, **own
    ):
        settings = {"model": str(model), "context": 2048} | (server or {})
        engine = {"kind": "vllm", "server": "main"}
        own = {"sampling": {"max_tokens": 128}} | own
        return make_study(
            servers={"main": settings},
            strategies={"asked": {"kind": kind, "generations": generations, "engine": engine, **own}},
            layouts={"real": {"kind": "real"}},
            mixes={"real": {"layout": "real", "epochs": 1}},
            **(study or {}),
        )

    return make


def rows_of(planned) -> list[dict]:
    return pq.read_table(planned.file("requests.parquet")).to_pylist()


def keys_of(study, lake, texts=tuple(TEXTS)) -> list[str]:
    return [row["key"] for row in rows_of(plan(study, lake, split=publish_split(lake, list(texts))))]


def test_keys_of_recordings_and_augmentation_are_those_of_the_first_release(lake, study, documents):
    """Literal: what a ledger of that release holds must be found in it."""
    parts = split(study, lake, documents=[documents])
    rows = rows_of(plan(study, lake, split=parts))
    texts = dict(
        zip(
            *pq.read_table(parts.file("train.parquet"), columns=["document_id", "text"]).to_pydict().values(),
            strict=True,
        )
    )
    asked = {"rephrase": "replay rephrase", "rationale": "replay rationale", "augment": "augment"}
    assert len(rows) == 180
    for row in rows:
        wanted = request_key(texts[row["document_id"]], asked[row["kind"]], row["model"], {"seed": 0}, row["g"])
        assert (row["key"], row["seed"], row["group"]) == (wanted, int(wanted[:15], 16), "")
    first = next(row for row in rows if row["strategy"] == "augment")
    assert (first["document_id"], first["g"]) == ("0aa01b20e724890e", 0)
    assert (first["key"], first["seed"]) == ("3cf9c180b44971b6ec5d477b53437365", 274609729375082267)
    assert request_key("a document", "replay rephrase", "recorded:0123456789abcdef", {"seed": 0}, 3) == (
        "cd67874cab2757820e2361707c99b253"
    )


SAMPLING = st.dictionaries(
    st.text(max_size=6),
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.lists(st.text()),
)


@settings(deadline=None)
@given(st.text(), st.text(), st.text(), SAMPLING, st.integers(0, 2000))
def test_the_fast_way_to_a_key_is_the_key(document, prompt, model, sampling, sample):
    group = content.Document(document).group(prompt, model, sampling)
    assert group.key(sample) == request_key(document, prompt, model, sampling, sample)
    assert group.key(sample) == request_key(document, prompt, model, sampling, sample), "asking changes nothing"
    assert 0 <= group.seed(0) < 2**62 and group.seed(sample) == group.seed(0) + sample


@pytest.mark.parametrize("kind", ["rephrase", "continuation", "self"])
def test_the_first_samples_of_many_are_those_of_few(lake, vllm_study, kind):
    parts = publish_split(lake, TEXTS)
    few = rows_of(plan(vllm_study(kind, 4), lake, split=parts))
    many = rows_of(plan(vllm_study(kind, 32), lake, split=parts))
    assert len(many) == 8 * len(few)
    samples = {row["key"]: (row["g"], row["seed"], row["group"]) for row in many}
    assert {row["key"]: (row["g"], row["seed"], row["group"]) for row in few} == {
        key: sample for key, sample in samples.items() if sample[0] < 4
    }


def test_seeds_of_a_group_follow_on_one_another(lake, vllm_study):
    groups: dict[str, list[dict]] = {}
    for row in rows_of(plan(vllm_study(generations=8), lake, split=publish_split(lake, TEXTS[1:3]))):
        groups.setdefault(row["group"], []).append(row)
    assert len(groups) == len({row["seed"] for rows in groups.values() for row in rows}) // 8
    for rows in groups.values():
        assert [row["seed"] - rows[0]["seed"] for row in rows] == [row["g"] for row in rows] == list(range(8))


def test_whatever_is_renamed_reordered_resharded_or_moved_has_the_same_keys(lake, vllm_study, model, tmp_path):
    before = keys_of(vllm_study(), lake)
    moved = shutil.copytree(model, tmp_path / "moved")
    for changed in (
        vllm_study(study={"shards": 7}),
        vllm_study(server={"model": str(moved), "gpus": 4, "tokens_per_second": 100.0}),
        vllm_study(review={"refusal": "drop"}),
    ):
        assert keys_of(changed, lake) == before
    assert set(keys_of(vllm_study(), lake, reversed(TEXTS))) == set(before)
    assert keys_of(vllm_study(), Lake(tmp_path / "other")) == before
    renamed = vllm_study().model_copy(update={"name": "renamed"})
    assert keys_of(renamed, lake) == before


def prompt_file(folder: Path, word: str) -> str:
    content = yaml.safe_load((SHIPPED / "rephrase/encyclopedic.yaml").read_text())
    content["user"] = content["user"].replace("Wikipedia", word)
    (folder / f"{word}.yaml").write_text(yaml.safe_dump(content))
    return str(folder / f"{word}.yaml")


@pytest.mark.parametrize(
    "change",
    [
        {"sampling": {"max_tokens": 128, "temperature": 0.9}},
        {"sampling": {"max_tokens": 127}},
        {"sampling": {"max_tokens": 128, "stop": ["\n"]}},
        {"prompt": "rephrase/faq"},
        {"prompt": "a word"},
        {"seed": 1},
        {"server": {"model": "other"}},
        {"server": {"arguments": {"quantization": "fp8"}}},
    ],
    ids=str,
)
def test_whatever_changes_the_question_has_all_other_keys(lake, vllm_study, model, tmp_path, change):
    before = keys_of(vllm_study(), lake)
    assert keys_of(vllm_study(prompt=prompt_file(tmp_path, "Wikipedia")), lake) == before
    if change.get("prompt") == "a word":
        change = {"prompt": prompt_file(tmp_path, "Brockhaus")}
    if change.get("server", {}).get("model"):
        other = shutil.copytree(model, tmp_path / "other")
        (other / "model.safetensors").write_bytes(b"trained on")
        change = {"server": {"model": str(other)}}
    assert not set(keys_of(vllm_study(**change), lake)) & set(before)


def test_the_same_text_is_asked_about_once_whatever_its_page(lake, vllm_study):
    study, parts = vllm_study(), publish_split(lake, TEXTS)
    planned = plan(study, lake, split=parts)
    rows = rows_of(planned)
    same = [row["key"] for row in rows if row["url"].endswith(("/0", "/4"))]
    assert len(same) == 8 and len(set(same)) == 4
    asked = [request.key for request in planned_requests(study, lake, split=parts, plan=planned)]
    assert len(asked) == len(set(asked)) and set(asked) == {row["key"] for row in rows}


def test_every_document_gets_unconditional_samples_of_its_own(lake, vllm_study):
    study, parts = vllm_study("self", 3), publish_split(lake, TEXTS[:4])
    planned = plan(study, lake, split=parts)
    rows = rows_of(planned)
    assert len({row["key"] for row in rows}) == len({row["seed"] for row in rows}) == 12
    assert {row["input_tokens"] for row in rows} == {1}
    prompts = {r.prompt.text for r in planned_requests(study, lake, split=parts, plan=planned)}
    assert prompts == {tok.BOUNDARY}


def test_requests_are_the_plan_s_with_their_words(lake, vllm_study):
    study, parts = vllm_study(), publish_split(lake, TEXTS)
    planned = plan(study, lake, split=parts)
    found = list(planned_requests(study, lake, split=parts, plan=planned))
    sampling = study.strategies["asked"].sampling.canonical() | {"seed": 0}
    by_key = {row["key"]: row for row in rows_of(planned)}
    for request in found:
        row = by_key[request.key]
        words = request.prompt.canonical()
        assert request.key == request_key(request.document, words, row["model"], sampling, request.g)
        assert request.document in request.prompt.messages[1][1]
        assert (request.seed, request.group, request.part) == (row["seed"], row["group"], row["part"])
        assert (request.strategy, request.model) == ("asked", row["model"])


def test_requests_of_a_shard_and_of_some_keys_only(lake, vllm_study):
    study = vllm_study(study={"shards": 3})
    parts = publish_split(lake, [f"Page {n}. {TEXTS[1]}" for n in range(20)])
    planned = plan(study, lake, split=parts)
    rows = rows_of(planned)
    shards = [[r.key for r in planned_requests(study, lake, split=parts, plan=planned, shard=s)] for s in range(3)]
    assert [key for keys in shards for key in sorted(keys)] and Counter(sum(shards, [])) == Counter(
        r["key"] for r in rows
    )
    assert all(shards)
    wanted = {row["key"] for row in rows[5:70:7]}
    some = [r.key for r in planned_requests(study, lake, split=parts, plan=planned, keys=wanted)]
    assert some == [row["key"] for row in rows if row["key"] in wanted]


def test_a_lane_is_the_text_s_and_a_shard_the_lane_s(lake, vllm_study):
    for shards in (1, 3, 1000):
        rows = rows_of(plan(vllm_study(study={"shards": shards}), lake, split=publish_split(lake, TEXTS)))
        assert {row["lane"] for row in rows if row["url"].endswith("/2")} == {lane_of(LONG)}
        assert all(row["shard"] == row["lane"] % shards and 0 <= row["lane"] < LANES for row in rows)


def test_a_long_document_is_asked_about_in_chunks_with_the_original_before_them(lake, vllm_study):
    study, parts = vllm_study(generations=2, chunk_tokens=150), publish_split(lake, [LONG])
    planned = plan(study, lake, split=parts)
    found = [r for r in planned_requests(study, lake, split=parts, plan=planned) if r.g == 0]
    assert "".join(r.document for r in found) == LONG and len(found) > 3
    assert [r.part for r in found] == list(range(len(found)))
    assert "Earlier text" not in found[0].prompt.messages[1][1]
    for before, request in zip(found, found[1:], strict=False):
        said = request.prompt.messages[1][1]
        assert said.index("Earlier text") < said.index(before.document.strip()) < said.index(request.document)
    rows = rows_of(planned)
    assert {row["parts"] for row in rows} == {len(found)} and len(rows) == 2 * len(found)
    assert planned.extra["strategies"]["asked"]["prompts"] == len(found)


@pytest.mark.parametrize("kind", ["rephrase", "rationale", "continuation"])
@pytest.mark.parametrize("context", [600, 900, 2048])
def test_every_prompt_leaves_room_for_its_answer(lake, vllm_study, model, kind, context):
    study = vllm_study(kind, 5, server={"context": context})
    parts = publish_split(lake, [*TEXTS, "x" * 4000, "👩‍👩‍👧" * 400])
    planned = plan(study, lake, split=parts)
    counter = tok.load_any(model / "tokenizer.json")
    rows = rows_of(planned)
    by_key = {row["key"]: row for row in rows}
    for request in planned_requests(study, lake, split=parts, plan=planned):
        row = by_key[request.key]
        words = sum(tok.count(counter, [text for _, text in request.prompt.messages] or [request.prompt.text]))
        assert words + 128 <= context
        assert abs(words - row["input_tokens"]) <= max(16, 0.02 * words)
    cut = [row for row in rows if row["input_truncated"]]
    assert {row["url"][-1] for row in cut} >= {"5", "6"} and not {row["url"][-1] for row in cut} & {"0", "1", "3", "4"}
    assert planned.extra["strategies"]["asked"]["input_truncated"] == len(cut)


def test_a_rationale_goes_between_the_slices_that_are_published(lake, vllm_study):
    study, parts = vllm_study("rationale", 3), publish_split(lake, TEXTS[:3])
    planned = plan(study, lake, split=parts)
    slices: dict[str, list[str]] = {}
    for row in pq.read_table(planned.file("slices.parquet")).to_pylist():
        slices.setdefault(row["document_id"], []).append(row["text"])
    assert ["".join(texts) for texts in slices.values()] == TEXTS[:3]
    by_key = {row["key"]: row for row in rows_of(planned)}
    for request in planned_requests(study, lake, split=parts, plan=planned):
        texts = slices[by_key[request.key]["document_id"]]
        prefix, suffix = "".join(texts[: request.g + 1]), "".join(texts[request.g + 1 :])
        assert f"Prefix:\n{prefix}\n\nSuffix:\n{suffix}\n\nLatent thoughts:" in request.prompt.messages[1][1]
    assert len(by_key) == 9 and len({row["group"] for row in by_key.values()}) == 9


def test_candidates_are_samples_of_one_prompt_a_place_and_more_of_them_leave_the_others(lake, vllm_study):
    parts = publish_split(lake, TEXTS[:3])
    planned = {n: plan(vllm_study("rationale", 3, candidates=n), lake, split=parts) for n in (1, 2, 4)}
    rows = {n: rows_of(found) for n, found in planned.items()}
    keys = {n: {(row["document_id"], row["g"]): row["key"] for row in found} for n, found in rows.items()}
    assert [len(own) for own in keys.values()] == [9, 18, 36]
    assert keys[1].items() <= keys[2].items() <= keys[4].items()
    assert len(set(keys[4].values())) == 36
    whole = planned[4].extra["strategies"]["asked"]
    assert (whole["requests"], whole["prompts"]) == (36, 9)
    assert whole["max_tokens"] == 4 * planned[1].extra["strategies"]["asked"]["max_tokens"]
    for group in {row["group"] for row in rows[4]}:
        own = [row for row in rows[4] if row["group"] == group]
        assert [row["seed"] - own[0]["seed"] for row in own] == [0, 1, 2, 3], "one request to the server"
        assert [row["g"] - own[0]["g"] for row in own] == [0, 3, 6, 9]
    found = flights(planned_requests(vllm_study("rationale", 3, candidates=4), lake, split=parts, plan=planned[4]))
    assert [len(flight.requests) for flight in found] == [4] * 9


def test_candidates_of_a_short_document_have_the_places_that_it_has(lake, make_study, tmp_path):
    content = make_study().model_dump(mode="json", exclude={"path"})
    thought = content["strategies"]["rationale"] | {"generations": 5, "candidates": 3}
    study = make_study(strategies={"rationale": thought}, layouts={"real": {"kind": "real"}},
                       mixes={"real": {"layout": "real", "epochs": 4}})  # fmt: skip
    planned = plan(study, lake, split=publish_split(lake, ["xyz", TEXTS[0]]))
    assert [row["slice"] for row in pq.read_table(planned.file("slices.parquet")).to_pylist()] == [0, 1, 2, *range(6)]
    assert [row["g"] for row in rows_of(planned)] == [0, 1, 5, 6, 10, 11, *range(15)]


def test_asked_again_it_is_another_request_of_the_same(lake, vllm_study):
    study, parts = vllm_study(), publish_split(lake, TEXTS)
    planned = plan(study, lake, split=parts)
    first, second = list(planned_requests(study, lake, split=parts, plan=planned))[:2]
    once, twice, neighbour = again(study, first, 1), again(study, first, 2), again(study, second, 1)
    assert len({r.key for r in (first, second, once, twice, neighbour)}) == 5
    assert len({r.seed for r in (first, second, once, twice, neighbour)}) == 5
    assert neighbour.group == once.group and neighbour.seed == once.seed + 1
    assert (once.document, once.prompt, once.g, once.attempt) == (first.document, first.prompt, first.g, 1)
    assert again(study, once, 2) == twice, "whatever was asked before"
    assert once.key == request_key(
        first.document,
        first.prompt.canonical(),
        first.model,
        study.strategies["asked"].sampling.canonical() | {"seed": 0, "attempt": 1},
        first.g,
    )


def test_a_recording_is_not_asked_again(lake, study, documents):
    parts = split(study, lake, documents=[documents])
    request = next(planned_requests(study, lake, split=parts, plan=plan(study, lake, split=parts)))
    with pytest.raises(ValueError, match="only what was asked in words can be asked again"):
        again(study, request, 1)


def test_an_unchanged_plan_is_not_made_again(lake, vllm_study, monkeypatch):
    study, parts = vllm_study(), publish_split(lake, TEXTS)
    first = plan(study, lake, split=parts)
    monkeypatch.setattr("palimpsest.generate.plan._plan_strategy", lambda *_: pytest.fail("planned again"))
    assert plan(study, lake, split=parts).ref == first.ref
    other_review = vllm_study(review={"loop": "drop"}, server={"endpoints": ["http://127.0.0.1:9"]})
    assert plan(other_review, lake, split=parts).ref == first.ref


@pytest.mark.parametrize("change", [{"prompt": "rephrase/faq"}, {"seed": 3}, {"study": {"shards": 9}}])
def test_a_plan_of_another_study_file_is_refused(lake, vllm_study, change):
    parts = publish_split(lake, TEXTS)
    planned = plan(vllm_study(), lake, split=parts)
    with pytest.raises(LakeError, match=r"was planned from other .*; plan again: python -m palimpsest plan small"):
        next(planned_requests(vllm_study(**change), lake, split=parts, plan=planned))
    with pytest.raises(LakeError, match="plan again"):
        next(planned_requests(vllm_study(), lake, split=publish_split(lake, TEXTS[:2]), plan=planned))


def test_a_context_without_room_is_told_before_anything_is_planned(lake, vllm_study):
    study = vllm_study(server={"context": 256})
    with pytest.raises(ConfigError) as error:
        plan(study, lake, split=publish_split(lake, TEXTS))
    said = str(error.value)
    assert "servers.main.context of 256 tokens leaves 0 for the document" in said
    assert "sampling.max_tokens 128" in said and "raise the context or lower max_tokens" in said


def test_a_base_model_cannot_be_asked_in_chat(lake, vllm_study, tmp_path):
    base = {"model": str(write_model(tmp_path / "base", chat=False))}
    parts = publish_split(lake, TEXTS)
    with pytest.raises(
        ConfigError, match=r"strategies.asked: .* has no chat template, and prompt rephrase/encyclopedic:1"
    ):
        plan(vllm_study(server=base), lake, split=parts)
    assert rows_of(plan(vllm_study("continuation", server=base), lake, split=parts))


def test_a_model_without_the_boundary_samples_no_documents(lake, vllm_study, model):
    content = json.loads((model / "tokenizer.json").read_text())
    file = json.dumps(content).replace(tok.BOUNDARY, "<s>")
    (model / "tokenizer.json").write_text(file)
    with pytest.raises(ConfigError, match=r"has no token <\|endoftext\|>, which prompt self/unconditional:1 is"):
        plan(vllm_study("self"), lake, split=publish_split(lake, TEXTS))
