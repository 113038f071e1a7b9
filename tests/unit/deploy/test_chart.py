"""The chart, rendered by Helm and held to Kubernetes' schemas, to the configuration that Aisle reads, and to what its image does."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from typer.testing import CliRunner

from serving.cli.main import app
from serving.config import AisleConfig
from serving.edge.door import NOTICE_S
from tests.helm import HelmError
from tests.helm import ask as helm

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "deploy" / "chart"
KUBERNETES = ("1.27", "1.37")  # the first that the chart names, and the last whose schemas are here
OWN = {"RayCluster", "ServiceMonitor", "PrometheusRule"}  # kinds that Kubernetes has no schema of

Values = dict[str, Any]
Objects = dict[str, dict[str, Any]]  # by kind


def render(values: Values) -> Objects:
    """Returns the objects of a release by kind. No two are of one kind, but for the ConfigMap of boards."""
    texts = helm("render", CHART, values)
    objects = [found for text in texts.values() for found in yaml.safe_load_all(text) if found]
    by_kind = {
        "Boards" if found["metadata"]["name"].endswith("-dashboards") else found["kind"]: found for found in objects
    }
    assert len(by_kind) == len(objects)
    return by_kind


def stated(name: str) -> Values:
    values: Values = yaml.safe_load((CHART / "ci" / f"{name}-values.yaml").read_text())
    return values


@pytest.fixture(scope="module", params=["nothing", "shop", "ray", "metrics"], name="objects")
def rendered(request: pytest.FixtureRequest) -> Objects:
    return render({} if request.param == "nothing" else stated(request.param))


@pytest.fixture(scope="module")
def shop() -> Objects:
    return render(stated("shop"))


@pytest.fixture(scope="module")
def ray() -> Objects:
    return render(stated("ray"))


def settings(objects: Objects, folder: Path) -> AisleConfig:
    """Returns the configuration of a release as Aisle reads it, with files where it names some."""
    text = objects["ConfigMap"]["data"]["aisle.toml"]
    for name in ("tls.crt", "tls.key", "ca.crt"):
        (folder / name).touch()
    return AisleConfig.model_validate(tomllib.loads(text.replace("/etc/aisle-tls/", f"{folder}/")))


def templates(objects: Objects) -> Iterator[dict[str, Any]]:
    """Yields the templates of all pods."""
    if "Deployment" in objects:
        yield objects["Deployment"]["spec"]["template"]
        return
    cluster = objects["RayCluster"]["spec"]
    yield cluster["headGroupSpec"]["template"]
    for group in cluster["workerGroupSpecs"]:
        yield group["template"]


def gateways(objects: Objects) -> dict[str, Any]:
    """Returns the template of the pods that the service leads to."""
    wanted = objects["Service"]["spec"]["selector"].items()
    (found,) = [template for template in templates(objects) if wanted <= template["metadata"]["labels"].items()]
    return found


def aisle_commands(template: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yields the arguments of `aisle` in the containers of a pod."""
    for container in [*template["spec"].get("initContainers", ()), *template["spec"]["containers"]]:
        if container.get("command") == ["sh", "-c"]:
            yield container["args"][0].split("exec aisle ")[1].split()
        elif container["name"] in ("aisle", "fetch-bundle"):
            yield container["args"]


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_object_is_one_of_kubernetes(objects: Objects, version: str) -> None:
    for kind, found in objects.items():
        if kind not in OWN:
            kubernetes_validate.validate(found, version, strict=True)
    for template in templates(objects):
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pod"}, "template": template}
        kubernetes_validate.validate(pod, version, strict=True)


def test_the_schemas_refuse_what_is_no_field(shop: Objects) -> None:
    found = json.loads(json.dumps(shop["Deployment"]))
    found["spec"]["template"]["spec"]["containers"][0]["redinessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(found, KUBERNETES[1], strict=True)


def test_the_configuration_is_one_that_aisle_reads(objects: Objects, tmp_path: Path) -> None:
    config = settings(objects, tmp_path)
    assert not config.server.is_loopback()
    assert config.log.format == "json"
    assert bool(config.tls.certificate) is not config.server.allow_insecure


def test_ports_and_probes_are_those_of_the_gateway(objects: Objects, tmp_path: Path) -> None:
    config, template = settings(objects, tmp_path), gateways(objects)
    container = template["spec"]["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports["grpc"] == config.server.port
    assert {port["name"]: port["port"] for port in objects["Service"]["spec"]["ports"]} == ports
    check = "tcpSocket" if config.tls.certificate else "grpc"  # the kubelet's gRPC speaks no TLS
    probes = {name: probe for name, probe in container.items() if name.endswith("Probe") and "httpGet" not in probe}
    assert "readinessProbe" in probes
    assert {name: probe[check]["port"] for name, probe in probes.items()} == dict.fromkeys(probes, config.server.port)
    allowed = [port["port"] for rule in objects["NetworkPolicy"]["spec"]["ingress"] for port in rule.get("ports", ())]
    assert allowed == list(ports.values())


def test_a_pod_has_the_time_that_it_needs_to_drain(objects: Objects, tmp_path: Path) -> None:
    spec = gateways(objects)["spec"]
    drain_s = settings(objects, tmp_path).server.drain_s + NOTICE_S + 5  # as serving.app gives a gateway
    (hook,) = [c["lifecycle"]["preStop"]["exec"]["command"] for c in spec["containers"] if "lifecycle" in c] or [[0]]
    assert spec["terminationGracePeriodSeconds"] >= drain_s + int(hook[-1]) + 5


def test_the_commands_are_those_of_aisle(objects: Objects, tmp_path: Path) -> None:
    commands = [command for template in templates(objects) for command in aisle_commands(template)]
    assert any(command[0] == "serve" for command in commands)
    for command in commands:
        asked = CliRunner().invoke(app, [*command, "--help"])
        assert asked.exit_code == 0, asked.output
    assert CliRunner().invoke(app, [*commands[0], "--no-such-option", "--help"]).exit_code == 2


def test_no_pod_has_rights_that_it_does_not_need(objects: Objects) -> None:
    for template in templates(objects):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["automountServiceAccountToken"] is False
        folders = {volume["name"] for volume in spec["volumes"]}
        for container in [*spec.get("initContainers", ()), *spec["containers"]]:
            rights = container["securityContext"]
            assert rights["readOnlyRootFilesystem"]
            assert not rights["allowPrivilegeEscalation"]
            assert rights["capabilities"] == {"drop": ["ALL"]}
            assert {mount["name"] for mount in container["volumeMounts"]} <= folders
            written = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
            assert {entry["value"] for entry in container["env"] if entry["name"] in ("HOME", "TMPDIR")} <= written
            assert container["resources"]["limits"]["memory"]


def test_budget_policy_and_spread_are_of_the_pods_that_there_are(objects: Objects) -> None:
    labels = gateways(objects)["metadata"]["labels"].items()
    (spread,) = gateways(objects)["spec"]["topologySpreadConstraints"]
    for selector in (objects["PodDisruptionBudget"]["spec"]["selector"], spread["labelSelector"]):
        assert selector["matchLabels"].items() <= labels
        assert "app.kubernetes.io/component" in selector["matchLabels"]
    everybody = objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"].items()
    assert all(everybody <= template["metadata"]["labels"].items() for template in templates(objects))


def test_secrets_are_mounted_where_the_configuration_looks(shop: Objects, tmp_path: Path) -> None:
    spec = gateways(shop)["spec"]
    config = settings(shop, tmp_path)
    mounted = {mount["mountPath"]: mount["name"] for mount in spec["containers"][0]["volumeMounts"]}
    secrets = {volume["name"]: volume["secret"]["secretName"] for volume in spec["volumes"] if "secret" in volume}
    assert config.auth.keys_file
    assert config.shoppers.password_file
    assert config.shoppers.url
    assert secrets[mounted[str(config.auth.keys_file.parent)]] == "aisle-keys"
    assert secrets[mounted[str(config.shoppers.password_file.parent)]] == "redis"
    assert secrets[mounted["/etc/aisle-tls"]] == "aisle-tls"
    assert (config.tls.client_ca or Path()).name == "ca.crt"
    assert config.shoppers.url.get_secret_value() == "rediss://shop@redis.prod.svc:6380/0"


def test_a_bundle_with_an_address_is_fetched_before_anything_starts(shop: Objects) -> None:
    spec = gateways(shop)["spec"]
    fetch, serve = aisle_commands(gateways(shop))
    assert fetch == ["bundle", "fetch", "s3://shop/bundles/monday", "/bundles/current", "--version", "0123456789ab"]
    assert serve[serve.index("--bundle") + 1] == "/bundles/current"
    assert spec["initContainers"][0]["envFrom"] == [{"secretRef": {"name": "object-store"}}]
    bundles = [mount for c in (*spec["initContainers"], *spec["containers"]) for mount in c["volumeMounts"]]
    assert [mount.get("readOnly", False) for mount in bundles if mount["name"] == "bundles"] == [False, True]
    assert 443 in [int(port["port"]) for rule in shop["NetworkPolicy"]["spec"]["egress"] for port in rule["ports"]]


def test_a_generation_is_only_built_where_all_pods_share_it(tmp_path: Path) -> None:
    redis = {"redis": {"address": "redis://redis:6379"}}
    alone = settings(render({**redis, "bundle": {"url": "https://bundles.example/monday"}}), tmp_path)
    shared = settings(render({**redis, "bundle": {"readOnly": False}}), tmp_path)
    assert (alone.catalogue.compact_after, shared.catalogue.compact_after) == (0, 50_000)
    unlogged = settings(render({}), tmp_path)
    assert (unlogged.catalogue.log, unlogged.shoppers.store) == (
        "off",
        "off",
    )  # SQLite would be of one pod, and go with it


def test_pods_come_by_need(shop: Objects) -> None:
    scaler = shop["HorizontalPodAutoscaler"]["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 8)
    assert scaler["scaleTargetRef"]["name"] == shop["Deployment"]["metadata"]["name"]
    assert "replicas" not in shop["Deployment"]["spec"]  # an upgrade would set it back


def test_gateways_of_a_cluster_get_pods_of_their_own(ray: Objects, tmp_path: Path) -> None:
    cluster = ray["RayCluster"]["spec"]
    assert set(cluster) == {"rayVersion", "enableInTreeAutoscaling", "headGroupSpec", "workerGroupSpecs"}
    groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    fields = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
    assert all(set(group) == fields for group in groups.values())
    assert all(isinstance(value, str) for group in groups.values() for value in group["rayStartParams"].values())
    server = settings(ray, tmp_path).server
    # KubeRay puts the value into a command line as it is: the shell takes the quotes away.
    offered = groups["gateways"]["rayStartParams"]["resources"]
    assert json.loads(json.loads(offered)) == {server.ray_resource: 1}
    assert groups["gateways"]["rayStartParams"]["num-cpus"] == "0"
    assert "resources" not in groups["gpu"]["rayStartParams"]
    assert server.replicas == groups["gateways"]["replicas"] * 1
    assert groups["gpu"]["rayStartParams"]["num-gpus"] == "1"
    assert groups["gpu"]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert all(template["spec"]["containers"][0]["name"].startswith("ray-") for template in templates(ray))
    stopped = cluster["headGroupSpec"]["template"]["spec"]
    (hook,) = [c["lifecycle"]["preStop"]["exec"]["command"] for c in stopped["containers"] if "lifecycle" in c]
    assert (
        server.drain_s + NOTICE_S + 5 < int(hook[1]) < stopped["terminationGracePeriodSeconds"] - 30
    )  # Ray's own drain
    tokens = [
        entry
        for template in templates(ray)
        for container in template["spec"]["containers"]
        for entry in container["env"]
        if entry["name"] == "RAY_AUTH_TOKEN"
    ]
    assert len(tokens) == 4
    assert all("value" not in token for token in tokens)


def test_rules_and_boards_are_those_of_the_folder_beside() -> None:
    objects = render(stated("metrics"))
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())
    assert objects["PrometheusRule"]["spec"] == rules
    boards = {path.name: json.loads(path.read_text()) for path in (ROOT / "deploy" / "grafana").glob("*.json")}
    assert {name: json.loads(text) for name, text in objects["Boards"]["data"].items()} == boards
    monitor = objects["ServiceMonitor"]["spec"]
    assert monitor["selector"]["matchLabels"].items() <= objects["Service"]["metadata"]["labels"].items()
    assert [end["port"] for end in monitor["endpoints"]] == ["metrics"]
    assert objects["Service"]["metadata"]["labels"][monitor["jobLabel"]] == "aisle"  # as the rules ask
    (by_age,) = objects["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert by_age["pods"]["target"] == {"type": "AverageValue", "averageValue": "20m"}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"gateway": {"pods": 3}}, "additional properties 'gateway' not allowed"),
        ({"mode": "statefulset"}, "must be one of 'deployment', 'raycluster'"),
        ({"gateways": {"pods": 0}}, "/gateways/pods"),
        ({"bundle": {"version": "monday"}}, "/bundle/version"),
        ({"redis": {"address": "redis:6379"}}, "/redis/address"),
        ({"ray": {"workers": [{"name": "gpu", "pods": 1, "cpus": 1, "memory": "1Gi"}]}}, "needs mode: raycluster"),
        ({"mode": "raycluster", "metrics": {"enabled": True}}, "metrics are of mode deployment"),
        ({"mode": "raycluster", "autoscaling": {"enabled": True}}, "autoscaling is of mode deployment"),
        ({"autoscaling": {"enabled": True, "cpuPercent": 0}}, "needs cpuPercent or queueAgeMs"),
        ({"autoscaling": {"enabled": True, "queueAgeMs": 20}}, "needs metrics.enabled"),
        ({"autoscaling": {"enabled": True, "maxPods": 1}}, r"maxPods \(1\) is below gateways.pods \(2\)"),
        ({"metrics": {"rules": True}}, "need metrics.enabled"),
        ({"tls": {"clientCa": True}}, "tls.clientCa needs tls.secret"),
        ({"redis": {"passwordSecret": "redis"}}, "redis.passwordSecret needs redis.address"),
        ({"bundle": {"url": "https://b", "folder": "a"}}, "bundle.folder is of a claim"),
        ({"bundle": {"claim": ""}}, "bundle.claim or bundle.url"),
    ],
)
def test_values_that_do_not_fit_are_refused(values: Values, says: str) -> None:
    with pytest.raises(HelmError, match=says):
        render(values)


def test_helm_finds_nothing_to_complain_of() -> None:
    found = helm("lint", CHART, stated("shop"))
    assert not found["errors"], found
    assert [message["error"] for message in found["messages"]] == ["icon is recommended"]
