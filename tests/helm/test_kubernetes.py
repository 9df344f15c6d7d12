"""The API server's own schemas, and what they do not see: names, selectors, ports, labels."""

import json
import re
from functools import cache

import pytest
from kubernetes_validate import validate

from server.access.paths import PROBES
from tests.helm.chart import (
    CHART,
    KEY,
    WORKLOADS,
    matches,
    of_kind,
    pod_templates,
    server_container,
    server_template,
    the,
)

VERSIONS = [f"1.{minor}" for minor in range(29, 38)]
# Kinds that other controllers bring; the API server's schemas do not know them.
FOREIGN_KINDS = {"LeaderWorkerSet", "HTTPRoute", "ScaledObject", "PodMonitor", "ServiceMonitor", "PrometheusRule"}
# As the API server checks them: an object's name, and the stricter one of a Service.
OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")

# Releases whose names YAML reads as something else, that are long, or that no Service could have.
RELEASES = ["y", "1e3", "null", "0x1f", "winnow", "my.release", "0" * 53, "a" * 52 + "1", "a" * 52 + "2"]


@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_fit_the_schemas_of_kubernetes(manifests, version):
    for manifest in manifests:
        if manifest["kind"] not in FOREIGN_KINDS:
            validate_once(json.dumps(manifest), version)
            continue
        for template in pod_templates(manifest).values():
            pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": template}
            validate_once(json.dumps(pod), version)


@cache
def validate_once(manifest: str, version: str) -> None:
    """Many files of values render the same manifest, and the library reads all its schemas for each."""
    validate(json.loads(manifest), version, strict=True)


def test_the_schemas_see_a_wrong_field(manifests):
    """The test above could not fail otherwise."""
    service = the(manifests, "Service")
    with pytest.raises(Exception, match="selectr"):
        validate({**service, "spec": {**service["spec"], "selectr": {}}}, VERSIONS[-1], strict=True)


def test_no_object_stands_twice(manifests):
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests]
    assert len(names) == len(set(names))


def test_selectors_find_the_pods_of_the_server_and_no_others(manifests):
    selectors = [{"matchLabels": the(manifests, "Service")["spec"]["selector"]}]
    for kind in ("Deployment", "PodMonitor"):
        selectors += [manifest["spec"]["selector"] for manifest in of_kind(manifests, kind)]
    for selector in selectors:
        assert roles_that(selector, manifests) == {"server"}


def test_budget_and_policy_mean_every_pod_that_serves(manifests):
    serving = {"server", "worker"} if of_kind(manifests, "LeaderWorkerSet") else {"server"}
    selectors = [manifest["spec"]["selector"] for manifest in of_kind(manifests, "PodDisruptionBudget")]
    selectors += [manifest["spec"]["podSelector"] for manifest in of_kind(manifests, "NetworkPolicy")]
    for selector in selectors:
        assert roles_that(selector, manifests) == serving


def roles_that(selector, manifests) -> set[str]:
    """The roles of the pods that a selector means."""
    templates = [item for manifest in manifests for item in pod_templates(manifest).items()]
    return {role for role, template in templates if matches(selector, template["metadata"]["labels"])}


def test_the_service_leads_to_the_port_that_the_server_listens_on(manifests):
    container = server_container(manifests)
    (port,) = container["ports"]
    assert the(manifests, "Service")["spec"]["ports"][0]["targetPort"] == port["name"] == "http"
    arguments = container["args"]
    assert arguments[arguments.index("--port") + 1] == str(port["containerPort"])
    assert arguments[arguments.index("--host") + 1] == "0.0.0.0"


def test_every_probe_asks_that_port(manifests):
    container = server_container(manifests)
    for probe, path in (("startupProbe", "/readyz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/livez")):
        assert container[probe]["httpGet"] == {"path": path, "port": "http"}
        # They carry no key.
        assert path in PROBES


def test_routes_lead_to_the_service(manifests):
    service = the(manifests, "Service")
    (port,) = service["spec"]["ports"]
    for ingress in of_kind(manifests, "Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                backend = {"name": service["metadata"]["name"], "port": {"name": port["name"]}}
                assert path["backend"]["service"] == backend
    for route in of_kind(manifests, "HTTPRoute"):
        (backend,) = route["spec"]["rules"][0]["backendRefs"]
        assert backend == {"name": service["metadata"]["name"], "port": port["port"]}


def test_mounts_have_volumes_and_volumes_have_mounts(manifests):
    for manifest in manifests:
        for template in pod_templates(manifest).values():
            (container,) = template["spec"]["containers"]
            mounts = {mount["name"] for mount in container["volumeMounts"]}
            assert mounts == {volume["name"] for volume in template["spec"]["volumes"]}


def test_no_variable_stands_twice(manifests):
    """Server-side apply refuses it."""
    for manifest in manifests:
        for template in pod_templates(manifest).values():
            names = [variable["name"] for variable in template["spec"]["containers"][0].get("env", [])]
            assert len(names) == len(set(names))


def test_secrets_claims_and_accounts_that_pods_name_are_made_or_given(helm4):
    sets = f"model.name=some/model,auth.apiKey.value={KEY},huggingface.token.value=token"
    manifests = helm4.render("--set", sets, release="r")
    spec = server_template(manifests)["spec"]
    variables = {item["name"]: item.get("valueFrom") for item in spec["containers"][0]["env"]}
    secrets = {secret["metadata"]["name"]: secret["stringData"] for secret in of_kind(manifests, "Secret")}
    assert secrets == {"r-winnow-api-key": {"api-key": KEY}, "r-winnow-hub-token": {"token": "token"}}
    for name in ("VLLM_API_KEY", "HF_TOKEN"):
        reference = variables[name]["secretKeyRef"]
        assert reference["key"] in secrets[reference["name"]]
    claims = [volume["persistentVolumeClaim"]["claimName"] for volume in spec["volumes"] if volume["name"] == "cache"]
    assert claims == [the(manifests, "PersistentVolumeClaim")["metadata"]["name"]]
    assert spec["serviceAccountName"] == the(manifests, "ServiceAccount")["metadata"]["name"]


@pytest.mark.parametrize("release", RELEASES)
def test_any_name_of_a_release_renders(helm, release):
    manifests = helm.render("--values", CHART / "ci/everything-values.yaml", release=release)
    for manifest in manifests:
        name, labels = manifest["metadata"]["name"], manifest["metadata"]["labels"]
        pattern = SERVICE_NAME if manifest["kind"] in WORKLOADS | {"Service"} else OBJECT_NAME
        assert len(name) <= 63
        assert pattern.fullmatch(name)
        for template in pod_templates(manifest).values():
            labels = labels | template["metadata"]["labels"]
        assert all(isinstance(value, str) and LABEL_VALUE.fullmatch(value) for value in labels.values())
    assert the(manifests, "Service")["spec"]["selector"]["app.kubernetes.io/instance"] == release


def test_long_names_that_differ_at_the_end_stay_different(helm4):
    names = {the(helm4.render(release=release), "Service")["metadata"]["name"] for release in RELEASES}
    assert len(names) == len(RELEASES)


def test_objects_are_named_after_the_overrides(helm4):
    def name(*sets):
        return the(helm4.render("--set", ",".join(sets), release="r"), "Service")["metadata"]["name"]

    assert name("nameOverride=vlm") == "r-vlm"
    assert name("nameOverride=vlm", "fullnameOverride=models") == "models"
