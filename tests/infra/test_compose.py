"""docker-compose.yml: accepted by Compose's own parser, complete, pinned, and without a secret."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from palimpsest.lake import REPOSITORY

COMPOSE = REPOSITORY / "docker-compose.yml"
EXAMPLE = REPOSITORY / ".env.example"
DOCKERFILE = REPOSITORY / "infra" / "docker" / "Dockerfile"
VARIABLE = re.compile(r"\$\{(\w+)(:[-?])?")
SWITCHES = {"DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "GX_ANALYTICS_ENABLED": "false"}


def parser() -> list[str]:
    """The command of Compose's parser; it needs no Docker engine."""
    if shutil.which("docker") and subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0:
        return ["docker", "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    pytest.skip("neither docker compose nor docker-compose is installed (Debian: apt-get install docker-compose)")


def parse(env_file: Path) -> subprocess.CompletedProcess:
    command = [*parser(), "--env-file", str(env_file), "-f", str(COMPOSE), "config"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(env_file.parent)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=REPOSITORY)


def variables(prefix: str) -> set[str]:
    return set(re.findall(rf"^{prefix}([A-Z][A-Z0-9_]*)=", EXAMPLE.read_text(), re.MULTILINE))


@pytest.fixture
def filled(tmp_path) -> Path:
    file = tmp_path / "env"
    file.write_text(re.sub(r"^([A-Z]\w+)=$", r"\1=filled", EXAMPLE.read_text(), flags=re.MULTILINE))
    return file


def test_compose_accepts_the_file(filled):
    done = parse(filled)
    assert done.returncode == 0, done.stderr
    assert "postgresql+psycopg2://airflow:filled@postgres:5432/airflow" in done.stdout


@pytest.mark.parametrize("name", sorted(variables("") - {"COMPOSE_PROJECT_NAME"}))
def test_compose_names_a_missing_secret(name, filled):
    filled.write_text(filled.read_text().replace(f"\n{name}=filled", f"\n{name}="))
    done = parse(filled)
    assert done.returncode != 0
    assert name in done.stderr


def test_every_variable_is_explained():
    used = {name for name, _ in VARIABLE.findall(COMPOSE.read_text())}
    assert used <= variables("#?")


def test_secrets_are_required_and_given_nowhere():
    required = {name for name, operator in VARIABLE.findall(COMPOSE.read_text()) if operator == ":?"}
    secrets = {name for name in variables("#?") if re.search(r"PASSWORD|KEY|SECRET", name)}
    assert secrets == required
    assert set(re.findall(r"^(\w+)=$", EXAMPLE.read_text(), re.MULTILINE)) == required
    for line in COMPOSE.read_text().splitlines():
        if re.search(r"(PASSWORD|KEY|SECRET):", line):
            assert "${" in line, line


def test_every_service_is_checked_pinned_and_silent(compose):
    for name, service in compose["services"].items():
        assert service["healthcheck"], name
        assert re.search(r":v?\d+\.\d+", service["image"]), f"{name}: {service['image']} is not pinned"
        for port in service.get("ports", []):
            assert port.startswith(("${PALIMPSEST_BIND:-127.0.0.1}:", "127.0.0.1:")), f"{name}: {port}"
        if name != "postgres":
            assert SWITCHES.items() <= service["environment"].items(), name


def test_what_a_service_needs_exists(compose):
    services = compose["services"]
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            assert needed in services, f"{name} needs {needed}"
            if how["condition"] == "service_healthy":
                assert "test" in services[needed]["healthcheck"], f"{name} waits for the health of {needed}"
        for volume in service.get("volumes", []):
            source = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", volume).split(":")[0]
            assert (REPOSITORY / source).exists() if source.startswith("./") else source in compose["volumes"], volume


def test_our_images_have_their_targets_and_commands(compose):
    stages = set(re.findall(r"^FROM \S+ AS (\w+)", DOCKERFILE.read_text(), re.MULTILINE))
    entrypoint = (REPOSITORY / "infra" / "docker" / "entrypoint.sh").read_text()
    known = {word for case in re.findall(r"^([a-z| -]+)\)$", entrypoint, re.MULTILINE) for word in case.split(" | ")}
    for name, service in compose["services"].items():
        if "build" in service:
            assert service["build"]["target"] in stages, name
            assert service["command"][0] in known, name


def test_our_images_are_pinned_and_run_as_nobody_special():
    text = DOCKERFILE.read_text()
    stages = set(re.findall(r"^FROM \S+ AS (\w+)", text, re.MULTILINE))
    for image in re.findall(r"^FROM (\S+)", text, re.MULTILINE):
        assert image in stages or re.search(r":\d+\.\d+\.\d+", image), image
    for stage in text.split("\nFROM ")[2:]:
        assert "\nUSER 50000:0\n" in stage, stage
    for sources in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE):
        assert all((REPOSITORY / source).exists() for source in sources.split()), sources
