"""Commands that plan and generate."""

from __future__ import annotations

from palimpsest.cli.summary import summary
from palimpsest.config import load_study
from palimpsest.lake import Lake


def register(add) -> None:
    add("plan", _plan, "what is to be generated, and what of it is left", "study")
    generate = add("generate", _generate, "generate what the ledger lacks, then publish", "study")
    generate.add_argument("--shard", type=int, help="only this shard; publishes nothing")


def _plan(options) -> None:
    from palimpsest.generate.plan import plan, remaining

    study, lake = load_study(options.study), Lake.from_env()
    split = lake.latest(f"studies/{study.name}/split")
    planned = plan(study, lake, split=split)
    left = remaining(lake, split=split, plan=planned)
    print(summary(planned))
    for name in study.strategies:
        print(f"  {name}: {len(left.get(name, []))} requests left")


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
