"""Pairs of texts whose Jaccard is known: those that the latest documents of a corpus were made with.

A pair's Jaccard depends on its two texts alone, so what is known spares work and decides nothing: the documents are the
same without it, and whatever else has come, changed or gone since.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from palimpsest.lake import Lake, LakeError, NotPublished, digest_code, digest_json

FILE = "document_comparisons.parquet"
KEY = "comparisons"
"""In ``extra`` of the documents' manifest: `measured_by`."""
SCHEMA = pa.schema([("words_sha256_low", pa.string()), ("words_sha256_high", pa.string()), ("jaccard", pa.float64())])
log = logging.getLogger(__name__)


def measured_by(shingle_words: int, code: Sequence[str]) -> str:
    """Digest of what decides the Jaccard of two texts, beside them: the runs of words and the code."""
    return digest_json([shingle_words, digest_code(*code)])


def known(dataset: str, lake: Lake, measured: str, folder: Path) -> Path:
    """The table of the latest version of ``dataset``, if it is there whole and was `measured_by` the same; else an
    empty one in ``folder``.
    """
    try:
        latest = lake.latest(dataset)
        if latest.extra.get(KEY) == measured:
            return latest.file(FILE)
    except NotPublished:
        pass
    except LakeError as error:
        log.warning("every pair of texts is compared again: %s", error)
    return none_known(folder)


def none_known(folder: Path) -> Path:
    """The table of a corpus without documents."""
    pq.write_table(SCHEMA.empty_table(), folder / "comparisons.parquet")
    return folder / "comparisons.parquet"
