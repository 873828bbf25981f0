"""Near-duplicate removal beside datatrove's four MinHash stages on the same documents, and its cost as they grow.

Processor seconds are counted, on one core for both, so other load on the machine weighs on both alike. Ours are all
that a corpus does from texts to documents: signatures, the pages' Parquet, and the whole dbt build with the rules for
single pages off. Documents are made of pieces of web text, 200 words each; in a hundred 3 are copies, 10 have up to one
word in sixteen changed, and 2 are of one family of pages that fill in a form.

The real documents, all texts of the data folder's pages and web text, show what is planted nowhere.

Near duplicates are told by exact Jaccard (0.75 of the distinct runs of 5 words, and near duplicates of these):
recall is the share of what must go that goes, one document of each family staying, precision the share of what goes
that must: of a family that goes altogether, one document too many went.

``make bench ARGS=dedup`` compares at 10,000 and 50,000, and on the real ones. ``PYTHONPATH=plugins:. .venv/bin/python
tests/benchmarks/dedup.py 10000 100000 1000000`` prints what ours costs at each count, ``--interval 10000 300`` what the
documents cost when 300 pages come to 10,000; PALIMPSEST_DUCKDB_MEMORY (here 3GB unless it is set) bounds what the
tables hold.
"""

from __future__ import annotations

import json
import os
import random
import re
import resource
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from palimpsest import comparisons, decontamination, warehouse
from palimpsest.config import DocumentRules
from palimpsest.config.files import data_dir
from palimpsest.documents import SELECT
from palimpsest.ingest import minhash
from palimpsest.ingest.pages import PAGES, QUARANTINE
from tests.benchmarks.serving import one_core
from tests.benchmarks.serving.clients import datatrove_python
from tests.benchmarks.serving.texts import texts_of, web_pages

BASE = Path(__file__).parents[2] / ".bench"
COUNTS = (10_000, 50_000)
PEER = [
    "datatrove==0.10.1", "spacy==3.8.18", "nltk==3.10.4", "regex==2026.11.15", "numpy==2.4.6", "orjson==3.13.0",
    "tokenizers==0.23.3", "xxhash==3.8.2",
]  # fmt: skip
WORDS, PIECE, RECENT = 200, 25, 2_000
EPOCH = 1_700_000_000_000_000
MEMORY = "3GB"
JACCARD = 0.75
ROUNDS = 3


def run() -> list[dict]:
    rows, found = [], []
    with tempfile.TemporaryDirectory(prefix="palimpsest-bench-") as folder:
        python = datatrove_python(BASE, "datatrove-dedup", PEER)
        state = parsed_project(Path(folder))
        for kind, texts in [*(("", documents(count)) for count in COUNTS), ("real ", real())]:
            file = Path(folder) / f"{len(found)}.jsonl"
            count = write(file, texts)
            if not count:
                continue
            ours = one_core.run([sys.executable, __file__, "--ours", str(file), str(state)])
            dropped, theirs = {"ours": set(range(count)) - set(ours.pop("kept"))}, None
            if python:
                script = Path(__file__).parent / "filters" / "minhash.py"
                out = Path(folder) / f"datatrove{len(found)}"
                theirs = one_core.run([str(python), str(script), str(file), str(out)])
                kept = [line for one in (out / "kept").iterdir() for line in one.open(encoding="utf-8")]
                dropped["peer"] = set(range(count)) - {int(json.loads(line)["id"]) for line in kept}
            what = f"{count:,} {kind}documents"
            found.append((what, file, dropped))
            name = f"dedup: {what}, against datatrove's four MinHash stages"
            for unit, key in (("documents/s", "seconds"), ("MiB", "memory")):
                sides = [None if side is None else side[key] for side in (ours, theirs)]
                if key == "seconds":
                    sides = [None if spent is None else count / spent for spent in sides]
                rows.append({"name": f"{name}: {unit}", "ours": sides[0], "peer": sides[1], "unit": unit})
        for what, file, dropped in found:  # at last: what this process holds by now would count for those it starts
            rows += _held_to(families(read(file)), dropped, what)
    return rows


def _held_to(truth: list[int], dropped: dict[str, set[int]], of: str) -> list[dict]:
    sizes, count = Counter(truth), len(truth)
    print(f"dedup: {of}: {count - len(sizes):,} must go, of {sum(n > 1 for n in sizes.values()):,} families")
    rows = []
    for what in ("recall", "precision"):
        found = {"peer": None}
        for side, gone in dropped.items():
            left = Counter(family for number, family in enumerate(truth) if number not in gone)
            if what == "recall":
                missed = sum(max(left[family] - 1, 0) for family in sizes)
                found[side] = 1 - missed / (count - len(sizes))
            else:
                lost = Counter(truth[number] for number in gone)
                found[side] = sum(min(lost[family], sizes[family] - 1) for family in lost) / len(gone)
        rows.append({"name": f"dedup: {of}, {what} by exact Jaccard", **found, "unit": f"{what} rate"})
    return rows


def families(texts: Iterable[str]) -> list[int]:
    """The lowest number of each text's family: those that exact Jaccard links to it, through others or not."""
    runs, holders, lowest = [], defaultdict(list), []
    for number, text in enumerate(texts):
        words = minhash.WORD.findall(text.lower())
        runs.append({hash(tuple(words[at : at + 5])) for at in range(len(words) - 4)})
        lowest.append(number)
        shared = Counter(other for run in runs[number] for other in holders[run])
        for other, both in shared.items():
            if both >= JACCARD * (len(runs[number]) + len(runs[other]) - both):
                one, two = sorted((_root(lowest, number), _root(lowest, other)))
                lowest[two] = one
        for run in runs[number]:
            holders[run].append(number)
    return [_root(lowest, number) for number in range(len(lowest))]


def _root(lowest: list[int], number: int) -> int:
    while lowest[number] != number:
        number = lowest[number]
    return number


def real() -> list[str]:
    """Texts as they are: of the crawl files and pages in the data folder, and of its web text."""
    found = web_pages() + texts_of(sorted((data_dir() / "text").glob("web_*.parquet")))
    return [text for text in found if len(minhash.WORD.findall(text)) >= 5]


def write(file: Path, texts: Iterable[str]) -> int:
    """The documents as JSON lines of id and text; how many."""
    count = 0
    with file.open("w", encoding="utf-8") as lines:
        for text in texts:
            lines.write(json.dumps({"id": str(count), "text": text}) + "\n")
            count += 1
    return count


def read(file: Path) -> Iterator[str]:
    """The texts that `write` wrote."""
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["text"]


def documents(count: int) -> Iterator[str]:
    """The texts; memory is for the pool of words and the latest documents."""
    dice, words = random.Random(7), _pool()
    recent: list[list[str]] = []
    form = _drawn(dice, words)
    for _ in range(count):
        kind = dice.random() if recent else 1
        if kind < 0.02:
            made = list(form)
            for place in range(0, WORDS, 40):
                made[place] = dice.choice(words)
        elif kind < 0.15:
            made = list(dice.choice(recent))
            for place in dice.sample(range(len(made)), 0 if kind < 0.05 else dice.randint(1, WORDS // 16)):
                made[place] = dice.choice(words)
        else:
            made = _drawn(dice, words)
        recent.append(made)
        del recent[:-RECENT]
        yield " ".join(made)


def _drawn(dice: random.Random, words: list[str]) -> list[str]:
    starts = [dice.randrange(len(words) - PIECE) for _ in range(WORDS // PIECE)]
    return [word for start in starts for word in words[start : start + PIECE]]


def _pool() -> list[str]:
    files = sorted((data_dir() / "text").glob("web_train-*.parquet"))[:3]
    if not files:
        print("dedup: no web text in the data folder; the documents are of random words")
        dice = random.Random(11)
        return [f"word{int(dice.paretovariate(0.7))}" for _ in range(2_000_000)]
    return [
        word for file in files for text in pq.read_table(file, columns=["text"])["text"] for word in str(text).split()
    ]


def parsed_project(folder: Path) -> Path:
    """A state folder in which builds find the dbt project parsed, by a small one that went before."""
    state, file = folder / "state", folder / "first.jsonl"
    write(file, documents(10))
    one_core.run([sys.executable, __file__, "--ours", str(file), str(state)])
    return state


def ours(file: Path, state: Path) -> dict:
    """From texts to documents in this process; its processor seconds and the most memory it held (MiB)."""
    os.environ["PALIMPSEST_STATE"] = str(state)
    with tempfile.TemporaryDirectory(prefix="palimpsest-bench-") as scratch:
        pages = sign(read(file), Path(scratch) / "pages.parquet")
        signed = one_core.seconds()
        build([pages], Path(scratch))
        kept = [int(page, 16) for page in pq.read_table(Path(scratch) / "documents.parquet")["page_id"].to_pylist()]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": one_core.seconds(), "signatures": signed, "memory": memory, "kept": kept}


def sign(texts: Iterable[str], file: Path, first: int = 0) -> Path:
    """The texts as pages with their MinHash keys, numbered from ``first``."""
    others = {name: pa.array([0], field.type)[0] for name, field in zip(PAGES.names, PAGES, strict=True)
              if pa.types.is_integer(field.type) or pa.types.is_floating(field.type)}  # fmt: skip
    with pq.ParquetWriter(file, PAGES, compression="zstd") as writer:
        rows = []
        for number, text in enumerate(texts, first):
            rows.append({
                **others, "page_id": f"{number:016x}", "url": f"https://s{number % 997}.example/{number}",
                "site": f"s{number % 997}.example", "text": text, "fetched_at": EPOCH + number, "day": 0,
                "minhash_bands": minhash.bands(text, 5),
            })  # fmt: skip
            if len(rows) == 1_000:
                writer.write_table(pa.Table.from_pylist(rows, PAGES))
                rows = []
        writer.write_table(pa.Table.from_pylist(rows, PAGES))
    return file


def build(pages: list[Path], out: Path, known: Path | None = None) -> None:
    """Documents of these pages; ``known``: the comparisons of documents of some of them."""
    os.environ.setdefault("PALIMPSEST_DUCKDB_MEMORY", MEMORY)
    pq.write_table(QUARANTINE.empty_table(), out / "quarantine.parquet")
    inputs = {"pages": pages, "quarantine": out / "quarantine.parquet", "overlaps": decontamination.none_found(out)}
    inputs["comparisons"] = known or comparisons.none_known(out)
    rules = DocumentRules(disabled=others_than_duplicates())
    variables = {"rules": rules.model_dump(), "corpus": "bench", "origin": "real"}
    for node in warehouse.build(SELECT, inputs=inputs, variables=variables, out=out, threads=1):
        print(f"  {node.name} {node.seconds:.2f} s", file=sys.stderr)


def interval(standing: int, new: int) -> None:
    """What the documents cost when so many pages come to the standing ones, with and without what is known of those."""
    with tempfile.TemporaryDirectory(prefix="palimpsest-bench-") as folder:
        os.environ["PALIMPSEST_STATE"], texts = folder, documents(standing + new)
        sign(islice(texts, standing), Path(folder) / "standing.parquet")
        sign(texts, Path(folder) / "new.parquet", standing)
        spent = defaultdict(list)
        for out in ("standing", *("anew", "known") * ROUNDS):
            (Path(folder) / out).mkdir(exist_ok=True)
            asked = ["standing"] if out == "standing" else ["standing", "new"]
            spent[out].append(one_core.run([sys.executable, __file__, "--build", folder, out, *asked])["seconds"])
        for out, seconds in spent.items():
            print(f"{out:>9}: {min(seconds):.2f} s of one core, the least of {len(seconds)}", flush=True)


def build_one(folder: Path, out: str, asked: list[str]) -> dict:
    """One of the builds of `interval`, in this process."""
    known = folder / "standing" / comparisons.FILE if out == "known" else None
    build([folder / f"{name}.parquet" for name in asked], folder / out, known)
    return {"seconds": one_core.seconds()}


def others_than_duplicates() -> list[str]:
    """Every rule of document_rules.sql but the two that this is about."""
    macro = (warehouse.PROJECT / "macros" / "document_rules.sql").read_text(encoding="utf-8")
    named = set(re.findall(r"'([a-z0-9]+_?[a-z0-9]+\.[a-z0-9_%]+)'", macro)) - {"duplicates.exact", "duplicates.near"}
    counted = {"gopher_repetition.top_%dgram": range(2, 5), "gopher_repetition.duplicate_%dgrams": range(5, 11)}
    return sorted(rule % n if "%" in rule else rule for rule in named for n in counted.get(rule, [0]))


def scaling(counts: list[int]) -> None:
    """What each count costs, printed as it is known."""
    with tempfile.TemporaryDirectory(prefix="palimpsest-bench-") as folder:
        state = parsed_project(Path(folder))
        for count in counts:
            file = Path(folder) / "documents.jsonl"
            write(file, documents(count))
            found = one_core.run([sys.executable, __file__, "--ours", str(file), str(state)])
            seconds, signed = found["seconds"], found["signatures"]
            print(f"{count:>9,} documents: {seconds:.0f} s of one core, {signed:.0f} of them signatures;", end=" ")
            print(
                f"{1e6 * seconds / count:.0f} µs each, {found['memory']:,.0f} MiB, {len(found['kept']):,} kept",
                flush=True,
            )


if __name__ == "__main__":
    if sys.argv[1] == "--ours":
        print(json.dumps(ours(Path(sys.argv[2]), Path(sys.argv[3]))))
    elif sys.argv[1] == "--build":
        print(json.dumps(build_one(Path(sys.argv[2]), sys.argv[3], sys.argv[4:])))
    elif sys.argv[1] == "--interval":
        interval(int(sys.argv[2]), int(sys.argv[3]))
    else:
        scaling([int(count) for count in sys.argv[1:]])
