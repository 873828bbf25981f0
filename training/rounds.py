"""``loops/<loop>/report``: what became of each arm of a loop, round by round, as a page, a table and figures.

By hand: ``python -m training rounds LOOP``; it reads what the rounds published last. With ``--results`` it also writes
``docs/results/loop_<loop>.md``, of a report that a run of the loop's Dag has made.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from palimpsest.config import BASELINE, Loop, Study, load_loop
from palimpsest.guard.measure import Reference, watch
from palimpsest.guard.tail import sampled, subsampled
from palimpsest.lake import Facts, Lake, LakeError, NotPublished, Published
from training import track
from training.analysis.words import seeds_span
from training.pretrain import plan_runs

CODE = [
    "training/rounds.py",
    *(f"training/analysis/{name}.py" for name in ("loops", "pages", "plots", "style", "words")),
]
CODE += ["training/analysis/templates", "plugins/palimpsest/guard"]
CODE += [f"plugins/palimpsest/{name}.py" for name in ("ingest/minhash", "words")]
TEXT = ("texts", "tokens", "entropy", "compression", "distinct_3", "rare_recall", "rare_kept")


@dataclass(frozen=True)
class Round:
    """What a round published."""

    number: int
    split: Published
    generations: Published
    runs: Mapping[str, Published]
    """By name; all that its mixes plan."""


def rounds(loop: Loop, lake: Lake) -> list[Round]:
    """The rounds that have run to their end, from the first one on, each on what the rounds before it made."""
    found: list[Round] = []
    earlier: set[str] = set()
    for number, name in enumerate(loop.studies):
        study = loop.study(number)
        try:
            mixes = lake.latest(f"studies/{name}/mixes")
            planned = _planned(study, mixes)
            if planned is None:
                break
            runs = {run: lake.latest(f"studies/{name}/runs/{run}") for run in planned}
            further = [lake.latest(f"studies/{name}/{stage}") for stage in ("split", "generations")]
            written_by = _writers(further[1])
        except NotPublished:
            break
        if not all(_learned(run, mixes) for run in runs.values()) or not written_by <= earlier:
            break
        earlier.add(mixes.digest)
        found.append(Round(number, *further, runs))
    return found


def _planned(study: Study, mixes: Published) -> list[str] | None:
    """Names of the runs; None where the mixes were dealt for another version of the loop's file."""
    try:
        return [run["run"] for run in plan_runs(study, mixes)]
    except LakeError:
        return None


def _learned(run: Published, mixes: Published) -> bool:
    """Whether the run was trained on this version of the mixes."""
    (tokens,) = run.manifest["parents"]
    parents = run.lake.open(tokens["uri"], tokens["digest"]).manifest["parents"]
    return mixes.digest in {parent["digest"] for parent in parents}


def _writers(generations: Published) -> set[str]:
    """Digests of the mixes that the generators of these texts were trained on: equal tables are the same mix."""
    column = pq.read_table(generations.file("generations.parquet"), columns=["generator_mix"])["generator_mix"]
    return {generations.lake.open(uri).digest for uri in column.drop_null().unique().to_pylist()}


def report(
    loop: Loop, lake: Lake, *, found: Sequence[Round] | None = None, parent_run_id: str | None = None
) -> Published:
    """The published report; with ``parent_run_id`` also in MLflow, where a round is a step, and that run is closed.

    ``found``: the rounds to compare, by default those that the lake has whole.

    Raises `LakeError` while not even round 0 has run.
    """
    found = rounds(loop, lake) if found is None else found
    if not found:
        raise LakeError(f"loop {loop.name}: round 0 has not run to its end; trigger the Dag loop_{loop.name}")

    def write(directory: Path) -> Facts:
        from training.analysis import pages
        from training.analysis.loops import draw, page

        table = compare(loop, found)
        (directory / "table.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
        pq.write_table(pa.Table.from_pylist(table["rows"]), directory / "table.parquet")
        figures = draw(table, directory)
        (directory / "report.html").write_text(
            page(loop, table, figures, directory, pages.links(parent_run_id)), encoding="utf-8"
        )
        return Facts(extra={"headline": table["headline"], "rounds": len(found) - 1})

    parents = [p for one in found for p in (one.split, one.generations, *one.runs.values())]
    config = {"loop": loop.model_dump(mode="json", exclude={"server", "shards", "owner", "schedule"})}
    published = lake.publish(f"loops/{loop.name}/report", write, config=config, parents=parents, code=CODE)
    if parent_run_id is not None:
        _track(loop, published, parent_run_id)
    return published


def compare(loop: Loop, found: Sequence[Round]) -> dict:
    """One row per round and arm: losses by held-out set, perplexity, what was trained on, and what the arm wrote."""
    rows, sets, texts = [], set(), None
    continual = loop.continual is not None
    for one in found:
        texts, people = _Texts(one, texts), _by_people(one.split)
        for arm in [BASELINE, *(loop.arms if one.number else ())]:
            evaluations = [
                json.loads(run.file("evaluation.json").read_text(encoding="utf-8"))
                for name, run in one.runs.items()
                if name.rsplit("-s", 1)[0] == arm
            ]
            losses = {name: fmean(e["losses"][name] for e in evaluations) for name in _sets(evaluations)}
            sets |= losses.keys()
            tokens = {kind: fmean(e["tokens"][kind] for e in evaluations) for kind in ("real", "synthetic")}
            row = {"round": one.number, "arm": arm, "policy": loop.arms[arm].policy if arm != BASELINE else BASELINE}
            row |= {"seeds": len(evaluations), "real_share": people * tokens["real"] / sum(tokens.values())}
            row |= {f"loss_{name}": loss for name, loss in losses.items()}
            row |= {"perplexity": math.exp(losses["iid"])}
            row |= {"perplexities": sorted(math.exp(e["losses"]["iid"]) for e in evaluations)}
            rows.append(row | texts.measures(arm, same_source=not continual))
    alone = {row["round"]: row["perplexity"] for row in rows if row["arm"] == BASELINE}
    rows = [row | {"times_base": row["perplexity"] / alone[row["round"] if continual else 0]} for row in rows]
    table = {"loop": loop.name, "rounds": found[-1].number, "arms": list(loop.arms), "sets": sorted(sets), "rows": rows}
    table |= {"base": "its real text alone" if continual else "round 0"}
    return table | {"headline": headline(table, loop.rounds)}


def _by_people(split: Published) -> float:
    """Share of the real stream's words that are known to be people's: text of unknown origin counts as synthetic."""
    train = pq.read_table(split.file("train.parquet"), columns=["origin", "words", "is_reserve"])
    train = train.filter(pc.invert(train["is_reserve"]))
    known = pc.sum(train.filter(pc.equal(train["origin"], "real"))["words"]).as_py() or 0
    return known / (pc.sum(train["words"]).as_py() or 1)


def headline(table: Mapping, planned: int) -> str:
    """What became of the arms, in a sentence."""
    last = [row for row in table["rows"] if row["round"] == table["rounds"] and row["arm"] != BASELINE]
    if not last:
        first = table["rows"][0]["perplexity"]
        return f"Round 0 has run, {planned} more are to come: perplexity on real text is {first:,.1f} to begin with."
    worst, best = (pick(last, key=lambda row: row["times_base"]) for pick in (max, min))
    all_of_them = f"{planned} round{'s' * (planned != 1)}"
    after = f"After {table['rounds']} of {all_of_them}" if table["rounds"] < planned else f"After {all_of_them}"
    told = f"{after} perplexity on real text is {worst['times_base']:.2f} times that of {table['base']} in arm "
    told += f"‘{worst['arm']}’" + (f", {best['times_base']:.2f} times in ‘{best['arm']}’" if best is not worst else "")
    return f"{told}."


class _Texts:
    """What the arms of a round wrote, measured beside the real text they were trained to imitate."""

    def __init__(self, one: Round, before: _Texts | None) -> None:
        self.round, self._split = one.number, one.split.digest
        self._reference: Reference | None = None
        if before and before._split == self._split:
            self._reference = before._reference  # rounds that share their real text read it once
        if one.number and self._reference is None:
            train = pq.read_table(one.split.file("train.parquet"), columns=["text", "is_reserve"])
            real = train.filter(pc.invert(train["is_reserve"]))["text"].to_pylist()
            self._reference = Reference(real)
        if one.number:
            self._written = pq.read_table(one.generations.file("generations.parquet"), columns=["strategy", "text"])

    def measures(self, arm: str, *, same_source: bool = True) -> dict:
        """``rare_kept``: rare words of the real text that the arm's has, over those that sampling alone would keep.

        Only with ``same_source``: a generator that learned from other real text owes this one's words nothing.
        """
        nothing = dict.fromkeys(TEXT)
        if self._reference is None:
            return nothing
        own = self._written.filter(pc.equal(self._written["strategy"], f"{arm}_{self.round}"))["text"].to_pylist()
        if not own:
            return nothing
        found = watch(own, self._reference)
        source, kept = found.source, found.tail
        null = sampled(source, self.round, kept.ratio) if kept.is_full else subsampled(source, kept.ratio)
        means = found.blocks.means
        figures = {name: means.get(name) for name in ("entropy", "compression", "distinct_3")}
        told = kept.rare and null and same_source
        rare = {"rare_recall": kept.recall, "rare_kept": kept.recall / null} if told else {}
        return nothing | {"texts": len(own), "tokens": kept.tokens} | figures | rare


def _sets(evaluations: Sequence[Mapping]) -> list[str]:
    return [name for name in evaluations[0]["losses"] if all(e["losses"][name] is not None for e in evaluations)]


def _track(loop: Loop, published: Published, parent_run_id: str) -> None:
    table = json.loads(published.file("table.json").read_text(encoding="utf-8"))
    named = ("perplexity", "times_base", "real_share", *TEXT, *(f"loss_{name}" for name in table["sets"]))
    curves: dict[int, dict[str, float]] = {}
    for row in table["rows"]:
        own = {f"{name}/{row['arm']}": row[name] for name in named if row.get(name) is not None}
        curves.setdefault(row["round"], {}).update(own)
    columns = {name: [row.get(name) for row in table["rows"]] for name in table["rows"][-1]}
    track.finish_parent(
        loop,
        parent_run_id,
        published.path,
        {},
        curves=curves,
        headline=table["headline"],
        tables={"rounds.json": columns},
        tags={"palimpsest.report": published.digest},
    )


def main(name: str, *, results: bool = False) -> Published:
    """Report on what the loop's rounds published last, and print it; with ``results`` the committed page as well."""
    loop, lake = load_loop(name), Lake.from_env()
    published = report(loop, lake)
    table = json.loads(published.file("table.json").read_text(encoding="utf-8"))
    print(render(table))
    print(f"page: {published.file('report.html')}")
    if results:
        from training.analysis import loop_results

        print(f"results: {loop_results.write(loop, lake, published)}")
    return published


def render(table: Mapping) -> str:
    """A line per round and arm, for a terminal."""
    lines = [
        table["headline"],
        "",
        f"{'round':<6}{'arm':<24}{'perplexity':>11}{'times':>8}{'real':>7}{'rare kept':>11}{'over seeds':>20}",
    ]
    for row in table["rows"]:
        rare = "" if row["rare_kept"] is None else f"{row['rare_kept']:.0%}"
        figures = f"{row['perplexity']:>11,.1f}{row['times_base']:>8.2f}{row['real_share']:>7.0%}{rare:>11}"
        figures += f"{seeds_span(row):>20}"
        lines.append(f"{row['round']:<6}{row['arm']:<24}{figures}")
    return "\n".join(lines)
