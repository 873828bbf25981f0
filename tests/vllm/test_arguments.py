"""Every option the platform, compose and Kubernetes give vLLM is one it knows."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from palimpsest.lake import REPOSITORY
from palimpsest.serve import command

pytestmark = pytest.mark.vllm
KNOWN = """
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
print(*(option for action in make_arg_parser(FlexibleArgumentParser())._actions for option in action.option_strings))
"""


def test_vllm_knows_every_option_it_is_given(vllm_environment):
    python = str(command.interpreter())
    done = subprocess.run(
        [python, "-c", KNOWN], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": ""}, timeout=200
    )
    assert done.returncode == 0, done.stderr[-2000:]
    known = set(done.stdout.split())
    for file in ("docker-compose.yml", "infra/kubernetes/vllm.yaml", "plugins/palimpsest/serve/command.py"):
        text = re.sub(r"^\s*#.*\n", "", (REPOSITORY / file).read_text(), flags=re.MULTILINE)
        used = set(re.findall(r"(?<=[\s\"'])(--[a-z][a-z-]+)(?==)", text.partition("  vllm:\n")[2] or text))
        assert len(used) >= 4, file
        assert used - known == set(), file
