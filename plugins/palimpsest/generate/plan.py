"""The plan of a study's generations: every request with its content key, and the slices rationales go between.

Everything here is a stream over the documents: a plan of a million requests takes no more memory than a small one.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from palimpsest import tokenizer as tok
from palimpsest.config import Study
from palimpsest.generate import keys as content
from palimpsest.generate.asks import Asker
from palimpsest.generate.chunks import View
from palimpsest.generate.requests import Request
from palimpsest.generate.tables import REQUESTS, SLICES, Writer, planned_rows, training_documents
from palimpsest.lake import Facts, Lake, LakeError, Published

log = logging.getLogger(__name__)

LANES = 1024
"""Documents are spread over so many lanes by the hash of their text; a lane is what one worker holds at a time."""
CODE = (
    "plugins/palimpsest/tokenizer.py",
    *(
        f"plugins/palimpsest/generate/{name}.py"
        for name in ("plan", "asks", "chunks", "keys", "prompts", "requests", "tables")
    ),
)


def plan(study: Study, lake: Lake, *, split: Published) -> Published:
    """``studies/<s>/plan``: requests.parquet and slices.parquet; how much of it is left only the ledger says.

    ``extra['strategies']`` has per strategy its documents, requests, prompts (a document's samples share one), input
    tokens (each prompt once), expected and largest output tokens, and the requests that see their document cut.
    Raises `ConfigError` if a model cannot be asked as the study says. No server has to run.
    """
    askers = {name: Asker(study, name, lake) for name in study.strategies}

    def write(directory: Path) -> Facts:
        tokenizer = tok.load(split.file("tokenizer.json"))
        counts: dict[tuple[str, str | None], list[int]] = {}
        extra = {}
        with ExitStack() as stack:
            requests = stack.enter_context(Writer(directory / "requests.parquet", REQUESTS))
            slices = stack.enter_context(Writer(directory / "slices.parquet", SLICES))
            for name, asker in askers.items():
                asker.check()
                known = counts.setdefault((asker.model, asker.server.tokenizer), []) if asker.template else None
                extra[name] = _plan_strategy(study, asker, split, tokenizer, known, requests, slices)
                log.info("planned %s: %s requests", name, f"{extra[name]['requests']:,}")
        documents = sum(len(found) for found in training_documents(split))
        total = sum(facts["requests"] for facts in extra.values())
        return Facts(extra={"documents": documents, "requests": total, "shards": study.shards, "strategies": extra})

    return lake.publish(f"studies/{study.name}/plan", write, config=_config(study, askers), parents=[split], code=CODE)


def planned_requests(
    study: Study,
    lake: Lake,
    *,
    split: Published,
    plan: Published,
    shard: int | None = None,
    keys: Container[str] | None = None,
) -> Iterator[Request]:
    """The plan's requests with their documents and prompts, in the plan's order, each key once.

    Only those of ``shard`` and among ``keys``, where given. Raises `LakeError` if the study, its prompts, a model or
    the split are no longer those of the plan: what came back would be stored under keys of other questions.
    """
    askers = {name: Asker(study, name, lake) for name in study.strategies}
    wanted = json.loads(json.dumps(_config(study, askers), default=str))
    if plan.manifest["config"] != wanted or plan.manifest["parents"][0]["digest"] != split.digest:
        raise LakeError(
            f"{plan.uri} was planned from other documents, prompts, models or settings than {study.path} has now; "
            f"plan again: python -m palimpsest plan {study.name}"
        )
    yield from _requests(split, plan, shard, keys, askers)


def again(study: Study, request: Request, attempt: int) -> Request:
    """The same request asked once more (``attempt`` 1, 2, …): another key and another seed, nothing else.

    Raises `ValueError` for engines that would only say the same again.
    """
    if request.prompt is None or attempt < 1:
        raise ValueError(f"request {request.key}: only what was asked in words can be asked again, from attempt 1 on")
    strategy = study.strategies[request.strategy]
    sampling = strategy.sampling.canonical() | {"seed": strategy.seed, "attempt": attempt}
    group = content.Document(request.document).group(request.prompt.canonical(), request.model, sampling)
    key, seed = group.key(request.g), group.seed(request.g)
    return replace(request, key=key, group=group.name, seed=seed, attempt=attempt)


def lane_of(text: str) -> int:
    """A document's lane: by its text alone, so that the same text is generated in one place whoever plans it."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) % LANES


def _config(study: Study, askers: Mapping[str, Asker]) -> dict[str, object]:
    return {"strategies": {name: asker.config() for name, asker in askers.items()}, "shards": study.shards}


def _plan_strategy(
    study: Study,
    asker: Asker,
    split: Published,
    tokenizer: tok.Tokenizer,
    counts: list[int] | None,
    requests: Writer,
    slices: Writer,
) -> dict[str, int]:
    """One strategy's rows; ``counts`` has, or gets, each document's tokens of its model."""
    facts: Counter[str] = Counter(
        documents=0, requests=0, prompts=0, input_tokens=0, expected_tokens=0, max_tokens=0, input_truncated=0
    )
    max_tokens = asker.strategy.sampling.max_tokens if asker.template else 0
    number = 0
    for documents in training_documents(split):
        if counts is not None and len(counts) <= number:
            counts += tok.count(asker.tokenizer, [document["text"] for document in documents])
        for document in documents:
            text, lane = document["text"], lane_of(document["text"])
            parts = []
            if asker.kind == "rationale":
                parts = tok.slices(tokenizer, text, asker.strategy.generations + 1)
                _write_slices(slices, document["document_id"], asker.name, parts, tok.count(tokenizer, parts))
            whole = content.Document(text)
            for ask in asker.asks(text, counts[number] if counts else 0, parts):
                samples = len(ask.samples)
                about = asker.written_over(text, ask.view)
                prompt = asker.render(text, ask.view, ask.part, ask.parts)
                group = (whole if about is text else content.Document(about)).group(
                    prompt.canonical() if prompt else asker.prompt, asker.model, asker.sampling
                )
                found = [group.key(own) for own in ask.numbers]
                seeds = map(group.seed, ask.numbers) if prompt else (int(key[:15], 16) for key in found)
                requests.add(
                    {"key": found, "g": list(ask.samples), "seed": list(seeds)},
                    {
                        "document_id": document["document_id"],
                        "url": document["url"],
                        "strategy": asker.name,
                        "kind": asker.kind,
                        "part": ask.part,
                        "parts": ask.parts,
                        "group": group.name if prompt else "",
                        "lane": lane,
                        "shard": lane % study.shards,
                        "engine": asker.engine,
                        "model": asker.model,
                        "prompt": asker.prompt,
                        "prompt_sha256": asker.prompt_sha256,
                        "input_tokens": ask.input_tokens,
                        "max_tokens": max_tokens,
                        "expected_tokens": ask.expected_tokens,
                        "input_truncated": ask.view.truncated,
                        "view_before": ask.view.before,
                        "view_start": ask.view.start,
                        "view_end": ask.view.end,
                    },
                )
                facts.update(
                    requests=samples,
                    prompts=min(samples, 1),
                    input_tokens=ask.input_tokens,
                    expected_tokens=ask.expected_tokens * samples,
                    max_tokens=max_tokens * samples,
                    input_truncated=ask.view.truncated * samples,
                )
            number += 1
    return dict(facts) | {"documents": number}


def _requests(
    split: Published,
    plan: Published,
    shard: int | None,
    keys: Container[str] | None,
    askers: Mapping[str, Asker],
) -> Iterator[Request]:
    names = ["key", "document_id", "url", "strategy", "kind", "g", "part", "parts", "group", "seed", "model"]
    names += ["view_before", "view_start", "view_end"]
    seen: set[bytes] = set()
    strategy, shown = None, None
    documents: Iterator[dict] = iter(())
    document: dict = {"document_id": None}
    for row in planned_rows(plan, names, shard):
        key = bytes.fromhex(row["key"])
        if key in seen or (keys is not None and row["key"] not in keys):
            continue
        seen.add(key)
        if row["strategy"] != strategy:
            strategy = row["strategy"]
            documents = itertools.chain.from_iterable(training_documents(split))
            document = {"document_id": None}
            asker = askers[strategy]
        while document["document_id"] != row["document_id"]:
            document = next(documents, None)
            if document is None:
                raise LakeError(f"{plan.uri} names document {row['document_id']}, which {split.uri} lacks; plan again")
        here = (strategy, row["document_id"], row["part"], row["view_start"])
        if here != shown:
            shown, text = here, document["text"]
            view = View(row["view_before"], row["view_start"], row["view_end"])
            about = asker.written_over(text, view)
            prompt = asker.render(text, view, row["part"], row["parts"])
        yield Request(
            key=row["key"],
            url=row["url"],
            kind=row["kind"],
            g=row["g"],
            document=about,
            seed=row["seed"],
            group=row["group"],
            part=row["part"],
            prompt=prompt,
            strategy=strategy,
            model=row["model"],
        )


def _write_slices(slices: Writer, document_id: str, strategy: str, texts: list[str], counts: list[int]) -> None:
    columns = {"slice": list(range(len(texts))), "text": texts, "tokens": counts}
    slices.add(columns, {"document_id": document_id, "strategy": strategy})
