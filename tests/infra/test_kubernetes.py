"""The Kubernetes manifest: accepted by the schemas of a release, complete, and without a secret."""

from __future__ import annotations

import kubernetes_validate
import pytest
import yaml

from palimpsest.lake import REPOSITORY

MANIFEST = REPOSITORY / "infra" / "kubernetes" / "vllm.yaml"


@pytest.fixture(scope="module")
def objects() -> dict[str, dict]:
    return {one["kind"]: one for one in yaml.safe_load_all(MANIFEST.read_text())}


@pytest.fixture(scope="module")
def container(objects) -> dict:
    [only] = objects["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    return only


@pytest.mark.parametrize("release", ["1.31", "1.37"])
@pytest.mark.parametrize("kind", ["Service", "StatefulSet"])
def test_the_schemas_of_kubernetes_accept_it(objects, kind, release):
    kubernetes_validate.validate(objects[kind], release, strict=True)


def test_the_schemas_would_find_an_offence(objects):
    wrong = objects["StatefulSet"] | {"spec": objects["StatefulSet"]["spec"] | {"replica": 2}}
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        kubernetes_validate.validate(wrong, "1.37", strict=True)


def test_every_server_has_an_address_of_its_own(objects):
    service, servers = objects["Service"], objects["StatefulSet"]["spec"]
    assert service["spec"]["clusterIP"] == "None"
    assert servers["serviceName"] == service["metadata"]["name"]
    labels = servers["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert servers["selector"]["matchLabels"].items() <= labels.items()
    assert servers["template"]["spec"]["enableServiceLinks"] is False
    name, port = service["metadata"]["name"], service["spec"]["ports"][0]["port"]
    addresses = [f"http://{name}-{number}.{name}:{port}" for number in range(servers["replicas"])]
    assert f"endpoints: [{', '.join(addresses)}]" in MANIFEST.read_text()


def test_each_has_one_gpu_and_is_watched_and_may_finish(objects, container):
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/health", "port": "http"}
    [timeout] = [int(part.split("=")[1]) for part in container["args"] if part.startswith("--shutdown-timeout=")]
    assert objects["StatefulSet"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > timeout


def test_secrets_come_from_outside_and_nothing_calls_home(container):
    environment = {one["name"]: one for one in container["env"]}
    for name in ("VLLM_API_KEY", "HF_TOKEN"):
        assert environment[name].keys() == {"name", "valueFrom"}
        assert environment[name]["valueFrom"]["secretKeyRef"]["name"] == "vllm"
    for name in ("VLLM_NO_USAGE_STATS", "DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY"):
        assert environment[name]["value"] == "1"
    assert not any(part.startswith(("--api-key", "--hf-token")) for part in container["args"])


def test_a_volume_is_there_for_every_mount(objects, container):
    servers = objects["StatefulSet"]["spec"]
    claims = [claim["metadata"]["name"] for claim in servers["volumeClaimTemplates"]]
    volumes = [volume["name"] for volume in servers["template"]["spec"]["volumes"]]
    assert sorted(mount["name"] for mount in container["volumeMounts"]) == sorted(claims + volumes)
