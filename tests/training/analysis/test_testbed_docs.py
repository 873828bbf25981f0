"""The page of the testbed of documentation, of rows whose answers are known."""

from __future__ import annotations

import pytest

from training.analysis.testbed_docs import PAGE, TOLD
from training.analysis.testbed_texts import checks, headline, passed

PERPLEXITY = {"random": 200.0, "oracle": 100.0, "everything": 90.0, "rank average": 150.0, "PVM, alpha 0.1": 130.0}


def tables(seeds: int = 5, **changes: float) -> dict:
    """Rank average closes half of the gap, PVM 70%, the same in every seed but for a shift of all arms."""
    rows = [
        {"arm": arm, "seed": seed, "perplexity": changes.get(f"{arm}/{seed}", own) + seed}
        | {"auroc": 0.7, "spearman": 0.5, "cpu_seconds": 2.0, "flops": 1e9}
        for seed in range(seeds)
        for arm, own in PERPLEXITY.items()
    ]
    kinds = [
        {"arm": arm, "seed": seed, "kind": kind, "kept": 0.5}
        for seed in range(seeds)
        for arm in PERPLEXITY
        for kind in TOLD.grades
    ]
    return {"arms": rows, "kinds": kinds, "figures": [], "features": [], "trace": [], "carried": [], "worth": []}


def test_a_score_that_meets_both_halves_of_the_rule_passes():
    given = tables()
    assert passed(given["arms"]) == ["PVM, alpha 0.1"]
    assert headline(given) == (
        "Over 5 seeds rank average closes 50% of the gap from chance to oracle, PVM, alpha 0.1 70%: "
        "PVM, alpha 0.1 passes."
    )
    page = PAGE.render(given, [], [])
    assert "| PVM, alpha 0.1 | 132.0 ± 1.6 | 70% | 5 of 5 | 5 | 0.700 ± 0.000 | 0.50 ± 0.00 | 2.0 | 1e+09 |" in page
    assert "| everything | 92.0 ± 1.6 | – | – |" in page


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ({"PVM, alpha 0.1/0": 151.0}, [True, True]),  # mean 66%, four of five above
        ({"PVM, alpha 0.1/0": 151.0, "PVM, alpha 0.1/1": 151.0, "PVM, alpha 0.1/2": 101.0}, [True, False]),
        ({f"PVM, alpha 0.1/{seed}": 145.0 for seed in range(5)}, [False, True]),  # above in all, 55% of the gap
    ],
)
def test_both_halves_are_asked_of_the_seeds_together(changes, holds):
    given = tables(**changes)
    assert [own.holds for own in checks(given["arms"])] == holds
    assert bool(passed(given["arms"])) == all(holds)


def test_four_seeds_are_too_few_to_pass_and_the_page_says_who_stays_the_default():
    given = tables(seeds=4)
    assert not passed(given["arms"])
    assert checks(given["arms"])[1].found == "4 of 4 seeds, where 5 are asked for"
    assert headline(given).endswith("no learned score passes, so rank average stays the default.")


def test_arms_are_in_the_order_of_the_gap_where_their_seeds_differ():
    """PVM closes less of the gap than rank average, and has the lower mean perplexity: it lacks the dear seeds."""
    given = tables(**{f"PVM, alpha 0.1/{seed}": 151.0 for seed in range(5)})
    given["arms"] = [row for row in given["arms"] if row["arm"] != "PVM, alpha 0.1" or row["seed"] < 2]
    page = PAGE.render(given, [], [])
    assert "| PVM, alpha 0.1 | 151.5 ± 0.7 | 49% | 0 of 2 |" in page
    assert "| rank average | 152.0 ± 1.6 | 50% |" in page
    table = page[page.index("## Arms") :]
    places = [table.index(f"| {arm} |") for arm in ("everything", "oracle", "rank average", "PVM, alpha 0.1", "random")]
    assert places == sorted(places)
    assert "Perplexities compare only between arms of the same seeds" in page


def test_an_arm_of_fewer_seeds_is_said_to_be():
    given = tables()
    given["arms"] = [row for row in given["arms"] if row["arm"] != "PVM, alpha 0.1" or row["seed"] < 2]
    assert "PVM, alpha 0.1 70% (of 2): no learned score passes" in headline(given)
    assert "| PVM, alpha 0.1 | 130.5 ± 0.7 | 70% | 2 of 2 | 2 |" in PAGE.render(given, [], [])
