"""What the seeds of each compared pair could have told apart: without it "no difference" says little.

A difference is seen where the 95% interval of the paired differences excludes 0, so whatever measures less than its
half width is not (`training.analysis.paired`). Two mixes of which none was seen are alike up to that, and no further.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from training.analysis.gaps import NONE, compare
from training.analysis.members import Member


def find_resolution(
    members: Sequence[Member],
    reference: str,
    sets: Sequence[str],
    *,
    gaps: Sequence[Mapping],
    ablations: Sequence[Mapping],
    rises: Sequence[Mapping],
) -> list[dict]:
    """A row per held-out set and compared pair: every mix with the reference, and those of the other sections.

    ``difference`` is the loss of ``first`` minus that of ``second``; ``margin`` what it has to exceed to be ``seen``,
    ``detectable`` the true difference that four studies of five would see; both null for one seed.
    """
    known = {member.mix: member for member in members}
    pairs = [(mix, reference) for mix in known if mix != reference and reference in known]
    pairs += [(point["mix"], point["against"]) for gap in gaps for point in gap["points"]]
    pairs += [(row["second"], row["first"]) for row in (*ablations, *rises)]
    found = []
    for first, second in dict.fromkeys(pairs):
        for name in sets:
            measured = compare(known[first], known[second], name, NONE)
            if measured:
                row = {key: measured[key] for key in ("difference", "margin", "detectable", "seeds")}
                seen = row["margin"] is not None and abs(row["difference"]) > row["margin"]
                found.append({"first": first, "second": second, "set": name, **row, "seen": seen})
    return found


def sentence(row: Mapping) -> str:
    """What could not have been seen, whatever was measured."""
    if row["margin"] is None:
        return "one seed: no difference could have been told from seed noise"
    return f"differences below {row['margin']:.4f} nats could not have been seen"


def shown(table: Mapping) -> list[Mapping]:
    """The rows that pages show: all held-out documents, and the long-context set."""
    return [row for row in table.get("resolution", ()) if row["set"] in ("iid", table["long_context"])]
