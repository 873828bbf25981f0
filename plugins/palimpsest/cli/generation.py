"""Commands that plan and generate."""

from __future__ import annotations

import datetime as dt

from palimpsest.cli.summary import summary
from palimpsest.config import load_study
from palimpsest.lake import Lake, LakeError, Published


def register(add) -> None:
    add("plan", _plan, "what is to be generated, what of it is left, and what it will cost", "study")
    generate = add("generate", _generate, "generate what the ledger lacks, then publish", "study")
    generate.add_argument("--shard", type=int, help="only this shard; publishes nothing")
    generate.add_argument("--replay", action="store_true", help="ask once more for what had failed for good")
    generate.add_argument("--quarantined", action="store_true", help="ask generators in quarantine all the same")
    add("failures", _failures, "requests that failed for good: cause, what the engine said, how to replay", "study")


def _plan(options) -> None:
    from palimpsest.generate.estimate import estimate
    from palimpsest.generate.ledger import Ledger
    from palimpsest.generate.plan import plan
    from palimpsest.guard import quarantine

    study, lake = load_study(options.study), Lake.from_env()
    planned = plan(study, lake, split=lake.latest(f"studies/{study.name}/split"))
    found = estimate(study, planned, Ledger(lake))
    print(summary(planned))
    print(found.table())
    print(found.reason(study))
    for entry in quarantine.asked(study, _models(planned), lake, dt.datetime.now(dt.UTC).date()):
        print(entry.sentence)


def _models(planned: Published) -> dict[str, str]:
    """The model of each strategy of a plan."""
    return {name: asked["model"] for name, asked in planned.manifest["config"]["strategies"].items()}


def _generate(options) -> None:
    from palimpsest.cli.bar import Bar
    from palimpsest.generate.publish import publish_generations
    from palimpsest.generate.run import generate_shard
    from palimpsest.guard import quarantine

    study, lake = load_study(options.study), Lake.from_env()
    split, plan = (lake.latest(f"studies/{study.name}/{stage}") for stage in ("split", "plan"))
    if options.shard is not None and options.shard not in range(study.shards):
        raise ValueError(f"--shard {options.shard}: study '{study.name}' has shards 0 to {study.shards - 1}")
    held = quarantine.asked(study, _models(plan), lake, dt.datetime.now(dt.UTC).date())
    if held and not options.quarantined:
        raise LakeError(
            f"{held[0].sentence}. Ask another generator, lift it (python -m palimpsest guard quarantine lift), answer "
            f"for it with a waiver of {' or '.join(quarantine.GATES)} in {study.path}, or ask it this once with "
            "--quarantined"
        )
    with Bar() as bar:
        for shard in range(study.shards) if options.shard is None else [options.shard]:
            show = bar.shard(shard)
            generate_shard(study, lake, split=split, plan=plan, shard=shard, replay=options.replay, progress=show)
    if options.shard is None:
        print(summary(publish_generations(study, lake, split=split, plan=plan)))


def _failures(options) -> None:
    from palimpsest.catalog import Catalog
    from palimpsest.generate.failures import failures

    study, lake = load_study(options.study), Lake.from_env()
    rows = failures(lake.latest(f"studies/{study.name}/plan"), Catalog.from_env())
    for row in rows:
        part = f" part {row['part']}" if row["part"] else ""
        tries = f"{row['tries']} {'try' if row['tries'] == 1 else 'tries'}, " if row["tries"] else ""
        print(f"{row['cause']}: {row['strategy']} sample {row['g']}{part} of {row['url']} ({tries}{row['key']})")
        if row["detail"]:
            print(f"    {row['detail']}")
    again = f"; ask for them again with: python -m palimpsest generate {study.name} --replay" if rows else ""
    requests = "1 request" if len(rows) == 1 else f"{len(rows):,} requests"
    print(f"{requests} of study '{study.name}' failed{again}")
