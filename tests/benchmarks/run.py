"""The benchmarks' table and .bench/results.json: ``python tests/benchmarks/run.py [NAME ...]``.

Each module beside this one offers ``run()``, which returns its `Row`s. Ratio is ours over peer where more is better
and peer over ours where less is better, so above 1 always means we are ahead.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / ".bench" / "results.json"


@dataclass(frozen=True)
class Row:
    name: str
    ours: float
    peer: float | None
    """The same work by the tool one would use otherwise; none where there is no such tool."""
    unit: str
    """Such as 'pages/s', 'hit rate' or 's'; a unit without '/s', 'rate', 'F1' or 'words/' is a cost: less is better."""
    ratio: float | None
    machine: str


def machine() -> str:
    memory = psutil.virtual_memory().total / 2**30
    return f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}"


def rows(modules: Iterable[Path]) -> Iterator[Row]:
    here = machine()
    for path in modules:
        spec = importlib.util.spec_from_file_location(f"benchmarks_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look themselves up there
        spec.loader.exec_module(module)
        for measured in module.run():
            yield _row(measured, here)


def write(found: Sequence[Row], file: Path) -> None:
    """Rows of other names stay as an earlier run measured them."""
    file.parent.mkdir(parents=True, exist_ok=True)
    names = {row.name for row in found}
    before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    rows = [row for row in before if row["name"] not in names] + [asdict(row) for row in found]
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    partial.replace(file)


def main(names: Sequence[str]) -> int:
    modules = {path.stem: path for path in sorted(HERE.glob("*.py")) if path.stem not in ("run", "__init__")}
    unknown = sorted(set(names) - set(modules))
    if unknown:
        print(f"no benchmark {', '.join(unknown)} (there are: {', '.join(modules) or 'none'})", file=sys.stderr)
        return 2
    table = Table("benchmark", "ours", "peer", "unit", "ratio", title=machine())
    found = []
    for row in rows(modules[name] for name in names or modules):
        found.append(row)
        table.add_row(row.name, _figure(row.ours), _figure(row.peer), row.unit, _figure(row.ratio))
    Console().print(table)
    write(found, RESULTS)
    print(f"written to {RESULTS}")
    return 0


def _row(measured: dict, here: str) -> Row:
    ours, peer, unit = measured["ours"], measured.get("peer"), measured["unit"]
    more_is_better = "/s" in unit or "words/" in unit or unit.endswith(("rate", "F1"))
    ratio = None if peer is None else ours / peer if more_is_better else peer / ours
    return Row(measured["name"], ours, peer, unit, ratio, here)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return model or platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
