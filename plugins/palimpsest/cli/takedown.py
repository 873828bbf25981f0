"""``takedown``: one page and everything made of it removed, and what was removed listed."""

from __future__ import annotations

from palimpsest.lake import Lake


def register(add) -> None:
    command = add("takedown", _takedown, "remove a page and everything made of it from the lake, for good")
    command.add_argument(
        "page",
        nargs="?",
        help="its address as it was crawled, or a page_id, document_id or generation_id; without one, all pages that "
        "were ever taken down are looked for again",
    )
    command.add_argument("--reason", default="", help="why, in a sentence; kept in the lake, not needed with --dry-run")
    command.add_argument("--copies", action="store_true", help="also the pages with the same or nearly the same text")
    command.add_argument("--models", action="store_true", help="also the models trained on it, and their results")
    command.add_argument("--dry-run", action="store_true", help="only list what would be removed")


def _takedown(options) -> None:
    from palimpsest.catalog import Catalog
    from palimpsest.takedown import order

    lake, catalog = Lake.from_env(), Catalog.from_env()
    if options.page is None:
        done = order.sweep(lake, catalog)
    else:
        done = order.take_down(
            lake,
            catalog,
            options.page,
            reason=options.reason,
            copies=options.copies,
            models=options.models,
            dry_run=options.dry_run,
        )
    print("\n".join(_told(done, options)))


def _told(done, options) -> list[str]:
    plan, would = done.plan, options.dry_run
    lines = [f"{'would take' if would else 'taken'} down: {url}" for url in done.urls]
    lines += [f"{'would remove' if would else 'removed'} {_version(row)}" for row in plan.removed]
    lines += [f"{'would rewrite' if would else 'rewritten'} without it {_version(row)}" for row in plan.rewritten]
    if would and plan.keys:
        lines.append(f"would remove what the ledger has of {len(plan.keys):,} requests")
    if done.rows:
        lines.append(f"removed {done.rows:,} rows of the generation ledger")
    for row in plan.trained:
        run = f", MLflow run {row['mlflow_run_id']}" if "mlflow_run_id" in row else ""
        lines.append(f"made by training on it, not removed (--models removes it): {row['uri']}{run}")
    lines += [f"has the same text or nearly (--copies takes it down too): {url}" for url in plan.copies]
    lines += [f"not removed: {sentence}" for sentence in plan.left]
    if plan.is_empty and not done.rows:
        lines.append("nothing else of it is in the lake")
    elif not would:
        lines.append(f"receipt: {done.receipt}")
        lines += [f"make again: {command}" for command in _remade(row["uri"] for row in plan.removed)]
    return lines


def _version(row: dict) -> str:
    rows = f"{row['rows']:,} rows of it" if row.get("rows") else "made of it"
    return f"{row['uri']} ({rows}, {row['bytes']:,} bytes)"


def _remade(uris) -> list[str]:
    """The Dags whose data is gone."""
    names = {(uri.split("/")[0], uri.split("/")[1]) for uri in uris if uri.startswith(("corpora/", "studies/"))}
    return [f"Dag {'corpus' if kind == 'corpora' else 'study'}_{name}" for kind, name in sorted(names)]
