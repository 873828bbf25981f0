"""``guard quarantine``: the generators whose text the guard stopped, and how one is let out."""

from __future__ import annotations

from palimpsest.lake import Lake


def register(commands) -> None:
    text = "generators whose text lost rare words or entropy: no study asks them without a person's word"
    quarantine = commands.add_parser("quarantine", help=text, description=text)
    actions = quarantine.add_subparsers(metavar="ACTION", required=True)
    text = "the generators in quarantine, and why"
    listed = actions.add_parser("list", help=text, description=text)
    listed.set_defaults(command=_list)
    text = "let a generator out"
    lift = actions.add_parser("lift", help=text, description=text)
    lift.add_argument("generator", help="its name as 'list' prints it")
    lift.add_argument("--by", required=True, help="who lifts it")
    lift.add_argument("--why", required=True, help="why, in a sentence")
    lift.set_defaults(command=_lift)


def _list(options) -> None:
    from palimpsest.guard import quarantine

    found = quarantine.standing(Lake.from_env())
    for entry in found.values():
        print(entry.sentence)
    print(f"{len(found)} in quarantine")


def _lift(options) -> None:
    from palimpsest.guard import quarantine

    entry = quarantine.lift(Lake.from_env(), options.generator, by=options.by, why=options.why)
    print(f"lifted by {options.by}: {entry.sentence}")
