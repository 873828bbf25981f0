"""How long the texts and megadocs of each stream are beside the context that reads them (megadocs digest, 9.1).

What keeping generations together can do hangs on how many versions of a text a window holds: a layout of long megadocs
whose versions are longer still than the context shows the model one of them at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from palimpsest.config import Study
from palimpsest.lake import Published
from palimpsest.packing import Packing, pack

UNITS = ("documents", "megadocs")
LENGTHS = tuple(f"{unit}{of}" for unit in UNITS for of in ("", "_mean", "_median", "_p90", "_max", "_over_context"))
COLUMNS = ["position", "part", "document_id", "tokens", "ends_row"]


def stream_lengths(study: Study, mixes: Published, streams: Mapping[str, Sequence[Mapping]]) -> list[dict]:
    """A row per mix and stream: mix, stream, context, `LENGTHS`, versions_per_window.

    A document ends at a boundary token, which counts as its own; lengths are in tokens, ``_over_context`` is the share
    of them longer than the mix's context. ``versions_per_window`` is how many documents of one source a window shows,
    if in part: the mean over its tokens. ``streams`` are the rows of ``mixes.parquet`` by recipe; of a stream that a
    mix uses in part only that part counts.
    """
    known: dict[tuple, dict] = {}
    found = []
    for mix in (name for name in study.mixes if name in streams):
        training = study.training_of(mix)
        for row in streams[mix]:
            place = (row["layout"], row["stream_tokens"], training.context, training.packing)
            if place not in known:
                known[place] = measure(_parts(mixes, row["layout"]), *place[1:])
            found.append({"mix": mix, "stream": row["layout"], "context": training.context, **known[place]})
    return found


def measure(parts: pa.Table, tokens: int, context: int, packing: Packing) -> dict[str, float]:
    """`LENGTHS` and versions_per_window of the first megadocs of a stream, of so many tokens together.

    ``parts`` are its rows of ``megadoc_parts.parquet`` in order.
    """
    until = np.cumsum(parts["tokens"].to_numpy())
    parts = parts.slice(0, int(np.searchsorted(until, tokens, side="right")))
    size, ends = parts["tokens"].to_numpy(), parts["ends_row"].to_numpy().astype(np.int64)
    document = np.cumsum(ends) - ends
    megadoc = np.unique(parts["position"].to_numpy(), return_inverse=True)[1]
    lengths = [np.bincount(unit, size).astype(np.int64) for unit in (document, megadoc)]
    found: dict[str, float] = {}
    for name, own in zip(UNITS, lengths, strict=True):
        found |= {
            name: len(own),
            f"{name}_mean": float(own.mean()),
            f"{name}_median": float(np.median(own)),
            f"{name}_p90": float(np.quantile(own, 0.9)),
            f"{name}_max": int(own.max()),
            f"{name}_over_context": float((own > context).mean()),
        }
    first = np.flatnonzero(np.diff(document, prepend=-1))
    source = np.unique(np.array(parts["document_id"].to_pylist(), dtype=str)[first], return_inverse=True)[1]
    return found | {"versions_per_window": _versions(lengths[0], source, _windows(lengths[1], context, packing))}


def _parts(mixes: Published, layout: str) -> pa.Table:
    file = mixes.file("megadoc_parts.parquet")
    rows = pq.read_table(file, columns=COLUMNS, filters=[("layout", "==", layout)])
    return rows.sort_by([("position", "ascending"), ("part", "ascending")])


def _windows(megadocs: np.ndarray, context: int, packing: Packing) -> tuple[np.ndarray, np.ndarray]:
    """Where the pieces of a stream begin, in its order, and the window that each is in."""
    if packing == "cut":
        count = -(-int(megadocs.sum()) // context)
        return np.arange(count) * context, np.arange(count)
    packed = pack(megadocs, context, packing)
    window = np.repeat(np.arange(len(packed)), np.diff(packed.first))
    order = np.argsort(packed.start)
    return packed.start[order], window[order]


def _versions(documents: np.ndarray, source: np.ndarray, windows: tuple[np.ndarray, np.ndarray]) -> float:
    """``documents`` are their lengths in order, ``source`` the text that each is a version of."""
    starts, (pieces, window) = np.cumsum(documents) - documents, windows
    edges = np.union1d(starts, pieces)
    lengths = np.diff(edges, append=documents.sum())
    document = np.searchsorted(starts, edges, side="right") - 1
    place = window[np.searchsorted(pieces, edges, side="right") - 1]
    together, which = np.unique(place * (source.max() + 1) + source[document], return_inverse=True)
    count = np.bincount(np.unique(which * len(documents) + document) // len(documents), minlength=len(together))
    tokens = np.bincount(which, lengths)
    return float((count * tokens).sum() / tokens.sum())
