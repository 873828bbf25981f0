"""The body of a request for n samples, and what is usable in its answer: each sample is judged by itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from palimpsest.generate.client import DETAIL
from palimpsest.generate.requests import Rendered

FINISHED = ("stop", "length")
"""A sample that ended otherwise was cut off by the server ('abort' when it is stopped) and is no text to keep."""


@dataclass(frozen=True)
class Sample:
    text: str
    finish_reason: str
    output_tokens: int | None


@dataclass(frozen=True)
class Answer:
    """Per sample asked for, in order: the sample, or what is wrong with it."""

    samples: tuple[Sample | str, ...]
    input_tokens: int | None
    aborted: bool = False
    """Some samples were cut off by the server itself."""


def path(prompt: Rendered) -> str:
    return "/v1/chat/completions" if prompt.messages else "/v1/completions"


def body(model: str, prompt: Rendered, sampling: Mapping[str, Any], *, seed: int, n: int) -> bytes:
    """One request for ``n`` samples; vLLM gives sample i the seed ``seed + i``, as if each were asked for alone.

    Every sampling parameter is sent, also one that is off: a model's own generation_config.json must not decide what
    the request's key does not hold. With n > 1 the token ids are asked for, because ``usage`` counts all samples
    together; some 6 bytes per token are the cheapest exact count the interface has.
    """
    fields: dict[str, Any] = {"model": model, "n": n, "seed": seed, **sampling}
    if prompt.messages:
        fields["messages"] = [{"role": role, "content": content} for role, content in prompt.messages]
    else:
        fields["prompt"] = prompt.text
    if n > 1:
        fields["return_token_ids"] = True
    return json.dumps(fields, ensure_ascii=True).encode()


def probe(model: str, *, chat: bool) -> bytes:
    """The smallest request there is: whether a server generates at all."""
    prompt = Rendered(messages=(("user", "a"),)) if chat else Rendered(text="a")
    return body(model, prompt, {"max_tokens": 1, "temperature": 0.0}, seed=0, n=1)


def read(answer: Any, model: str, n: int) -> Answer:
    """What came of a request for ``n`` samples of ``model``, whatever the server sent. Raises nothing."""
    if not isinstance(answer, dict):
        return nothing(f"the answer is no JSON object but {short(answer)}", n)
    if answer.get("model") != model:
        return nothing(f"the answer is of model {short(answer.get('model'))}, not '{model}'", n)
    choices = answer.get("choices")
    if not isinstance(choices, list):
        return nothing(f"the answer has no list 'choices' (it has {short(sorted(map(str, answer)))})", n)
    found: list[Sample | str] = [f"the answer has {len(choices)} samples of {n} asked for"] * n
    seen: set[int] = set()
    for choice in choices:
        index = choice.get("index") if isinstance(choice, dict) else None
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < n:
            return nothing(f"the answer has a sample that was not asked for: {short(choice)}", n)
        if index in seen:
            return nothing(f"the answer has sample {index} twice", n)
        seen.add(index)
        found[index] = sample(choice)
    usage = answer.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Answer(
        tuple(counted(found, natural(usage.get("completion_tokens")))),
        natural(usage.get("prompt_tokens")),
        any(isinstance(choice, dict) and choice.get("finish_reason") == "abort" for choice in choices),
    )


def sample(choice: Mapping[str, Any]) -> Sample | str:
    """One choice of either interface, or what is wrong with it."""
    holder = choice.get("message") if "message" in choice else choice
    text = holder.get("content" if "message" in choice else "text") if isinstance(holder, dict) else None
    reason = choice.get("finish_reason")
    if not isinstance(text, str):
        return f"a sample without a text: {short(choice)}"
    if reason not in FINISHED:
        return f"a sample that ended by {short(reason)}, not by 'stop' or 'length'"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "a sample with half a surrogate pair, which is no text"
    ids = choice.get("token_ids")
    return Sample(text, reason, len(ids) if isinstance(ids, list) else None)


def counted(found: list[Sample | str], total: int | None) -> list[Sample | str]:
    """Each sample with its output tokens.

    By its own token ids where the server sent them; a single sample has all of the request's. Otherwise (several
    samples, a server other than vLLM) the request's total is divided by length of text, so that the sum stays exact.
    """
    good = [s for s in found if isinstance(s, Sample)]
    if total is None or len(good) < len(found) or all(s.output_tokens is not None for s in good):
        return found
    weights = [len(s.text.encode()) + 1 for s in good]
    whole, shares, given = sum(weights), [], 0
    for position, _ in enumerate(weights, 1):
        upto = round(total * sum(weights[:position]) / whole)
        shares.append(upto - given)
        given = upto
    return [Sample(s.text, s.finish_reason, share) for s, share in zip(good, shares, strict=True)]


def nothing(why: str, n: int) -> Answer:
    return Answer((why,) * n, None)


def natural(value: Any) -> int | None:
    """A count that can be one: an integer from 0 to 2^53."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 2**53 else None


def short(value: Any) -> str:
    """A piece of an answer for a message; of any depth and length."""
    try:
        return repr(value)[: DETAIL // 2]
    except RecursionError:
        return "(too deep to show)"
