"""Autoscaling, disruption budgets, routes and network policy."""

import pytest
import yaml

from tests.helm.chart import CHART, WORKLOADS, matches, server_template, the

ADAPTER = yaml.safe_load((CHART.parent / "prometheus-adapter-values.yaml").read_text())


def test_the_autoscaler_watches_waiting_requests_per_pod(helm4):
    manifests = helm4.render("--set", "autoscaling.hpa.enabled=true,model.servedName=vlm")
    spec = the(manifests, "HorizontalPodAutoscaler")["spec"]
    (metric,) = spec["metrics"]
    assert metric["pods"] == {
        "metric": {"name": "vllm:num_requests_waiting", "selector": {"matchLabels": {"model_name": "vlm"}}},
        "target": {"type": "AverageValue", "averageValue": "4"},
    }
    assert (spec["minReplicas"], spec["maxReplicas"]) == (1, 4)


def test_a_model_name_that_is_no_label_value_is_left_out(helm4):
    """Kubernetes would refuse the selector of a name with a slash."""
    manifests = helm4.render("--set", "autoscaling.hpa.enabled=true,model.name=some/model")
    (metric,) = the(manifests, "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert "selector" not in metric["pods"]["metric"]


def test_the_adapter_serves_the_metric_that_the_autoscaler_asks_for(helm4):
    (metric,) = the(helm4.render("--set", "autoscaling.hpa.enabled=true"), "HorizontalPodAutoscaler")["spec"]["metrics"]
    (rule,) = ADAPTER["rules"]["custom"]
    assert f'__name__="{metric["pods"]["metric"]["name"]}"' in rule["seriesQuery"]
    assert set(rule["resources"]["overrides"]) == {"namespace", "pod"}


def test_keda_asks_prometheus_for_this_release_only(helm4):
    sets = "autoscaling.keda.enabled=true,model.name=some/model,autoscaling.waitingRequests=7"
    (trigger,) = the(helm4.render("--set", sets, release="r", namespace="ns"), "ScaledObject")["spec"]["triggers"]
    assert trigger["metadata"]["query"] == (
        'sum(vllm:num_requests_waiting{namespace="ns",job="r-winnow",model_name="some/model"})'
    )
    assert trigger["metadata"]["threshold"] == "7"


@pytest.mark.parametrize("scaler", ["hpa", "keda"])
@pytest.mark.parametrize("nodes", ["one node", "several nodes"])
def test_an_autoscaler_holds_the_replicas_of_what_exists(helm4, scaler, nodes):
    several = ["--set", "multiNode.enabled=true,parallel.tensor=4"] if nodes == "several nodes" else []
    manifests = helm4.render("--set", f"autoscaling.{scaler}.enabled=true", *several)
    (workload,) = [manifest for manifest in manifests if manifest["kind"] in WORKLOADS]
    assert "replicas" not in workload["spec"]
    (autoscaler,) = [
        manifest for manifest in manifests if manifest["kind"] in {"HorizontalPodAutoscaler", "ScaledObject"}
    ]
    assert autoscaler["spec"]["scaleTargetRef"] == {
        "apiVersion": workload["apiVersion"],
        "kind": workload["kind"],
        "name": workload["metadata"]["name"],
    }


@pytest.mark.parametrize(
    ("values", "budget"),
    [
        ("", {"maxUnavailable": 1}),
        ("podDisruptionBudget.maxUnavailable=2", {"maxUnavailable": 2}),
        ("podDisruptionBudget.maxUnavailable=0", {"maxUnavailable": 0}),
        ("podDisruptionBudget.minAvailable=50%", {"minAvailable": "50%"}),
        ("podDisruptionBudget.minAvailable=0", {"minAvailable": 0}),
    ],
    ids=lambda value: value.rpartition(".")[2] or "default" if isinstance(value, str) else "",
)
def test_the_budget(helm4, values, budget):
    spec = the(helm4.render("--set", f"podDisruptionBudget.enabled=true,{values}"), "PodDisruptionBudget")["spec"]
    assert {key: spec[key] for key in spec if key in {"minAvailable", "maxUnavailable"}} == budget


def test_routes_open_only_what_clients_need(helm4):
    ingress = "ingress.enabled=true,ingress.hosts[0].host=h"
    route = "httpRoute.enabled=true,httpRoute.parentRefs[0].name=g"
    manifests = helm4.render("--set", ingress, "--set", route)
    (rule,) = the(manifests, "Ingress")["spec"]["rules"]
    assert [path["path"] for path in rule["http"]["paths"]] == ["/v1"]
    (rule,) = the(manifests, "HTTPRoute")["spec"]["rules"]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/v1"}}]


def policy(helm4, *options):
    manifests = helm4.render(*options)
    return the(manifests, "NetworkPolicy")["spec"], manifests


def test_the_policy_lets_the_release_s_namespace_in_and_only_to_its_port(helm4):
    spec, manifests = policy(helm4)
    assert matches(spec["podSelector"], server_template(manifests)["metadata"]["labels"])
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert spec["ingress"] == [{"ports": [{"port": "http", "protocol": "TCP"}], "from": [{"podSelector": {}}]}]


def test_other_namespaces_and_peers_are_let_in_by_name(helm4, tmp_path):
    values = tmp_path / "values.yaml"
    values.write_text("networkPolicy: {ingress: {namespaces: [gateways], from: [{ipBlock: {cidr: 192.0.2.0/24}}]}}")
    spec, _ = policy(helm4, "--values", values)
    (rule,) = spec["ingress"]
    own, namespaces, network = rule["from"]
    (expression,) = namespaces["namespaceSelector"]["matchExpressions"]
    assert own == {"podSelector": {}}
    assert expression == {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["gateways"]}
    assert network == {"ipBlock": {"cidr": "192.0.2.0/24"}}


def test_the_policy_closes_private_networks_and_cloud_metadata(helm4):
    spec, _ = policy(helm4)
    dns, outside = spec["egress"]
    assert {(port["port"], port["protocol"]) for port in dns["ports"]} == {(53, "UDP"), (53, "TCP")}
    (peer,) = outside["to"]
    assert peer["ipBlock"]["cidr"] == "0.0.0.0/0"
    # Alibaba Cloud's metadata service is 100.100.100.200, all others' 169.254.169.254.
    assert {"169.254.0.0/16", "100.64.0.0/10", "10.0.0.0/8"} <= set(peer["ipBlock"]["except"])
    assert [port["port"] for port in outside["ports"]] == [443]


def test_nothing_may_leave_when_nothing_is_allowed(helm4, tmp_path):
    values = tmp_path / "values.yaml"
    values.write_text("networkPolicy: {egress: {dns: false, ports: []}}")
    spec, _ = policy(helm4, "--values", values)
    assert not spec["egress"]
