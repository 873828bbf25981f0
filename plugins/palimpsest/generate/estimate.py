"""What a plan will cost before anything starts: requests, tokens and GPU hours, less what the ledger already holds."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from palimpsest.config import Strategy, Study
from palimpsest.generate.ledger import Ledger
from palimpsest.generate.tables import planned_rows
from palimpsest.lake import Published

MEASURED = 20
"""Texts of the same prompt and model from which on their mean length is expected of the others."""
COLUMNS = ("strategy", "requests", "held", "failed", "left", "input tokens", "output tokens", "at most", "GPU hours")


@dataclass(frozen=True)
class Cost:
    """One strategy of a plan; tokens and hours are of what is left."""

    strategy: str
    server: str | None
    model: str
    gpus: int
    """GPUs it runs on, one for each endpoint that the study names; 0 for the CPU and for engines without a model."""
    requests: int
    held: int
    """Of these, how many the ledger has a text of, or a final failure."""
    left: int
    """Requests still to be paid; one that is planned twice is paid once."""
    input_tokens: int
    """The samples of a document share their prompt: it is counted once."""
    output_tokens: int
    """Expected: the mean so far of this prompt and model, or answers as long as their source."""
    output_tokens_max: int
    """Every answer as long as it may be, and asked for again as often as the study's review allows."""
    tokens_per_second: float | None
    """Output tokens per GPU and second: measured, or else as the study says."""
    input_truncated: int = 0
    """Planned requests that see their document cut."""
    failed: Mapping[str, int] = field(default_factory=dict)
    """Of those held, how many have no text, by cause."""

    @property
    def failures(self) -> int:
        return sum(self.failed.values())

    @property
    def gpu_hours(self) -> float | None:
        """None: nothing is known of the model's speed."""
        if not self.gpus or not self.left:
            return 0.0
        return self.output_tokens / self.tokens_per_second / 3600 if self.tokens_per_second else None


@dataclass(frozen=True)
class Estimate:
    """The costs of a study's strategies, in its order."""

    costs: tuple[Cost, ...]

    @property
    def requests(self) -> int:
        return sum(cost.requests for cost in self.costs)

    @property
    def held(self) -> int:
        return sum(cost.held for cost in self.costs)

    @property
    def failures(self) -> int:
        return sum(cost.failures for cost in self.costs)

    @property
    def left(self) -> int:
        return sum(cost.left for cost in self.costs)

    @property
    def input_tokens(self) -> int:
        return sum(cost.input_tokens for cost in self.costs)

    @property
    def output_tokens(self) -> int:
        return sum(cost.output_tokens for cost in self.costs)

    @property
    def output_tokens_max(self) -> int:
        return sum(cost.output_tokens_max for cost in self.costs)

    @property
    def gpu_hours(self) -> float | None:
        """None where the speed of a model that has something left to write is not known."""
        hours = [cost.gpu_hours for cost in self.costs]
        return None if None in hours else sum(hours)

    @property
    def servers(self) -> list[str]:
        """Servers that have something left to write."""
        return sorted({cost.server for cost in self.costs if cost.server and cost.left})

    def over_budget(self, study: Study) -> bool:
        """Whether a person has to approve it: above the study's budget, or of unknown cost."""
        return self.gpu_hours is None or self.gpu_hours > study.budget_gpu_hours

    def reason(self, study: Study) -> str:
        """Why it needs approval, or why not, in one sentence."""
        if not self.left:
            return "nothing is left to generate"
        if self.gpu_hours is None:
            unknown = ", ".join(sorted({c.server for c in self.costs if c.server and c.gpu_hours is None}))
            return (
                f"{self.left:,} requests are left, and nothing is known of the speed of server {unknown}; "
                "servers.<name>.tokens_per_second in the study would tell"
            )
        compared = "above" if self.over_budget(study) else "within"
        return (
            f"{self.left:,} requests are left: an estimated {_hours(self.gpu_hours)} GPU hours, {compared} the budget "
            f"of {study.budget_gpu_hours:g}"
        )

    def table(self) -> str:
        """For a terminal, and as Markdown: a line per strategy, their sum, and what each is asked of."""
        rows = [COLUMNS, *(_cells(cost.strategy, cost) for cost in self.costs), _cells("all", self)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
        head, *lines = (_line(row, widths) for row in rows)
        rule = "|" + "|".join("-" * (width + 1) + (":" if column else "-") for column, width in enumerate(widths)) + "|"
        return "\n".join([head, rule, *lines, "", *(_note(cost) for cost in self.costs)])


def estimate(study: Study, plan: Published, ledger: Ledger, *, replay: bool = False) -> Estimate:
    """The costs of a plan, given what the ledger holds now; the catalog knows how fast models were.

    ``replay``: what failed for good is asked once more, so it is left.
    """
    facts = plan.extra["strategies"]
    strategy_of: dict[str, str] = {}
    asked: dict[str, tuple[str, str]] = {}
    for row in planned_rows(plan, ["key", "strategy", "model", "prompt_sha256"]):
        strategy_of.setdefault(row["key"], row["strategy"])
        asked[row["strategy"]] = (row["prompt_sha256"], row["model"])
    done: set[str] = set()
    texts: Counter[tuple[str, str]] = Counter()
    written: Counter[tuple[str, str]] = Counter()
    failed: dict[str, str] = {}
    for batch in ledger.batches(strategy_of, ["output_tokens", "cause"]):
        for key, tokens, cause in zip(
            *(batch[name].to_pylist() for name in ("key", "output_tokens", "cause")), strict=True
        ):
            if cause is not None:
                failed.setdefault(key, cause)
                continue
            if key not in done and tokens:
                pair = asked[strategy_of[key]]
                texts[pair] += 1
                written[pair] += tokens
            done.add(key)
    failed = {} if replay else {key: cause for key, cause in failed.items() if key not in done}
    done |= failed.keys()
    causes: dict[str, Counter[str]] = defaultdict(Counter)
    held, left, prompts, expected, largest = Counter(), Counter(), Counter(), Counter(), Counter()
    group, paid = None, set(done)
    for row in planned_rows(plan, ["key", "strategy", "group", "input_tokens", "expected_tokens", "max_tokens"]):
        name = row["strategy"]
        held[name] += row["key"] in done
        if row["key"] in failed:
            causes[name][failed[row["key"]]] += 1
        if row["key"] in paid:
            continue
        paid.add(row["key"])
        left[name] += 1
        prompts[name] += row["input_tokens"] * (row["group"] != group)
        group = row["group"]
        expected[name] += row["expected_tokens"]
        largest[name] += row["max_tokens"]
    costs = []
    for name, strategy in study.strategies.items():
        server = study.servers.get(strategy.engine.server or "")
        pair = asked.get(name, ("", strategy.engine.kind))
        mean = written[pair] / texts[pair] if texts[pair] >= MEASURED else None
        output = expected[name] if mean is None else round(mean * left[name])
        gpus = (len(server.endpoints) or server.gpus) if server else 0
        speed = (_measured(pair[1], gpus) or server.tokens_per_second) if server else None
        costs.append(
            Cost(
                strategy=name,
                server=strategy.engine.server,
                model=pair[1],
                gpus=gpus,
                requests=facts[name]["requests"],
                held=held[name],
                left=left[name],
                input_tokens=prompts[name],
                output_tokens=min(output, largest[name]),
                output_tokens_max=largest[name] * (1 + _asked_again(strategy)),
                tokens_per_second=speed,
                input_truncated=facts[name]["input_truncated"],
                failed=dict(causes[name]),
            )
        )
    return Estimate(tuple(costs))


def _measured(model: str, gpus: int) -> float | None:
    """Output tokens per GPU and second of this model, as the catalog's throughput ledger has them."""
    from palimpsest.catalog import Catalog
    from palimpsest.catalog.speed import seconds_per_token

    with closing(Catalog.from_env()) as catalog:
        catalog.ready()
        rate = seconds_per_token([row for row in catalog.usage() if row["model"] == model])
    return 1 / rate / max(gpus, 1) if rate else None


def _asked_again(strategy: Strategy) -> int:
    """How many more times a defective answer may be asked for; never where it cannot come out otherwise."""
    review = strategy.review
    again = "again" in review.model_dump().values() and strategy.engine.kind == "vllm" and strategy.sampling.temperature
    return review.attempts if again else 0


def _cells(name: str, cost: Cost | Estimate) -> list[str]:
    numbers = (
        cost.requests,
        cost.held - cost.failures,
        cost.failures,
        cost.left,
        cost.input_tokens,
        cost.output_tokens,
        cost.output_tokens_max,
    )
    hours = "unknown" if cost.gpu_hours is None else _hours(cost.gpu_hours)
    return [name, *(f"{number:,}" for number in numbers), hours]


def _note(cost: Cost) -> str:
    said = f"- {cost.strategy}: {cost.model}"
    if cost.server:
        said += f" on server {cost.server}"
    if cost.gpus and cost.tokens_per_second:
        said += f", {cost.tokens_per_second:,.0f} tokens/s per GPU"
    if cost.input_truncated:
        said += f"; {cost.input_truncated:,} requests see their document cut"
    return said


def _hours(hours: float) -> str:
    return f"{hours:,.1f}" if hours >= 10 or not hours else f"{hours:.2g}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = zip(cells, widths, strict=True)
    return f"| {first[0]:<{first[1]}} | " + " | ".join(f"{cell:>{width}}" for cell, width in rest) + " |"
