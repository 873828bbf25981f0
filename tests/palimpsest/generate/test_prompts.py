from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from palimpsest.config import ConfigError, Strategy
from palimpsest.generate.prompts import SHIPPED, load_prompt, read_prompt, shipped
from palimpsest.tokenizer import BOUNDARY

CHAT = {
    "name": "rephrase/mine",
    "version": 3,
    "api": "chat",
    "slots": {
        "document": {"type": "text", "description": "The text."},
        "context": {"type": "text", "description": "What precedes it.", "optional": True},
        "part": {"type": "integer", "description": "Which part."},
    },
    "system": "Be brief.",
    "user": "{{#context}}\nBefore: {{context}}\n{{/context}}\nPart {{ part }} {of} it: {{document}} END",
}


def strategy(prompt: str | None = None, kind: str = "rephrase") -> Strategy:
    engine = {"kind": "vllm", "server": "main"}
    return Strategy.model_validate({"kind": kind, "generations": 1, "engine": engine, "prompt": prompt})


@pytest.fixture
def write(tmp_path):
    def write(**changes: object) -> str:
        file = tmp_path / "mine.yaml"
        content = {k: v for k, v in {**CHAT, **changes}.items() if v is not None}
        file.write_text(yaml.safe_dump(content))
        return str(file)

    return write


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_prompt_serves_its_kind(name):
    prompt = load_prompt(strategy(name, name.split("/")[0]))
    assert prompt.name == name and prompt.description
    filled = prompt.render(**{slot: f"<{slot}>" for slot in prompt.slots})
    written = "".join(content for _, content in filled.messages) + filled.text
    assert all(f"<{slot}>" in written for slot in prompt.slots)
    assert "{{" not in written and "}}" not in written


def test_the_prompts_of_the_issue_are_shipped():
    styles = {"encyclopedic", "faq", "tutorial", "table", "question_answer"}
    others = {"rationale/latent_thought", "continuation/plain", "self/unconditional"}
    assert set(shipped()) == {f"rephrase/{style}" for style in styles} | others


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("rephrase", "rephrase/encyclopedic"),
        ("rationale", "rationale/latent_thought"),
        ("continuation", "continuation/plain"),
        ("self", "self/unconditional"),
    ],
)
def test_each_kind_has_a_prompt_by_default(kind, name):
    assert load_prompt(strategy(kind=kind)).name == name


def test_all_styles_of_rephrase_share_their_beginning_with_the_document_in_it():
    prompts = [read_prompt(SHIPPED / f"{name}.yaml") for name in shipped() if name.startswith("rephrase/")]
    rendered = [prompt.render(document="A long document.", context="What precedes.").messages for prompt in prompts]
    assert len({system for (_, system), _ in rendered}) == 1
    beginnings = {user[: user.index("A long document.") + len("A long document.")] for _, (_, user) in rendered}
    assert len(rendered) == 5 and len(beginnings) == 1


def test_self_asks_with_the_boundary_alone():
    assert load_prompt(strategy(kind="self")).render().text == BOUNDARY


def test_a_section_is_there_only_with_its_slot(write):
    prompt = load_prompt(strategy(write()))
    without = prompt.render(document="D", part=1)
    assert without.messages == (("system", "Be brief."), ("user", "Part 1 {of} it: D END"))
    assert prompt.render(document="D", part=2, context="C").messages[1][1] == "Before: C\nPart 2 {of} it: D END"


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["{{document}}", "{{#context}}", "{{/context}}", "{{ part }}", "{", "}", "{0}", "%s", "$document"]
        )
        | st.text(max_size=9)
    ).map("".join)
)
def test_a_document_says_what_it_says(hostile):
    prompt = read_prompt(SHIPPED / "rephrase/encyclopedic.yaml")
    plain = prompt.render(document="DOCUMENT", context="CONTEXT").messages[1][1]
    assert prompt.render(document=hostile, context=hostile).messages[1][1] == plain.replace("DOCUMENT", "\0").replace(
        "CONTEXT", "\0"
    ).replace("\0", hostile)


@pytest.mark.parametrize(
    ("slots", "said"),
    [
        ({"document": "D"}, "slot 'part' is missing; it is Which part."),
        ({"document": None, "part": 1}, "slot 'document' is missing"),
        ({"document": "D", "part": 1, "contxt": "x"}, "slot 'contxt' is unknown; did you mean 'context'?"),
        ({"document": 7, "part": 1}, "slot 'document' takes text, not int"),
        ({"document": "D", "part": "1"}, "slot 'part' takes integer, not str"),
        ({"document": "D", "part": True}, "slot 'part' takes integer, not bool"),
    ],
)
def test_a_wrong_slot_is_told(write, slots, said):
    with pytest.raises(ConfigError, match=r"prompt rephrase/mine:3: ") as error:
        load_prompt(strategy(write())).render(**slots)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"api": "completions"}, "api 'completions' needs the key 'text'"),
        ({"user": None}, "api 'chat' needs the key 'user'"),
        ({"text": "more"}, "api 'chat' takes no 'text'"),
        ({"user": "{{document}} {{part}} {{context}} {{titel}}"}, "slot 'titel' is used but not declared"),
        ({"user": "{{document}} {{context}}"}, "slot 'part' is declared but not used"),
        ({"user": CHAT["user"] + "{{#context}} open"}, "{{#context}} is not closed"),
        ({"user": CHAT["user"] + "{{/context}}"}, "{{/context}} closes no section"),
        ({"user": CHAT["user"] + "{{#part}}{{#context}}{{/context}}{{/part}}"}, "sections do not nest"),
        ({"user": CHAT["user"] + " {{ Document }}"}, "'{{ Document }}' is no slot"),
        ({"versoin": 2}, "versoin: Extra inputs are not permitted"),
        ({"version": 0}, "version: Input should be greater than or equal to 1"),
        (
            {"slots": CHAT["slots"] | {"part": {"type": "number", "description": ""}}},
            "slots.part.type: Input should be 'text'",
        ),
    ],
)
def test_a_wrong_prompt_file_is_named_with_its_key(write, changes, said):
    file = write(**changes)
    with pytest.raises(ConfigError) as error:
        load_prompt(strategy(file))
    assert str(error.value).startswith(f"{file}: ") and said in str(error.value)


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("rationale", {}, "kind 'rationale' fills no such slot"),
        (
            "rephrase",
            {"slots": {"part": CHAT["slots"]["part"]}, "user": "{{part}}"},
            "kind 'rephrase' needs the slot 'document'",
        ),
        (
            "rephrase",
            {"slots": CHAT["slots"] | {"context": {"type": "text", "description": "x"}}},
            "slots.context.optional: must be true",
        ),
        (
            "rephrase",
            {"slots": CHAT["slots"] | {"part": {"type": "text", "description": "x"}}},
            "slots.part.type: it is filled with integer, not text",
        ),
    ],
)
def test_a_prompt_must_fit_its_strategy(write, kind, changes, said):
    with pytest.raises(ConfigError, match="mine.yaml") as error:
        load_prompt(strategy(write(**changes), kind))
    assert said in str(error.value)


def test_an_unknown_name_is_told_what_is_shipped():
    with pytest.raises(ConfigError, match=r"'rephrase/fak' is not shipped; did you mean 'rephrase/faq'\?"):
        load_prompt(strategy("rephrase/fak"))


def test_the_digest_is_of_what_the_file_says(write, tmp_path):
    prompt = load_prompt(strategy(write()))
    other = tmp_path / "other.yaml"
    other.write_text("# a comment\n" + yaml.safe_dump(CHAT, default_flow_style=True, sort_keys=False))
    assert load_prompt(strategy(str(other))).sha256 == prompt.sha256
    assert load_prompt(strategy(write(system="Be short."))).sha256 != prompt.sha256
    assert load_prompt(strategy(write(version=4))).sha256 != prompt.sha256
