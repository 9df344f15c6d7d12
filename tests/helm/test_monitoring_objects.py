"""The monitors find the server's pods and port, and the dashboard is one that Grafana takes."""

import json
from itertools import combinations

import pytest

from tests.helm.chart import KEY, Refused, server_container, server_template, the
from tests.helm.monitored import DASHBOARD, panels

MONITORS = {"PodMonitor": "podMonitor", "ServiceMonitor": "serviceMonitor"}
DASHBOARD_ON = ("--set", "monitoring.dashboard.enabled=true")


def sets(*options: str) -> list[str]:
    """Options of Helm for these values."""
    return [word for option in options for word in ("--set", option)]


def with_monitor(helm, kind: str, *options: str, **release: str) -> list[dict]:
    own = [f"monitoring.{MONITORS[kind]}.{option}" for option in ("enabled=true", *options)]
    return helm.render(*sets(*own), **release)


def endpoint_of(monitor: dict) -> dict:
    (endpoint,) = monitor["spec"].get("podMetricsEndpoints") or monitor["spec"]["endpoints"]
    return endpoint


@pytest.mark.parametrize("release", ["winnow", "y", "1e3"])
@pytest.mark.parametrize("kind", MONITORS)
def test_a_monitor_finds_the_servers_port(helm, kind, release):
    manifests = with_monitor(helm, kind, release=release)
    monitor, service = the(manifests, kind), the(manifests, "Service")
    pods = server_template(manifests)["metadata"]["labels"]
    target = pods if kind == "PodMonitor" else service["metadata"]["labels"]
    ports = server_container(manifests)["ports"] if kind == "PodMonitor" else service["spec"]["ports"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= target.items()
    assert monitor["spec"]["namespaceSelector"] == {"matchNames": ["models"]}
    assert endpoint_of(monitor)["port"] in {port["name"] for port in ports}
    assert endpoint_of(monitor)["path"] == "/metrics"


def test_a_monitor_of_several_nodes_leaves_the_workers_alone(helm4):
    options = ("multiNode.enabled=true", "parallel.tensor=4", "monitoring.podMonitor.enabled=true")
    manifests = helm4.render(*sets(*options))
    group = the(manifests, "LeaderWorkerSet")["spec"]["leaderWorkerTemplate"]
    selector = the(manifests, "PodMonitor")["spec"]["selector"]["matchLabels"].items()
    assert selector <= group["leaderTemplate"]["metadata"]["labels"].items()
    assert not selector <= group["workerTemplate"]["metadata"]["labels"].items()


@pytest.mark.parametrize("kind", MONITORS)
def test_targets_carry_the_name_that_alerts_ask_for(helm4, kind):
    manifests = with_monitor(helm4, kind, "relabelings[0].targetLabel=zone", "relabelings[0].replacement=a")
    job, zone = endpoint_of(the(manifests, kind))["relabelings"]
    assert job == {"targetLabel": "job", "replacement": "winnow"}
    assert zone == {"targetLabel": "zone", "replacement": "a"}


@pytest.mark.parametrize("kind", MONITORS)
def test_values_reach_a_monitor(helm4, kind):
    options = ("interval=30s", "scrapeTimeout=5s", "namespace=monitoring", "labels.release=prometheus")
    monitor = the(with_monitor(helm4, kind, *options), kind)
    assert monitor["metadata"]["namespace"] == "monitoring"
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert (endpoint_of(monitor)["interval"], endpoint_of(monitor)["scrapeTimeout"]) == ("30s", "5s")


@pytest.mark.parametrize("kind", MONITORS)
def test_a_monitor_shows_the_key_that_the_server_asks_for(helm, kind):
    assert "authorization" not in endpoint_of(the(with_monitor(helm, kind), kind))
    key = ("auth.apiKey.existingSecret=keys", "auth.apiKey.key=winnow")
    monitor = the(helm.render(*sets(f"monitoring.{MONITORS[kind]}.enabled=true", *key)), kind)
    credentials = {"name": "keys", "key": "winnow"}
    assert endpoint_of(monitor)["authorization"] == {"type": "Bearer", "credentials": credentials}


@pytest.mark.parametrize("kind", MONITORS)
def test_a_monitor_lies_where_it_can_read_the_key(helm, kind):
    values = f"monitoring.{MONITORS[kind]}"
    options = (f"auth.apiKey.value={KEY}", f"{values}.enabled=true", f"{values}.namespace=monitoring")
    with pytest.raises(Refused, match="Leave the namespace of the monitor empty"):
        helm.render(*sets(*options))


def test_nothing_is_scraped_twice(helm):
    options = ("monitoring.podMonitor.enabled=true", "monitoring.serviceMonitor.enabled=true")
    with pytest.raises(Refused, match="both enabled, but every series would be there twice"):
        helm.render(*sets(*options))


def test_the_dashboard_arrives_as_it_is(helm):
    config_map = the([m for m in helm.render(*DASHBOARD_ON) if "dashboard" in m["metadata"]["name"]], "ConfigMap")
    assert config_map["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(config_map["data"]["winnow.json"]) == json.loads(DASHBOARD.read_text())


def test_panels_lie_side_by_side():
    places = [panel["gridPos"] for panel in json.loads(DASHBOARD.read_text())["panels"]]

    def overlap(a: dict, b: dict, start: str, size: str) -> bool:
        return max(a[start], b[start]) < min(a[start] + a[size], b[start] + b[size])

    pairs = combinations(places, 2)
    assert [pair for pair in pairs if overlap(*pair, "x", "w") and overlap(*pair, "y", "h")] == []
    assert [place for place in places if place["x"] + place["w"] > 24] == []


def test_panels_have_numbers_and_titles_of_their_own():
    drawn = panels()
    for field in ("id", "title"):
        assert len({panel[field] for panel in drawn}) == len(drawn)


def test_panels_ask_the_data_source_and_release_that_are_chosen():
    queries = [target for panel in panels() for target in panel["targets"]]
    assert {query["datasource"]["uid"] for query in queries} == {"${datasource}"}
    assert [q["expr"] for q in queries if q["expr"].count("{") != q["expr"].count('job=~"$job"')] == []


def test_the_dashboard_shows_what_pruning_saves_beside_vllms_own():
    text = " ".join(target["expr"] for panel in panels() for target in panel["targets"])
    for series in (
        "winnow_token_ratio_sum",
        "winnow_freed_block_seconds_total",
        "winnow_kv_cache_dense_tokens",
        "vllm:time_to_first_token_seconds_bucket",
        "vllm:request_time_per_output_token_seconds_bucket",
        "vllm:kv_cache_usage_perc",
    ):
        assert series in text
