"""The catalog: an index over the lake's manifests, in SQLite or PostgreSQL.

The manifests remain the truth: ``Catalog.sync`` rebuilds everything but the throughput ledger from them.
"""

from __future__ import annotations

from palimpsest.catalog.store import Catalog, Relative
from palimpsest.catalog.trace import trace_url

__all__ = ["Catalog", "Relative", "trace_url"]
