"""Where loss does not fall with more generations per document, told by paired seeds and not by means.

More generations of a document should not do harm. A mean that is higher at the larger G is no warning yet: it is what
seed noise does to every other pair of mixes that are alike. A rise is *resolved* where the interval of the differences
seed by seed (`training.analysis.paired`) lies above 0. A rise over several steps is told where no step within it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from training.analysis.gaps import NONE, compare
from training.analysis.members import Member
from training.analysis.sampling import Documents, holds
from training.analysis.series import Series, find_series


def find_rises(members: Sequence[Member], sets: Sequence[str], documents: Documents = NONE) -> list[dict]:
    """The places of every series in G after which the loss is higher, by held-out set; the resolved ones first.

    ``from`` and ``to`` are the G of the mixes ``first`` and ``second``, ``difference`` the loss of the second minus
    that of the first, with its half widths over seeds and over held-out documents. ``resolved`` is of the seeds,
    ``over_documents`` of the documents. Of the rises that are not resolved those of single steps are there.
    """
    lines = [line for line in find_series(members) if line.axis == "generations"]
    found = [rise for line in lines for name in sets for rise in _rises(line, name, documents)]
    return sorted(found, key=lambda rise: not rise["resolved"])


def _rises(line: Series, name: str, documents: Documents) -> list[dict]:
    places, found = sorted(line.members), []
    for low, high in sorted(combinations(range(len(places)), 2), key=lambda pair: pair[1] - pair[0]):
        first, second = line.members[places[low]], line.members[places[high]]
        rise = compare(second, first, name, documents)
        if rise is None or rise["difference"] <= 0:
            continue
        resolved = rise["margin"] is not None and rise["difference"] > rise["margin"]
        inner = [known for known in found if places[low] <= known["from"] and known["to"] <= places[high]]
        if (high - low > 1 and not resolved) or any(known["resolved"] for known in inner):
            continue
        facts = {"set": name, "layout": line.name, "from": places[low], "to": places[high]}
        facts |= {"first": first.mix, "second": second.mix, "same_settings": first.settings == second.settings}
        over = holds(rise["difference"], rise["document_margin"])
        found.append({**facts, **rise, "resolved": resolved, "over_documents": over})
    return found
