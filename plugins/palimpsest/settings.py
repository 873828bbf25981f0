"""Settings of the checkout's ``.env`` for command lines, by the rules of infra/with-env.sh, which make uses."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import MutableMapping
from pathlib import Path

from palimpsest.lake import REPOSITORY

SETTING = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)")


def read_env_file(file: Path = REPOSITORY / ".env", environment: MutableMapping[str, str] = os.environ) -> None:
    """Adds what the file sets and the environment does not; SystemExit (status 2) names a line that sets nothing.

    A value is the rest of its line as it stands: quotes and dollars are part of it. What the environment has wins, be
    it empty. Called by programs only (``__main__``): what imports the library decides itself where its data lies.
    """
    if not file.is_file():
        return
    for line in file.read_bytes().decode(errors="surrogateescape").split("\n"):
        if not line or line.startswith("#"):
            continue
        found = SETTING.fullmatch(line)
        if not found:
            print(f".env: not NAME=value: {line}", file=sys.stderr)
            raise SystemExit(2)
        environment.setdefault(found[1], found[2])
