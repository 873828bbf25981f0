"""The language of each paragraph of a text, as a column that SQL can add up or hold a rule to.

Paragraphs are parted by a blank line, or by line in a text without any; macro ``paragraphs_of`` (dbt_project) parts
them in the same way, so that the n-th of the column is the n-th of the text.
"""

from __future__ import annotations

import pyarrow as pa

from palimpsest.ingest import langid

TYPE = pa.list_(pa.struct([("language", pa.string()), ("score", pa.float64()), ("characters", pa.int64())]))


def languages(text: str) -> list[dict[str, str | float | int]]:
    """Of each paragraph: ISO 639 code ('und': no letter in it), confidence, and its length."""
    parts = text.split("\n\n" if "\n\n" in text else "\n")
    found = [(*langid.identify(part), len(part)) for part in parts]
    return [dict(zip(("language", "score", "characters"), values, strict=True)) for values in found]
