"""``docs/results/testbed_<name>.md``: the page of a testbed, from the lake.

``python -m training testbed digits --seeds 10`` measures what is missing and writes the page; nothing in it is
written by hand.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from palimpsest.lake import REPOSITORY, Facts, Lake, Published
from training.analysis.took import duration

Rows = Sequence[Mapping]
Tables = Mapping[str, Rows]
CODE = tuple(
    f"training/analysis/{name}.py"
    for name in ("markdown", "paired", "plots", "results", "style", "testbed", "testbed_seeds")
)


@dataclass(frozen=True)
class Page:
    """What a testbed's page is made of."""

    testbed: str
    tables: tuple[str, ...]
    """Of the parts together."""
    check: Callable[[Tables], None]
    """Raises ValueError where a part that the page cannot do without was not measured."""
    draw: Callable[[Tables, Path], list[str]]
    """Writes the figures; their names, in reading order."""
    render: Callable[[Tables, Sequence[Published], Sequence[str], str], str]
    headline: Callable[[Tables], str]
    code: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"testbed_{self.testbed}"


def report(lake: Lake, page: Page, published: Sequence[Published], missing: str = "") -> Published:
    """``testbeds/<name>/report``: the page and its figures, of the parts and seeds that are given.

    ``missing``: a sentence on those that are not.
    """
    tables = {name: [row for one in published for row in read(one, name)] for name in page.tables}
    page.check(tables)

    def write(directory: Path) -> Facts:
        (directory / page.name).mkdir()
        figures = page.draw(tables, directory / page.name)
        (directory / f"{page.name}.md").write_text(page.render(tables, published, figures, missing), encoding="utf-8")
        return Facts(extra={"page": page.name, "headline": page.headline(tables)})

    config = {"missing": missing} if missing else {}
    dataset = f"testbeds/{page.testbed}/report"
    return lake.publish(dataset, write, config=config, parents=published, code=(*CODE, *page.code))


def copied(published: Published, folder: Path | None = None) -> Path:
    """The page's place in ``docs/results``, where it now is with its figures."""
    folder, name = folder or REPOSITORY / "docs" / "results", published.extra["page"]
    shutil.rmtree(folder / name, ignore_errors=True)
    shutil.copytree(published.path / name, folder / name)
    return Path(shutil.copy(published.file(f"{name}.md"), folder / f"{name}.md"))


def cost(published: Sequence[Published]) -> str:
    """What the parts took, and on what, as a list."""
    extras = [one.extra for one in published]
    wall, used = (sum(extra[name] for extra in extras) for name in ("seconds", "cpu_seconds"))
    facts = {
        "Hardware": "; ".join(sorted({extra["hardware"] for extra in extras})) + "; one thread",
        "CPU time": duration(used),
        "Wall clock, in sum": f"{duration(wall)}, on a machine that did other work",
    }
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


def drawn(titles: Mapping[str, tuple], figures: Sequence[str], page: str) -> list[str]:
    """A section per figure, of its title and caption (the first two of ``titles``)."""
    return [f"### {titles[f][0]}\n\n{titles[f][1]}\n\n![{titles[f][0]}]({page}/{f}.png)" for f in figures]


def read(published: Published, name: str) -> list[dict]:
    file = published.path / f"{name}.parquet"
    return pq.read_table(file).to_pylist() if file.exists() else []
