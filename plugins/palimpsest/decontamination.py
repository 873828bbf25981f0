"""``corpora/<corpus>/overlaps/<day>``: the pages of a day that recite a question which models are judged by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from palimpsest.config import Corpus, EvaluationSet, check_files, resolve
from palimpsest.generate.review.benchmark import Benchmarks
from palimpsest.generate.review.facts import Facts as Read
from palimpsest.lake import Facts, Lake, Published, digest_file

CODE = ("plugins/palimpsest/decontamination.py", "plugins/palimpsest/words.py") + tuple(
    f"plugins/palimpsest/generate/review/{name}.py" for name in ("benchmark", "facts")
)
OVERLAPS = pa.schema(
    [
        ("page_id", pa.string()),
        ("url", pa.string()),
        ("evaluation_set", pa.string()),
        ("item", pa.string()),
        ("words", pa.string()),
        ("share", pa.float64()),
    ]
)
BATCH = 1_000  # texts in memory


def find_overlaps(corpus: Corpus, days: Sequence[Published], lake: Lake) -> list[Published]:
    """A dataset for each day of pages, ``overlaps.parquet``: a row for each page and set of which it recites an item.

    ``item`` is the file and the item's id or line, ``words`` what the page has of it, ``share`` how much of its runs of
    five words. A day is read once for each state of the sets: a new interval costs its own pages.
    """
    check_files(corpus, "decontamination.")
    sets = corpus.decontamination.sets
    config = {"sets": canonical(sets)}
    known: dict[str, Benchmarks] = {}  # read for the first day to be searched, and once for all of them
    found = []
    for day in days:

        def write(directory: Path, day: Published = day) -> Facts:
            if not known:
                known.update(index(sets))
            rows = list(overlaps(_texts(day.file("pages.parquet")), known))
            pq.write_table(pa.Table.from_pylist(rows, OVERLAPS), directory / "overlaps.parquet", compression="zstd")
            return Facts(extra={"pages": len({row["page_id"] for row in rows})})

        name = f"corpora/{corpus.name}/overlaps/{day.dataset.rsplit('/', 1)[1]}"
        found.append(lake.publish(name, write, config=config, parents=[day], code=CODE))
    return found


def canonical(sets: Mapping[str, EvaluationSet]) -> dict[str, dict[str, object]]:
    """The sets as they are written, and what their files hold: for the key of what is made with them."""
    return {name: chosen.model_dump() | {"digest": digest_file(resolve(chosen.file))} for name, chosen in sets.items()}


def index(sets: Mapping[str, EvaluationSet]) -> dict[str, Benchmarks]:
    """The items of each set; raises `ConfigError` for a file or a column that is not there."""
    return {name: Benchmarks((chosen,)) for name, chosen in sets.items()}


def overlaps(pages: Iterable[tuple[str, str, str]], known: Mapping[str, Benchmarks]) -> Iterator[dict[str, object]]:
    """Rows of `OVERLAPS` for pages given as page_id, url and text."""
    for page_id, url, text in pages:
        read = Read(text)
        for name, items in known.items():
            if hit := items.recital(read):
                row = {"item": hit.item, "words": hit.words, "share": hit.share}
                yield {"page_id": page_id, "url": url, "evaluation_set": name, **row}


def none_found(folder: Path) -> Path:
    """The table of a corpus that names no evaluation sets."""
    pq.write_table(OVERLAPS.empty_table(), folder / "overlaps.parquet")
    return folder / "overlaps.parquet"


def _texts(file: Path) -> Iterator[tuple[str, str, str]]:
    for batch in pq.ParquetFile(file).iter_batches(BATCH, columns=["page_id", "url", "text"]):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
