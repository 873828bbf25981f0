from __future__ import annotations

import numpy as np
import pytest

from palimpsest.config.mixes import Search
from tests.training.analysis.planted import COUNTS, GAP, SLOPE, make_study, true_loss
from training.analysis.gaps import find_ablations, find_gaps
from training.analysis.members import describe_mixes, writers
from training.analysis.monotone import find_rises
from training.analysis.series import find_series


def evaluations(study, seeds=(0, 1, 2), noise=0.0, rng=None, parameters=None, points=None):
    rng = rng or np.random.default_rng(0)
    noise = noise if isinstance(noise, dict) else dict.fromkeys(study.mixes, noise)
    return {
        mix: {
            seed: {
                "losses": {"iid": true_loss(study, mix, 1.0, "iid") + rng.normal(0, noise[mix])},
                "parameters": {"total": (parameters or {}).get(mix, 10_000), "non_embedding": 5_000},
            }
            | ({"point": points[mix]} if points and mix in points else {})
            for seed in seeds
        }
        for mix in study.mixes
    }


def gaps_of(study, runs):
    return find_gaps(describe_mixes(study, runs), ["iid"])


def test_mixes_that_differ_in_g_alone_are_a_series_and_others_are_not_of_it():
    study = make_study()
    lines = [line for line in find_series(describe_mixes(study, evaluations(study))) if line.axis == "generations"]
    assert {line.name: [m.mix for m in line.members.values()] for line in lines} == {
        "simple": [f"simple_{g}" for g in COUNTS],
        "stitched": [f"stitched_{g}" for g in COUNTS],
    }


def test_planted_gap_and_its_growth_are_found_where_noise_allows():
    study = make_study()
    gap = next(g for g in gaps_of(study, evaluations(study)) if g["layout"] == "stitched")
    assert [point["x"] for point in gap["points"]] == list(COUNTS)
    assert gap["slope"] == pytest.approx(SLOPE) and gap["widens"] == "yes"
    assert gap["points"][0]["gap"] == pytest.approx(GAP) and gap["seeds_above_0"] == 3
    loud = next(g for g in gaps_of(study, evaluations(study, noise=0.05)) if g["layout"] == "stitched")
    assert loud["widens"] == "not resolved" and loud["slope_margin"] > abs(loud["slope"])


def test_every_megadoc_is_held_against_the_simple_mix_of_its_own_design():
    study = make_study()
    found = {gap["layout"]: [p["against"] for p in gap["points"]] for gap in gaps_of(study, evaluations(study))}
    assert found["stitched, real first"] == ["simple_8"]
    gap = next(g for g in gaps_of(study, evaluations(study)) if g["layout"] == "stitched, real first")
    assert (gap["widens"], gap["slope"]) == ("one place only", None)
    assert "stitched, attention within documents" not in found  # simple has no such mix


RATIONALES = {"kind": "rationale", "engine": {"kind": "recorded", "file": "x.jsonl"}}


def with_strategies(study, **strategies):
    """The study with strategies of rationales too, a stretched layout and a mix for each, called after it."""
    content = study.model_dump()
    for name, strategy in strategies.items():
        content["strategies"][name] = RATIONALES | strategy
        content["layouts"][f"stretched_{name}"] = {"kind": "stretched", "strategy": name}
        content["mixes"][f"stretched_{name}"] = {"layout": f"stretched_{name}", "f": 0.75, "epochs": 4}
    return type(study).model_validate(content)


def test_rationales_of_each_g_are_a_strategy_of_their_own_and_one_series():
    study = with_strategies(make_study(), **{f"thought_{g}": {"generations": g} for g in (2, 4, 8)})
    members = describe_mixes(study, evaluations(study))
    line = next(line for line in find_series(members) if line.axis == "generations" and line.kind == "stretched")
    assert line.name == "stretched, thought" and list(line.members) == [2, 4, 8]
    gap = next(g for g in find_gaps(members, ["iid"]) if g["layout"] == "stretched, thought")
    assert [(p["x"], p["against"]) for p in gap["points"]] == [(g, f"simple_{g}") for g in (2, 4, 8)]
    assert gap["slope"] == pytest.approx(2 * SLOPE) and gap["widens"] == "yes"
    rising = evaluations(study)
    rising["stretched_thought_8"][0]["losses"]["iid"] += 1
    assert [r["layout"] for r in find_rises(describe_mixes(study, rising), ["iid"])] == ["stretched, thought"]


def test_strategies_that_differ_in_more_than_g_are_not_one_series():
    other = {"review": {"loop": "drop"}}
    strategies = {"a_2": {"generations": 2}, "a_4": {"generations": 4}, "a_hot_2": {"generations": 2, **other},
                  "a_hot_4": {"generations": 4, **other}, "lone": {"generations": 2, "seed": 1}}  # fmt: skip
    study = with_strategies(make_study(), **strategies)
    lines = [line for line in find_series(describe_mixes(study, evaluations(study))) if line.kind == "stretched"]
    assert {line.name: [m.mix for m in line.members.values()] for line in lines} == {
        "stretched, a": ["stretched_a_2", "stretched_a_4"],
        "stretched, a_hot": ["stretched_a_hot_2", "stretched_a_hot_4"],
    }


def test_strategies_alike_but_for_g_have_one_name_that_no_other_has():
    names = {"one": 1, "two": 1, "a": 2, "a_2": 2, "b_2": 3, "b_4": 3, "b_3": 4, "b_9": 4, "c_16": 5, "c_18": 5}
    strategies = {name: {"generations": place + 2, "seed": seed} for place, (name, seed) in enumerate(names.items())}
    called = writers(with_strategies(make_study(), **strategies))
    assert called == {"rephrase": "rephrase", "one": "one", "two": "one", "a": "a", "a_2": "a", "b_2": "b_2",
                      "b_4": "b_2", "b_3": "b_3", "b_9": "b_3", "c_16": "c", "c_18": "c"}  # fmt: skip


def test_a_stream_beside_parts_no_series_in_g():
    study = with_strategies(make_study(), **{f"thought_{g}": {"generations": g} for g in (2, 4, 8)})
    beside = {f"both_{g}": {"layout": f"simple_{g}", "beside": {f"stretched_thought_{g}": 2.0}, "f": 0.75, "epochs": 4}
              for g in (2, 4, 8)}  # fmt: skip
    content = study.model_dump()
    study = type(study).model_validate(content | {"mixes": {**content["mixes"], **beside}})
    lines = find_series(describe_mixes(study, evaluations(study)))
    line = next(line for line in lines if "beside" in line.name)
    assert line.name == "simple, beside 2 of stretched, thought" and list(line.members) == [4, 8, 16]


def test_one_seed_has_a_gap_and_no_interval():
    study = make_study()
    gap = next(g for g in gaps_of(study, evaluations(study, seeds=(0,))) if g["layout"] == "stitched")
    assert gap["mean_margin"] is None and gap["slope_margin"] is None and gap["widens"] == "not resolved"


def test_ablations_are_pairs_that_differ_in_one_thing():
    study = make_study()
    found = {(a["first"], a["second"]): a for a in find_ablations(describe_mixes(study, evaluations(study)), ["iid"])}
    assert set(found) == {("stitched_8", "first_8"), ("stitched_8", "inside_8")}
    order = found["stitched_8", "first_8"]
    assert (order["what"], order["from"], order["to"]) == ("real document", "last", "first")
    assert order["difference"] == pytest.approx(0.01) and order["same_settings"]


def test_settings_of_the_optimizer_that_no_search_tunes_are_design():
    study = make_study()
    linear = study.mixes["simple_8"].model_copy(update={"training": {"optimizer": {"schedule": "linear"}}})
    study = study.model_copy(update={"mixes": {**study.mixes, "simple_8_linear": linear}})
    members = describe_mixes(study, evaluations(study))
    assert {m.mix: m.name() for m in members}["simple_8_linear"] == "simple, schedule linear"
    found = next(a for a in find_ablations(members, ["iid"]) if a["second"] == "simple_8_linear")
    assert (found["what"], found["from"], found["to"], found["first"]) == ("schedule", "cosine", "linear", "simple_8")


def test_a_longer_training_of_one_mix_is_no_better_place_of_it():
    """A sweep of epochs at G = 8 that no search made: the series in G keeps to one length, the sweep is its own."""
    study = make_study()
    longer = study.mixes["simple_8"].model_copy(update={"epochs": 8.0})
    study = study.model_copy(update={"mixes": {**study.mixes, "simple_8_longer": longer}})
    runs = evaluations(study)
    for run in runs["simple_8_longer"].values():
        run["losses"]["iid"] -= 0.1
    lines = find_series(describe_mixes(study, runs))
    by_g = next(line for line in lines if line.axis == "generations" and line.name == "simple")
    assert [m.mix for m in by_g.members.values()][-1] == "simple_8" and by_g.beaten == 0
    assert [list(line.members) for line in lines if line.axis == "epochs"] == [[4.0, 8.0]]


def test_of_searched_mixes_in_one_place_the_best_stands_for_it():
    study = searched()
    mixes = {**study.mixes, "simple_8_again": study.mixes["simple_8"]}
    study = study.model_copy(update={"mixes": mixes})
    runs = evaluations(study)
    for run in runs["simple_8_again"].values():
        run["losses"]["iid"] -= 0.1
    by_g = next(line for line in find_series(describe_mixes(study, runs)) if line.name == "simple")
    assert [m.mix for m in by_g.members.values()][-1] == "simple_8_again" and by_g.beaten == 1


def searched():
    return make_study().model_copy(update={"search": Search(epochs=[1, 2, 4, 8, 16])})


def test_settings_that_a_search_found_do_not_part_a_series():
    study = searched()
    points = {f"simple_{g}": {"lr": 1e-3 * g, "weight_decay": 0.1, "epochs": g, "f": 0.5} for g in COUNTS}
    gap = next(g for g in gaps_of(study, evaluations(study, points=points)) if g["layout"] == "stitched")
    assert len(gap["points"]) == 4 and not any(point["same_settings"] for point in gap["points"])


def test_model_sizes_and_contexts_are_axes():
    study = make_study()
    wider = {"model": {"layers": 1, "width": 64, "mlp": 64, "heads": 1}}
    more = {
        "real_wide": study.mixes["real"].model_copy(update={"training": wider}),
        "simple_8_long": study.mixes["simple_8"].model_copy(update={"training": {"context": 128, "batch": 2}}),
        "stitched_8_long": study.mixes["stitched_8"].model_copy(update={"training": {"context": 128, "batch": 4}}),
    }
    study = study.model_copy(update={"mixes": {**study.mixes, **more}})
    runs = evaluations(study, parameters={"real_wide": 40_000})
    lines = {(line.axis, line.name): list(line.members) for line in find_series(describe_mixes(study, runs))}
    assert lines["parameters", "real"] == [10_000, 40_000]
    assert lines["context", "simple"] == lines["context", "stitched"] == [64, 128]
    gap = next(g for g in gaps_of(study, runs) if g["axis"] == "context")
    assert [point["x"] for point in gap["points"]] == [64, 128]


def test_a_controlled_mix_is_a_line_of_its_own_against_simple():
    study = make_study()
    controlled = study.mixes["stitched_8"].model_copy(update={"like": "simple_8"})
    study = study.model_copy(update={"mixes": {**study.mixes, "stitched_8_controlled": controlled}})
    found = {gap["layout"]: [p["mix"] for p in gap["points"]] for gap in gaps_of(study, evaluations(study))}
    assert found["stitched, at the settings of simple"] == ["stitched_8_controlled"]
    assert found["stitched"][-1] == "stitched_8"


def changed(study, **mixes):
    """With further mixes, each one of the study's with some keys otherwise."""
    content = study.model_dump()
    for name, (mix, keys) in mixes.items():
        content["mixes"][name] = {**content["mixes"][mix], **keys}
    return type(study).model_validate(content)


def ablations_of(study, runs=None):
    return {
        (found["first"], found["second"]): (found["what"], found["from"], found["to"], found["same_settings"])
        for found in find_ablations(describe_mixes(study, runs or evaluations(study)), ["iid"])
    }


def test_one_thing_changed_at_the_settings_of_the_mix_it_is_changed_in_is_a_pair():
    """A 'like' of a mix of the same layout takes its settings over so that nothing else differs."""
    masked = {"like": "stitched_8", "training": {"attention": "documents"}}
    study = changed(searched(), masked=("stitched_8", masked), wide=("stitched_8", {"like": "stitched_8", "training":
                    {"context": 128, "batch": 2}}))  # fmt: skip
    best = dict.fromkeys(("stitched_8", "masked", "wide"), {"lr": 3e-3, "weight_decay": 0.1, "epochs": 8.0, "f": 0.75})
    runs = evaluations(study, points=best)
    assert ablations_of(study, runs)["stitched_8", "masked"] == ("attention", "across", "documents", True)
    line = next(line for line in find_series(describe_mixes(study, runs)) if line.axis == "context")
    assert (line.name, [m.mix for m in line.members.values()]) == ("stitched", ["stitched_8", "wide"])


def test_settings_of_different_mixes_are_different_designs():
    study = changed(
        with_strategies(searched(), thought={"generations": 8}),
        of_simple=("stitched_8", {"like": "simple_8"}),
        of_stretched=("stitched_8", {"like": "stretched_thought"}),
        of_simple_2=("stitched_8", {"like": "simple_2"}),
        as_long=("stitched_8", {"match": {"mix": "simple_8", "by": "tokens"}}),
        as_costly=("stitched_8", {"match": {"mix": "simple_8", "by": "compute"}}),
    )
    names = {member.mix: member.name("generations") for member in describe_mixes(study, evaluations(study))}
    assert names["of_simple"] == "stitched, at the settings of simple"
    assert names["of_simple_2"] == "stitched, at the settings of simple, G = 2"
    assert names["of_stretched"] == "stitched, at the settings of stretched, thought"
    assert names["as_long"] == "stitched, matched by tokens to simple"
    found = {pair[1]: said[2] for pair, said in ablations_of(study).items() if pair[0] == "stitched_8"}
    assert found["of_simple"] == "those of simple" and found["as_costly"] == "matched by compute to simple"


@pytest.mark.parametrize("mix", ["simple_8", "stitched_8", "stretched_thought"])
def test_without_a_separate_real_stream_a_mix_is_another_and_not_one_more_place_of_its_series(mix):
    study = changed(with_strategies(searched(), thought={"generations": 8}), only=(mix, {"f": 1.0}))
    runs = evaluations(study)
    for run in runs["only"].values():
        run["losses"]["iid"] -= 1  # were it of the series, it would be the best there
    assert ablations_of(study, runs)[mix, "only"][:3] == ("real stream", "separate", "none")
    members = describe_mixes(study, runs)
    assert next(m for m in members if m.mix == "only").name().endswith("no separate real stream")
    assert all("only" not in {m.mix for m in line.members.values()} for line in find_series(members))


def test_series_of_one_axis_have_names_of_their_own():
    sweep = {f"simple_{g}_epochs_{e}": (f"simple_{g}", {"epochs": e, "search": False}) for g in (4, 8) for e in (1, 8)}
    study = changed(searched(), **sweep)
    lines = find_series(describe_mixes(study, evaluations(study)))
    named = {(line.axis, line.name): [m.mix for m in line.members.values()] for line in lines}
    assert len(named) == len(lines)
    assert named["generations", "simple"] == [f"simple_{g}" for g in COUNTS]
    assert named["generations", "simple, epochs 8"] == ["simple_4_epochs_8", "simple_8_epochs_8"]
    assert named["epochs", "simple, G 4"] == ["simple_4_epochs_1", "simple_4", "simple_4_epochs_8"]


def test_a_tuned_pair_beside_a_series_of_fixed_settings_is_a_gap_of_its_own_name():
    """Or in MLflow, where gaps are told apart by their layouts, the pair would take the place of the series."""
    fixed = {f"{kind}_{g}": (f"{kind}_{g}", {"search": False}) for kind in ("simple", "stitched") for g in COUNTS}
    tuned = {f"{kind}_8_tuned": (f"{kind}_8", {"search": True}) for kind in ("simple", "stitched")}
    study = changed(changed(searched(), **fixed), **tuned)
    points = dict.fromkeys(tuned, {"lr": 1e-3, "weight_decay": 0.1, "epochs": 8.0, "f": 0.75})
    gaps = [gap for gap in gaps_of(study, evaluations(study, points=points)) if gap["axis"] == "generations"]
    found = {gap["layout"]: [(p["x"], p["mix"], p["against"]) for p in gap["points"]] for gap in gaps}
    assert len(found) == len(gaps)
    assert found["stitched"] == [(g, f"stitched_{g}", f"simple_{g}") for g in COUNTS]
    assert found["stitched, tuned"] == [(8, "stitched_8_tuned", "simple_8_tuned")]


def test_intervals_cover_the_truth_of_loud_and_of_quiet_gaps():
    """95% nominal over 300 studies of three seeds, where one mix scatters fifteen times as much as the others."""
    study, rng = make_study(), np.random.default_rng(5)
    noise = dict.fromkeys(study.mixes, 0.01) | {"stitched_1": 0.15}
    covered, widths = {"slope": 0, "mean": 0, "loud": 0, "quiet": 0}, {"loud": [], "quiet": []}
    for _ in range(300):
        gaps = find_gaps(describe_mixes(study, evaluations(study, noise=noise, rng=rng)), ["iid"])
        gap = next(g for g in gaps if g["layout"] == "stitched")
        first, *_, last = gap["points"]
        covered["slope"] += abs(gap["slope"] - SLOPE) <= gap["slope_margin"]
        covered["mean"] += abs(gap["mean"] - GAP - SLOPE * 1.5) <= gap["mean_margin"]
        covered["loud"] += abs(first["gap"] - GAP) <= first["margin"]
        covered["quiet"] += abs(last["gap"] - GAP - 3 * SLOPE) <= last["margin"]
        widths["loud"].append(first["margin"])
        widths["quiet"].append(last["margin"])
    assert all(0.92 <= times / 300 <= 0.98 for times in covered.values()), covered
    assert np.mean(widths["loud"]) > 8 * np.mean(widths["quiet"])  # a loud mix widens no gap but its own


def rises_of(study, by_seed):
    """Of stitched mixes with these losses above those planted, by G and seed."""
    runs = evaluations(study)
    for g, added in by_seed.items():
        for seed, run in runs[f"stitched_{g}"].items():
            run["losses"]["iid"] += added[seed] if seed < len(added) else 0.0
    return find_rises(describe_mixes(study, runs), ["iid"])


def test_a_rise_with_more_generations_is_resolved_by_paired_seeds_not_by_means():
    study = make_study()
    step = true_loss(study, "stitched_4", 1.0, "iid") - true_loss(study, "stitched_8", 1.0, "iid")
    assert step > 0 and rises_of(study, {}) == []
    shared = np.array([0.4, 0.0, -0.4])  # what a seed does to both mixes tells nothing of either
    (paired,) = rises_of(study, {4: shared, 8: shared + step + [0.011, 0.009, 0.01]})
    assert (paired["first"], paired["second"], paired["from"], paired["to"]) == ("stitched_4", "stitched_8", 4, 8)
    assert paired["resolved"] and paired["difference"] == pytest.approx(0.01) and paired["margin"] < 0.003
    loud = rises_of(study, {8: step + np.array([0.11, -0.09, 0.01])})
    assert loud[0]["difference"] == pytest.approx(0.01) and not any(rise["resolved"] for rise in loud)


def test_a_rise_over_two_steps_is_told_where_neither_is_resolved_and_one_seed_resolves_nothing():
    study = make_study()
    at = {g: true_loss(study, f"stitched_{g}", 1.0, "iid") for g in COUNTS}
    first, second = np.array([0.02, 0.0, 0.01]), np.array([0.0, 0.02, 0.01])
    added = {4: at[2] - at[4] + first, 8: at[2] - at[8] + first + second}
    found = {(rise["from"], rise["to"]): rise["resolved"] for rise in rises_of(study, added)}
    assert found == {(2, 8): True, (2, 4): False, (4, 8): False}
    runs = evaluations(study, seeds=(0,))
    runs["simple_8"][0]["losses"]["iid"] += 1
    (alone,) = find_rises(describe_mixes(study, runs), ["iid"])
    assert (alone["from"], alone["margin"], alone["resolved"]) == (4, None, False)


def test_a_slope_is_over_the_seeds_that_all_its_places_have():
    study = make_study()
    runs = evaluations(study, noise=0.01)
    del runs["simple_1"][0]
    gap = next(g for g in gaps_of(study, runs) if g["layout"] == "stitched")
    x = np.log2(COUNTS) - np.mean(np.log2(COUNTS))
    by_seed = [x @ [point["by_seed"][seed] for point in gap["points"]] / (x @ x) for seed in ("1", "2")]
    for seed in (1, 2):
        del runs["simple_2"][seed]
    parted = next(g for g in gaps_of(study, runs) if g["layout"] == "stitched")
    assert (parted["widens"], parted["slope"], parted["mean"]) == ("no common seed", None, None)
    assert gap["slope"] == pytest.approx(np.mean(by_seed))
    assert gap["slope_margin"] == pytest.approx(12.7062 * np.std(by_seed, ddof=1) / np.sqrt(2), rel=1e-4)


def test_a_study_without_megadocs_has_no_gaps():
    assert find_gaps([], ["iid"]) == []
