"""The study's real documents, split into training and validation before anything is generated."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from palimpsest import tokenizer as tok
from palimpsest.config import ConfigError, Study, resolve
from palimpsest.lake import Facts, Lake, LakeError, Published, Rows, digest_file

TOKENIZER = "tokenizer.json"
CODE = ("plugins/palimpsest/split.py", "plugins/palimpsest/tokenizer.py")


def split(study: Study, lake: Lake, *, documents: Sequence[Published]) -> Published:
    """``studies/<s>/split``: train.parquet, validation.parquet (document columns + tokens) and the tokenizer."""

    def write(directory: Path) -> Facts:
        found = [pq.read_table(d.file("documents.parquet")) for d in documents]
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
        tokenizer = _tokenizer(study, train, directory / TOKENIZER)
        train, validation = (_with_tokens(part, tokenizer) for part in (train, validation))
        words = validation["words"]
        validation = validation.append_column(
            "is_short", pc.less_equal(words, study.validation.short_max_words)
        ).append_column("is_long", pc.greater_equal(words, study.validation.long_min_words))
        pq.write_table(train, directory / "train.parquet", compression="zstd")
        pq.write_table(validation, directory / "validation.parquet", compression="zstd")
        return Facts(
            Rows(table.num_rows, train.num_rows, {"held_out": validation.num_rows}),
            {
                "train_documents": train.num_rows,
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
    for key, file in (("validation.urls_file", study.validation.urls_file), ("tokenizer.path", study.tokenizer.path)):
        if file:
            config[key] = digest_file(_existing(study, key, file))
    return lake.publish(f"studies/{study.name}/split", write, config=config, parents=documents, code=CODE)


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


def _existing(study: Study, key: str, file: str) -> Path:
    path = resolve(file)
    if not path.is_file():
        raise ConfigError(f"{study.path}: {key}: no file {path}; correct the path or create it")
    return path


def _tokenizer(study: Study, train: pa.Table, file: Path):
    if study.tokenizer.path:
        shutil.copyfile(_existing(study, "tokenizer.path", study.tokenizer.path), file)
    else:
        tok.train(train["text"].to_pylist(), study.tokenizer.vocab_size).save(str(file))
    return tok.load(file)


def _with_tokens(table: pa.Table, tokenizer) -> pa.Table:
    return table.append_column("tokens", pa.array(tok.count(tokenizer, table["text"].to_pylist()), pa.int64()))
