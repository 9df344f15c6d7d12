"""Every PromQL expression of a release by its place, and a live server's numbers to hold against them."""

import json
import subprocess
from pathlib import Path
from typing import NamedTuple

import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.helm.chart import CHART, Manifest, the

DASHBOARD = CHART / "dashboards/winnow.json"
WITH_ALERTS = ("--set", "monitoring.prometheusRule.enabled=true")

# What Prometheus and its operator put on every series of a target.
TARGET_LABELS = {"namespace": "models", "job": "winnow", "pod": "winnow-0", "instance": "10.0.0.1:8000"}

# What Grafana puts in for the dashboard's variables.
VARIABLES = {"$namespace": "models", "$job": "winnow", "$model_name": "demo", "$__rate_interval": "4m"}


class Expression(NamedTuple):
    """An expression and where it stands."""

    place: str
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


class Sample(NamedTuple):
    """One line of /metrics."""

    name: str
    labels: dict[str, str]
    value: float


def samples_of(metrics: str) -> list[Sample]:
    """The lines of a /metrics page, `up` added as Prometheus does."""
    families = text_string_to_metric_families(metrics)
    samples = [Sample(sample.name, sample.labels, sample.value) for family in families for sample in family.samples]
    return [Sample("up", {}, 1.0), *samples]


def panels() -> list[dict]:
    """The dashboard's panels, without the rows' titles."""
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def of_dashboard() -> list[Expression]:
    """The queries of panels, with values in place of Grafana's variables."""
    found = []
    for panel in panels():
        for target in panel["targets"]:
            text = target["expr"]
            for variable, value in VARIABLES.items():
                text = text.replace(variable, value)
            found.append(Expression(f"panel {panel['title']!r}", text))
    return found


def groups(manifests: list[Manifest]) -> list[dict]:
    """The groups of the PrometheusRule among these manifests."""
    return the(manifests, "PrometheusRule")["spec"]["groups"]


def alerts(manifests: list[Manifest]) -> dict[str, dict]:
    """Every alert of the PrometheusRule among these manifests, by its name."""
    return {rule["alert"]: rule for group in groups(manifests) for rule in group["rules"]}


def of_alerts(manifests: list[Manifest]) -> list[Expression]:
    """The conditions of alerts."""
    return [Expression(f"alert {name}", rule["expr"]) for name, rule in alerts(manifests).items()]


def of_autoscalers(manifests: list[Manifest]) -> list[Expression]:
    """What the HorizontalPodAutoscaler and the ScaledObject among these manifests look at."""
    found = []
    for manifest in manifests:
        spec, place = manifest.get("spec", {}), manifest["kind"]
        if place == "HorizontalPodAutoscaler":
            for metric in (entry["pods"]["metric"] for entry in spec["metrics"]):
                labels = metric.get("selector", {}).get("matchLabels", {})
                matchers = ",".join(f'{label}="{value}"' for label, value in labels.items())
                found.append(Expression(place, f"{metric['name']}{{{matchers}}}"))
        if place == "ScaledObject":
            found += [Expression(place, trigger["metadata"]["query"]) for trigger in spec["triggers"]]
    return found


def run_rule_tests(promtool: Path, folder: Path, tests: dict, rules: list[dict]) -> None:
    """Run unit tests of rules with Prometheus' own engine; what differs is shown.

    Args:
        promtool: the program.
        folder: for its files.
        tests: the test file's content; it names its rules `rules.yaml`.
        rules: groups of rules.
    """
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": rules}))
    (folder / "tests.yaml").write_text(yaml.safe_dump(tests, width=1000))
    result = subprocess.run([promtool, "test", "rules", folder / "tests.yaml"], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
