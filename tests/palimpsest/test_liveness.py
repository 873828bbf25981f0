from __future__ import annotations

import os
import re
import subprocess
import sys

from palimpsest import liveness
from palimpsest.liveness import identity, is_dead
from tests.palimpsest.test_catalog import identity_of


def test_a_process_is_dead_when_it_has_ended_and_not_before(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    name = identity_of(child.pid)
    assert not is_dead(identity()) and not is_dead(name)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie: its parent has not looked yet
    assert is_dead(name)
    child.wait()
    assert is_dead(name)


def test_another_process_of_the_same_number_is_another():
    assert is_dead(re.sub(r"\d+$", "1", identity()))


def test_of_other_machines_and_other_words_nothing_is_known():
    there = identity().replace(liveness.place(), "elsewhere~0badcafe~1")
    assert not is_dead(re.sub(r"\d+$", "1", there))
    for name in ("", "worker", "a~b~c~d~e", liveness.place(), f"{identity()}/1"):
        assert not is_dead(name)


def test_an_identity_fits_into_a_file_name():
    assert re.fullmatch(r"[A-Za-z0-9~-]{1,100}", identity())
