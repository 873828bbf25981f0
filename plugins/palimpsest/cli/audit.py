"""``guard audit``: a sample of accepted texts for a person to read, and the way back of what they found."""

from __future__ import annotations

from pathlib import Path

from palimpsest.cli.summary import summary
from palimpsest.lake import Lake, LakeError


def register(commands) -> None:
    text = "texts that a study's review accepted, for a person to read; --import publishes the answers (gate G11)"
    audit = commands.add_parser("audit", help=text, description=text)
    audit.add_argument("study")
    audit.add_argument("--strategy", help="only of this strategy")
    audit.add_argument("--count", type=int, help="texts of each strategy (default: 250)")
    audit.add_argument("--to", type=Path, help="file to write, .csv or .parquet (default: audit_STUDY.csv)")
    audit.add_argument("--import", dest="answered", type=Path, metavar="FILE", help="the file with 'good' filled in")
    audit.add_argument("--by", default="", help="who read the texts (with --import)")
    audit.set_defaults(command=_audit)


def _audit(options) -> None:
    from palimpsest.config import load_study
    from palimpsest.guard import audit

    study, lake = load_study(options.study), Lake.from_env()
    if options.answered:
        published = audit.publish(study.name, lake, audit.read(options.answered), by=options.by)
        for name, count in published.extra["audited"].items():
            print(f"strategy {name}: {published.extra['good'][name]} of {count} texts are good, says {options.by}")
        print(summary(published))
        print(f"judge the study again for it to count: python -m expectations study {study.name}")
        return
    generations, split = (lake.latest(f"studies/{study.name}/{stage}") for stage in ("generations", "split"))
    rows = audit.sample(generations, split, options.count or audit.COUNT)
    if options.strategy:
        rows = [row for row in rows if row["strategy"] == options.strategy]
    if not rows:
        raise LakeError(f"study {study.name}: its review accepted no text of strategy {options.strategy}")
    file = options.to or Path(f"audit_{study.name}.csv")
    audit.write(rows, file)
    print(f"{file}: {len(rows)} texts. Read each beside its source, write yes or no under 'good', then:")
    print(f"python -m palimpsest guard audit {study.name} --import {file} --by 'YOUR NAME'")
