"""The alerts: Prometheus takes them, each fires and stays silent when it should, and the values reach them."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.helm.chart import ROOT, Refused, the
from tests.helm.monitored import WITH_ALERTS, alerts, groups, of_dashboard, run_rule_tests

CASES = Path(__file__).parent / "alerts.yaml"


@pytest.fixture(scope="module")
def rules(helm4) -> dict[str, dict]:
    return alerts(helm4.render(*WITH_ALERTS))


def check(promtool: Path, folder: Path, rules: list[dict]) -> str:
    """What `promtool check rules` says, every warning an error."""
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": rules}))
    result = subprocess.run(
        [promtool, "check", "rules", "--lint=all", "--lint-fatal", path], capture_output=True, text=True
    )
    return f"{result.returncode} {result.stdout} {result.stderr}"


def test_prometheus_takes_the_alerts(promtool, helm4, tmp_path, rules):
    assert f"SUCCESS: {len(rules)} rules found" in check(promtool, tmp_path, groups(helm4.render(*WITH_ALERTS)))


def test_prometheus_refuses_what_is_no_promql(promtool, tmp_path):
    broken = {"name": "broken", "rules": [{"alert": "Broken", "expr": "sum by (up"}]}
    assert check(promtool, tmp_path, [broken]).startswith("1 ")


def test_prometheus_takes_the_dashboards_queries(promtool, tmp_path):
    records = [{"record": f"panel:query:{i}", "expr": query.text} for i, query in enumerate(of_dashboard())]
    assert f"SUCCESS: {len(records)} rules" in check(promtool, tmp_path, [{"name": "dashboard", "rules": records}])


def test_alerts_fire_and_stay_silent(promtool, helm4, tmp_path):
    run_rule_tests(promtool, tmp_path, yaml.safe_load(CASES.read_text()), groups(helm4.render(*WITH_ALERTS)))


def test_every_alert_has_a_case_of_each_kind(rules):
    """Silent before it fires is one kind, silent to the end of a case of its own is the other."""
    fires, is_silent = set(), set()
    for case in yaml.safe_load(CASES.read_text())["tests"]:
        for test in case["alert_rule_test"]:
            (fires if test["exp_alerts"] else is_silent).add(test["alertname"])
    assert fires == is_silent == set(rules)


def test_another_threshold_changes_what_fires(promtool, helm4, tmp_path):
    option = "monitoring.prometheusRule.alerts.WinnowQueueLong.threshold=12"
    with pytest.raises(AssertionError, match="eleven requests wait for each of two replicas"):
        run_rule_tests(
            promtool,
            tmp_path,
            yaml.safe_load(CASES.read_text()),
            groups(helm4.render(*WITH_ALERTS, "--set", option)),
        )


def test_values_reach_an_alert(helm4, rules):
    prefix = "monitoring.prometheusRule"
    options = (
        f"{prefix}.alerts.WinnowErrors.threshold=0.2",
        f"{prefix}.alerts.WinnowErrors.for=1m",
        f"{prefix}.alerts.WinnowErrors.severity=page",
        f"{prefix}.alertLabels.team=vision",
        f"{prefix}.runbookUrl=https://example.org/deploy",
        "monitoring.job=other",
    )
    changed = alerts(helm4.render(*WITH_ALERTS, *(word for option in options for word in ("--set", option))))
    rule = changed["WinnowErrors"]
    assert rule["labels"] == {"severity": "page", "namespace": "models", "job": "other", "team": "vision"}
    assert (rule["for"], rule["annotations"]["runbook_url"]) == ("1m", "https://example.org/deploy#winnowerrors")
    assert rule["expr"] == rules["WinnowErrors"]["expr"].replace('job="winnow"', 'job="other"').replace("0.02", "0.2")


def test_no_placeholder_is_left(rules):
    assert [name for name, rule in rules.items() if re.search(r"<\w+>", rule["expr"])] == []


def test_alerts_about_starting_wait_for_the_startup_probe(helm4):
    probe = ("--set", "probes.startup.failureThreshold=60", "--set", "probes.startup.periodSeconds=20")
    changed = alerts(helm4.render(*WITH_ALERTS, *probe))
    assert {name for name, rule in changed.items() if rule["for"] == "1500s"} == {
        "WinnowNotStarting",
        "WinnowReplicaDown",
    }


def test_an_alert_can_be_left_out(helm4, rules):
    option = "monitoring.prometheusRule.alerts.WinnowSavesLittle.enabled=false"
    assert set(rules) - set(alerts(helm4.render(*WITH_ALERTS, "--set", option))) == {"WinnowSavesLittle"}


def test_groups_can_be_added(helm4):
    group = 'monitoring.prometheusRule.extraGroups=[{"name":"more","rules":[]}]'
    assert groups(helm4.render(*WITH_ALERTS, "--set-json", group))[1:] == [{"name": "more", "rules": []}]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("WinnowTooSlow.enabled=true", "WinnowTooSlow"),
        ("WinnowErrors.threshold=2", "threshold"),
        ("WinnowDown.threshold=2", "threshold"),
        ("WinnowDown.for=soon", "for"),
    ],
)
def test_the_schema_knows_the_alerts(helm, option, message):
    with pytest.raises(Refused, match=message):
        helm.render(*WITH_ALERTS, "--set", f"monitoring.prometheusRule.alerts.{option}")


def test_the_schema_and_the_values_hold_every_alert(rules):
    values = yaml.safe_load((ROOT / "helm/winnow/values.yaml").read_text())
    schema = yaml.safe_load((ROOT / "helm/winnow/values.schema.json").read_text())
    settings = schema["properties"]["monitoring"]["properties"]["prometheusRule"]["properties"]["alerts"]["properties"]
    assert set(values["monitoring"]["prometheusRule"]["alerts"]) == set(settings) == set(rules)


def test_the_document_says_what_to_do_about_every_alert(rules):
    text = (ROOT / "docs/deploy.md").read_text()
    assert [name for name in rules if f"| `{name}` |" not in text] == []


def test_alerts_without_values_are_not_made(helm4):
    assert "PrometheusRule" not in {manifest["kind"] for manifest in helm4.render()}
    assert the(helm4.render(*WITH_ALERTS), "PrometheusRule")["metadata"]["name"] == "winnow"
