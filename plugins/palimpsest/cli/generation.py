"""Commands that plan and generate."""

from __future__ import annotations

from palimpsest.cli.summary import summary
from palimpsest.config import load_study
from palimpsest.lake import Lake


def register(add) -> None:
    add("plan", _plan, "what is to be generated, what of it is left, and what it will cost", "study")
    generate = add("generate", _generate, "generate what the ledger lacks, then publish", "study")
    generate.add_argument("--shard", type=int, help="only this shard; publishes nothing")


def _plan(options) -> None:
    from palimpsest.generate.estimate import estimate
    from palimpsest.generate.ledger import Ledger
    from palimpsest.generate.plan import plan

    study, lake = load_study(options.study), Lake.from_env()
    planned = plan(study, lake, split=lake.latest(f"studies/{study.name}/split"))
    found = estimate(study, lake, planned, Ledger(lake))
    print(summary(planned))
    print(found.table())
    print(found.reason(study))


def _generate(options) -> None:
    from rich.progress import Progress

    from palimpsest.generate.run import generate_shard, publish_generations

    study, lake = load_study(options.study), Lake.from_env()
    split, plan = (lake.latest(f"studies/{study.name}/{stage}") for stage in ("split", "plan"))
    shards = range(study.shards) if options.shard is None else [options.shard]
    with Progress() as bar:
        for shard in shards:
            task = bar.add_task(f"shard {shard}", total=None)
            generate_shard(
                study,
                lake,
                split=split,
                plan=plan,
                shard=shard,
                progress=lambda done, total, task=task: bar.update(task, completed=done, total=total),
            )
    if options.shard is None:
        print(summary(publish_generations(study, lake, split=split, plan=plan)))
