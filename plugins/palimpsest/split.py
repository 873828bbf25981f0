"""The study's real documents, split into training and validation before anything is generated."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from palimpsest import hub, slices
from palimpsest import tokenizer as tok
from palimpsest.config import ConfigError, Study, resolve
from palimpsest.lake import Facts, Lake, LakeError, Published, Rows, digest_file
from palimpsest.words import SharedRuns

TOKENIZER = "tokenizer.json"
DROPS = pa.schema([(name, pa.string()) for name in ("document_id", "url", "reason", "shared", "held_out_url")])
CODE = tuple(f"plugins/palimpsest/{name}.py" for name in ("split", "slices", "tokenizer", "words"))


def split(study: Study, lake: Lake, *, documents: Sequence[Published]) -> Published:
    """``studies/<s>/split``: train.parquet, validation.parquet (document columns + tokens) and the tokenizer.

    split_drops.parquet has the documents that are neither, and why. Training documents beyond the study's
    ``real_share`` are in train.parquet too, marked ``is_reserve``. In a round of a continual loop the other rounds'
    documents are drops, and the tokenizer is that of the first round, or losses could not be compared.
    """

    def write(directory: Path) -> Facts:
        found = [pq.read_table(d.file("documents.parquet")) for d in documents]
        for published, own in zip(documents, found, strict=True):
            _check_provenance(study, published.dataset.split("/")[1], own)
        table = pa.concat_tables(found, promote_options="default").sort_by("document_id")
        duplicates = [url for url, n in Counter(table["url"].to_pylist()).items() if n > 1]
        if duplicates:
            raise LakeError(
                f"study {study.name}: {duplicates[0]} is in more than one of the corpora "
                f"{', '.join(study.corpora)}; name each corpus once, and corpora that do not share pages"
            )
        held, missing = _held_out(study, table)
        train, validation = table.filter(pc.invert(held)), table.filter(held)
        for name, part in (("training", train), ("validation", validation)):
            if not part.num_rows:
                raise LakeError(
                    f"study {study.name}: validation rule '{study.validation.rule}' leaves no {name} document "
                    f"of {table.num_rows}; correct 'validation' in {study.path}"
                )
        drops = _quoting(train, validation, study.validation.drop_shared_words)
        train = train.filter(pc.invert(pc.is_in(train["document_id"], drops["document_id"])))
        if not train.num_rows:
            raise LakeError(
                f"study {study.name}: every training document shares {study.validation.drop_shared_words} words with "
                f"a held-out one; raise validation.drop_shared_words in {study.path}"
            )
        first = None
        if study.slice:
            train, first, others = _of_round(study, train)
            drops = pa.concat_tables([drops, others])
        dropped = {"held_out": validation.num_rows, **Counter(drops["reason"].to_pylist())}
        salt = f"reserve {study.sampling_seed}" if study.sampling_seed else "reserve"
        used = slices.first_share(train["document_id"].to_pylist(), study.real_share, salt)
        reserve = [one not in used for one in train["document_id"].to_pylist()]
        train = train.append_column("is_reserve", pa.array(reserve, pa.bool_()))
        spoken = train.filter(pc.invert(train["is_reserve"])) if first is None else first
        tokenizer = _tokenizer(study, spoken, directory / TOKENIZER)
        train, validation = (_with_tokens(part, tokenizer) for part in (train, validation))
        words = validation["words"]
        validation = validation.append_column(
            "is_short", pc.less_equal(words, study.validation.short_max_words)
        ).append_column("is_long", pc.greater_equal(words, study.validation.long_min_words))
        pq.write_table(train, directory / "train.parquet", compression="zstd")
        pq.write_table(validation, directory / "validation.parquet", compression="zstd")
        pq.write_table(drops, directory / "split_drops.parquet", compression="zstd")
        return Facts(
            Rows(table.num_rows, train.num_rows, dropped),
            {
                "train_documents": train.num_rows,
                "reserve_documents": sum(reserve),
                "train_tokens": pc.sum(train["tokens"]).as_py(),
                "validation_documents": validation.num_rows,
                "validation_tokens": pc.sum(validation["tokens"]).as_py(),
                "validation_short": pc.sum(validation["is_short"]).as_py(),
                "validation_long": pc.sum(validation["is_long"]).as_py(),
                "validation_urls_not_in_corpus": missing,
                "vocabulary": tokenizer.get_vocab_size(),
            },
        )

    config = {"validation": study.validation.model_dump(exclude={"sets"}), "tokenizer": study.tokenizer.model_dump()}
    config |= study.model_dump(include={"real_share", "sampling_seed"})
    if study.slice:
        config["slice"] = study.slice.model_dump()
    for key, file in (("validation.urls_file", study.validation.urls_file), ("tokenizer.path", study.tokenizer.path)):
        if file:
            config[key] = digest_file(_existing(study, key, file))
    return lake.publish(f"studies/{study.name}/split", write, config=config, parents=documents, code=CODE)


def _check_provenance(study: Study, corpus: str, table: pa.Table) -> None:
    """Without the origin and depth of every document no share of real text can be told: nothing is built on it."""
    for name in ("corpus", "origin", "depth"):
        unknown = table[name].null_count if name in table.column_names else table.num_rows
        if unknown:
            raise LakeError(
                f"study {study.name}: {unknown} of {table.num_rows} documents of {corpus} have no '{name}'; "
                f"publish their corpus again: python -m palimpsest documents {corpus}, and gate it"
            )


def _held_out(study: Study, table: pa.Table) -> tuple[pa.Array, list[str]]:
    """Which rows are validation, and the listed URLs that no document has."""
    rule = study.validation
    if rule.rule == "urls":
        lines = _existing(study, "validation.urls_file", rule.urls_file).read_text(encoding="utf-8").splitlines()
        urls = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        return pc.is_in(table["url"], pa.array(urls, pa.string())), sorted(set(urls) - set(table["url"].to_pylist()))
    if rule.rule == "sites":
        return pc.is_in(table["site"], pa.array(rule.sites, pa.string())), []
    shares = [int(hashlib.sha256(d.encode()).hexdigest()[:8], 16) / 2**32 for d in table["document_id"].to_pylist()]
    return pc.less(pa.array(shares), rule.share), []


def _quoting(train: pa.Table, validation: pa.Table, words: int | None) -> pa.Table:
    """The training documents that hold a run of so many words of a held-out one, as `DROPS`; none if ``words`` is."""
    if words is None:
        return pa.Table.from_pylist([], DROPS)
    urls, held = validation["url"].to_pylist(), SharedRuns(validation["text"].to_pylist(), words)
    drops = []
    for row in train.select(["document_id", "url", "text"]).to_pylist():
        if hit := next(held.hits(row.pop("text")), None):
            why = {"reason": "shares_held_out_words", "shared": hit[1], "held_out_url": urls[hit[0]]}
            drops.append(row | why)
    return pa.Table.from_pylist(drops, DROPS)


def _of_round(study: Study, train: pa.Table) -> tuple[pa.Table, pa.Table, pa.Table]:
    """The round's documents, those of the loop's first round, and all others as `DROPS`."""
    documents = zip(train["document_id"].to_pylist(), train["day"].to_pylist(), strict=True)
    parts = slices.parts(list(documents), study.slice)
    if not all(parts):
        raise LakeError(
            f"study {study.name}: {sum(map(len, parts))} training documents are too few for {study.slice.of} rounds of "
            f"a continual loop; give {study.path} fewer rounds or more text"
        )
    own, dealt = slices.of_round(parts, study.slice), {one for part in parts for one in part}
    others = [
        row | {"reason": "of_another_round" if row["document_id"] in dealt else "of_no_round"}
        for row in train.select(["document_id", "url"]).to_pylist()
        if row["document_id"] not in own
    ]
    ids = train["document_id"]
    mine, first = (train.filter(pc.is_in(ids, pa.array(sorted(some), pa.string()))) for some in (own, parts[0]))
    return mine, first, pa.Table.from_pylist(others, DROPS)


def _existing(study: Study, key: str, file: str) -> Path:
    path = resolve(file)
    if not path.is_file():
        raise ConfigError(f"{study.path}: {key}: no file {path}; correct the path or create it")
    return path


def _tokenizer(study: Study, train: pa.Table, file: Path):
    given = _given(study)
    if given is None:
        tok.train(train["text"].to_pylist(), study.tokenizer.vocab_size).save(str(file))
    else:
        shutil.copyfile(given, file)
        if study.tokenizer.end:
            file.write_text(_renamed(given, study.tokenizer.end), encoding="utf-8")
    return tok.load(file)


def _given(study: Study) -> Path | None:
    """The tokenizer.json that the study names; None where it has one trained."""
    named = study.tokenizer
    if named.path:
        return _existing(study, "tokenizer.path", named.path)
    if not named.hub:
        return None
    found = hub.fetch(named.hub, TOKENIZER, named.revision, "name a local copy as tokenizer.path")
    if found is None:
        raise ConfigError(
            f"{study.path}: tokenizer.hub: '{named.hub}' has no {TOKENIZER} at {named.revision[:12]}; name a model "
            "that has one, or make it and name it as tokenizer.path"
        )
    return found


def _renamed(given: Path, end: str) -> str:
    """The tokenizer with its end-of-document token called as it is everywhere here; wherever the file names it."""
    tokenizer = tok.load_any(given)
    if tokenizer.token_to_id(tok.BOUNDARY) is not None:
        raise LakeError(f"{given}: has a token {tok.BOUNDARY} itself; take tokenizer.end out")
    if tokenizer.token_to_id(end) is None:
        raise LakeError(f"{given}: has no token {end}; correct tokenizer.end")
    found = json.dumps(json.loads(given.read_text(encoding="utf-8")), ensure_ascii=False, indent=2)
    return found.replace(json.dumps(end, ensure_ascii=False), json.dumps(tok.BOUNDARY))


def _with_tokens(table: pa.Table, tokenizer) -> pa.Table:
    return table.append_column("tokens", pa.array(tok.count(tokenizer, table["text"].to_pylist()), pa.int64()))
