"""A real, small study in the lake: split and mixes as the earlier stages publish them, then tokens."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from palimpsest import tokenizer as tok
from palimpsest.config import Study
from palimpsest.lake import Facts, Lake, Published
from tests.conftest import made_once
from training.data import sequences_per_stream, windows
from training.pack import tokenize

SENTENCE = "the tide rises twice a day because the moon pulls the near side harder than the far one and water follows"
WORDS = SENTENCE.split()
RECIPES = (("real", 0.0, 4.0, "real"), ("simple", 0.75, 2.0, "simple"))


@dataclass(frozen=True)
class Small:
    """A study with everything a training run reads, published."""

    study: Study
    split: Published
    mixes: Published
    tokens: Published


def text(number: int, words: int) -> str:
    return " ".join(WORDS[(number * 7 + i * i) % len(WORDS)] for i in range(words)) + "."


def study_content(**training: object) -> dict:
    """Real documents alone, and mixed with augmentations of them."""
    return {
        "name": "small",
        "description": "test",
        "corpora": ["sample"],
        "validation": {"rule": "hash_share", "share": 0.2},
        "strategies": {"aug": {"kind": "augment", "generations": 2, "engine": {"kind": "augment"}}},
        "layouts": {"real": {"kind": "real"}, "simple": {"kind": "simple", "strategy": "aug"}},
        "mixes": {
            "real": {"layout": "real", "epochs": 4},
            "simple": {"layout": "simple", "f": 0.75, "epochs": 2},
        },
        "reference": "real",
        "training": {
            "model": {"layers": 1, "width": 32, "mlp": 64, "heads": 2},
            "context": 32,
            "batch": 4,
            "block": 8,
        }
        | training,
    }


def make_study(**training: object) -> Study:
    return Study.model_validate(study_content(**{"seeds": [0, 1], "precision": "fp32", "evaluations": 2} | training))


def make_tokenizer(file: Path) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([SENTENCE], trainer)
    tokenizer.save(str(file))


def parts_table(tokenizer: Tokenizer, layouts: dict[str, list[list[tuple[str, bool]]]]) -> pa.Table:
    """megadoc_parts of {layout: megadocs of (text, ends_row) parts}."""
    rows = [
        {
            "layout": layout,
            "position": position,
            "megadoc_id": f"{layout}-{position}",
            "part": part,
            "kind": "real" if layout == "real" or position % 3 == 0 else "augment",
            "document_id": f"d{position}",
            "g": None,
            "text": content,
            "tokens": len(tokenizer.encode(content, add_special_tokens=False).ids) + ends,
            "ends_row": ends,
        }
        for layout, megadocs in layouts.items()
        for position, megadoc in enumerate(megadocs)
        for part, (content, ends) in enumerate(megadoc)
    ]
    return pa.Table.from_pylist(rows)


def publish_split(lake: Lake, documents: list[dict]) -> tuple[Published, Tokenizer]:
    def write(directory: Path) -> Facts:
        make_tokenizer(directory / "tokenizer.json")
        pq.write_table(pa.Table.from_pylist(documents), directory / "validation.parquet")
        return Facts()

    published = lake.publish("studies/small/split", write)
    return published, tok.load(published.file("tokenizer.json"))


def publish_mixes(lake: Lake, study: Study, parts: pa.Table) -> Published:
    """megadoc_parts.parquet and mixes.parquet by the contract's formulas."""
    training = study.training
    rows, found = [], parts.to_pylist()
    for recipe, f, epochs, layout in RECIPES:
        sizes = {name: sum(r["tokens"] for r in found if r["layout"] == name) for name in {"real", layout}}
        steps = int(windows(sizes["real"], training.context) // training.batch * epochs / (1 - f))
        dealt = sequences_per_stream(steps, training.batch, training.block, f)
        streams = [("real", 1 - f, dealt[0])] + ([(layout, f, dealt[1])] if f else [])
        rows += [
            {
                "recipe": recipe,
                "role": "mix",
                "share": 1.0,
                "layout": name,
                "is_synthetic": name != "real",
                "fraction": fraction,
                "stream_tokens": sizes[name],
                "stream_synthetic_tokens": sum(
                    r["tokens"] for r in found if r["layout"] == name and r["kind"] not in ("real", "slice")
                ),
                "windows": windows(sizes[name], training.context),
                "epochs": epochs,
                "steps": steps,
                "stream_sequences": sequences,
                "trained_tokens": sequences * training.context,
                "passes": sequences / windows(sizes[name], training.context),
            }
            for name, fraction, sequences in streams
        ]

    def write(directory: Path) -> Facts:
        pq.write_table(parts, directory / "megadoc_parts.parquet")
        pq.write_table(pa.Table.from_pylist(rows), directory / "mixes.parquet")
        return Facts(extra={"lineage": {recipe: {"depth": 0} for recipe, *_ in RECIPES}})

    return lake.publish("studies/small/mixes", write, config={"rows": rows, "parts": found})


@pytest.fixture
def small(lake: Lake) -> Small:
    study = make_study()
    documents = [
        {"document_id": f"v{i}", "text": text(100 + i, 10 + 12 * i), "is_short": i < 2, "is_long": i == 4}
        for i in range(5)
    ]
    split, tokenizer = publish_split(lake, documents)
    real = [[(text(i, 40), True)] for i in range(12)]
    rephrased = [[(text(i, 40 - g), True)] for g in range(3) for i in range(12)]
    mixes = publish_mixes(lake, study, parts_table(tokenizer, {"real": real, "simple": rephrased}))
    return Small(study, split, mixes, tokenize(study, lake, split=split, mixes=mixes))


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory) -> Path:
    def make(folder: Path) -> None:
        from mlflow import MlflowClient

        MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")

    return made_once(tmp_path_factory, "mlflow", make) / "mlflow.db"


@pytest.fixture
def store(state, empty_store) -> Path:
    """Each test's own SQLite store of MLflow; a copy, because creating the tables takes seconds."""
    return Path(shutil.copy(empty_store, state / "mlflow.db"))
