"""``generation_drops.parquet``: what was generated and is not used, each with its reason, for a person to look at."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from palimpsest.generate.review.reviewer import Reviewed
from palimpsest.ingest import pii

DROPS = pa.schema(
    [
        ("generation_id", pa.string()),
        ("document_id", pa.string()),
        ("url", pa.string()),
        ("strategy", pa.string()),
        ("kind", pa.string()),
        ("g", pa.int32()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("defects", pa.list_(pa.string())),
        ("attempt", pa.int32()),
        ("parts", pa.int32()),
        ("text", pa.string()),
    ]
)


def dropped(planned: Mapping[str, object], reviewed: Reviewed) -> dict[str, object]:
    """A row of `DROPS`; ``planned``: the columns that the review does not make.

    Personal data is redacted here: the ledger has the text as it came.
    """
    text = pii.redact(reviewed.text)[0] if "pii" in reviewed.defects else reviewed.text
    made = {"reason": reviewed.reason, "detail": reviewed.detail, "defects": list(reviewed.defects), "text": text}
    return {name: made[name] if name in made else planned[name] for name in DROPS.names}
