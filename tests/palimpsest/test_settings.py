"""The command lines read the checkout's .env as make does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from palimpsest.lake import REPOSITORY
from palimpsest.settings import read_env_file

FILE = """# settings
PLAIN=value

QUOTED="as it stands" # all of it
DOLLARS=$HOME and `date` and \\n
EQUALS=a=b=c
SPACES=  kept, on both sides{0}
EMPTY=
GIVEN=file
GIVEN_EMPTY=file
TWICE=first
TWICE=second
_last=no newline é""".replace("{0}", "  ")
NAMES = [line.partition("=")[0] for line in FILE.splitlines() if "=" in line]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout as far as .env is concerned."""
    (tmp_path / "infra").mkdir()
    shutil.copy(REPOSITORY / "infra" / "with-env.sh", tmp_path / "infra")
    return tmp_path


def test_the_settings_are_those_that_make_reads(checkout):
    (checkout / ".env").write_text(FILE)
    given = {"PATH": os.environ["PATH"], "GIVEN": "environment", "GIVEN_EMPTY": ""}
    done = subprocess.run([checkout / "infra" / "with-env.sh", "env", "-0"], env=given, capture_output=True, check=True)
    by_make = dict(entry.split("=", 1) for entry in done.stdout.decode().split("\0") if entry)
    read_env_file(checkout / ".env", given)
    assert {name: given[name] for name in NAMES} == {name: by_make[name] for name in NAMES}
    assert (given["GIVEN"], given["GIVEN_EMPTY"], given["SPACES"]) == ("environment", "", "  kept, on both sides  ")


@pytest.mark.parametrize("line", ["just words", "1NAME=value", "export A=b", " A=b", "A-B=c"])
def test_a_line_that_sets_nothing_is_named_and_nothing_is_done(checkout, capsys, line):
    (checkout / ".env").write_text(f"A=b\n{line}\n")
    with pytest.raises(SystemExit) as end:
        read_env_file(checkout / ".env", {})
    assert end.value.code == 2
    assert capsys.readouterr().err == f".env: not NAME=value: {line}\n"
    read_env_file(checkout / "no such file", {})


@pytest.mark.parametrize(
    "command",
    [
        ["palimpsest", "plan", "demo"],
        ["training", "plan", "demo"],
        ["training", "cost", "demo"],
        ["expectations", "documents", "sample"],
    ],
)
def test_every_command_line_works_on_the_lake_that_the_file_names(checkout, command):
    """PALIMPSEST_HOME is the checkout: a folder with the study files and this .env."""
    (checkout / "dags").symlink_to(REPOSITORY / "dags")
    (checkout / ".env").write_text(f"PALIMPSEST_LAKE={checkout}/lake of the file\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PALIMPSEST_")}
    own = {"PALIMPSEST_HOME": str(checkout), "PYTHONPATH": f"{REPOSITORY / 'plugins'}:{REPOSITORY}"}
    own["PALIMPSEST_STATE"] = str(checkout / "state")
    done = subprocess.run([sys.executable, "-m", *command], env=kept | own, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert f"{checkout}/lake of the file" in done.stderr
