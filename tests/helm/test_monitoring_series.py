"""Alerts, dashboard and autoscalers ask only for what a live server exports, and find it in its numbers."""

import base64
import math
import re
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from tests.helm.chart import KEY, ROOT
from tests.helm.monitored import (
    TARGET_LABELS,
    WITH_ALERTS,
    Expression,
    Sample,
    of_alerts,
    of_autoscalers,
    of_dashboard,
    panels,
    run_rule_tests,
    samples_of,
)
from tests.helm.promql import Selector, grouping_labels, selectors
from tests.server.harness import encoded, picture, question

# Whether their conditions hold on a healthy server is the machine's affair.
SPEED_ALERTS = ("alert WinnowTimeToFirstTokenHigh", "alert WinnowTimePerOutputTokenHigh")


class Scrapes(NamedTuple):
    """A server's numbers before and after it has answered sparse and dense requests."""

    before: list[Sample]
    after: list[Sample]


@pytest.fixture(scope="module")
def scrapes(server) -> Scrapes:
    url = "data:image/png;base64," + base64.b64encode(encoded(picture("red"), "PNG")).decode()
    messages = question({"type": "image_url", "image_url": {"url": url}})
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as client:
        before = samples_of(client.get("/metrics").text)
        for sparsity_p in (0.4, 1, 1):
            body = {"model": "demo", "messages": messages, "sparsity_p": sparsity_p, "max_tokens": 4, "min_tokens": 4}
            client.post("/v1/chat/completions", json=body).raise_for_status()
        return Scrapes(before, samples_of(client.get("/metrics").text))


@pytest.fixture(scope="module")
def alert_expressions(helm4) -> list[Expression]:
    return of_alerts(helm4.render(*WITH_ALERTS))


@pytest.fixture(scope="module")
def autoscaler_expressions(helm4) -> list[Expression]:
    hpa, keda = (of_autoscalers(helm4.render("--set", f"autoscaling.{kind}.enabled=true")) for kind in ("hpa", "keda"))
    assert (len(hpa), len(keda)) == (1, 1)
    return hpa + keda


def is_exported(selector: Selector, samples: list[Sample]) -> bool:
    """Whether a sample of the name meets the conditions on the server's own labels.

    Nothing provokes an answer of the class 5xx here; another class shows that classes are how the label is written.
    """

    def is_met(sample: Sample) -> bool:
        return all(
            matcher.label in TARGET_LABELS
            or matcher.accepts(sample.labels.get(matcher.label, ""))
            or (matcher.label, matcher.value, sample.labels.get(matcher.label)) == ("status", "5xx", "2xx")
            for matcher in selector.matchers
        )

    return any(sample.name == selector.name and is_met(sample) for sample in samples)


def not_exported(expressions: list[Expression], samples: list[Sample]) -> list[str]:
    """Every expression that reads a series or groups by a label that no sample has."""
    faults = []
    for expression in expressions:
        read = selectors(expression.text)
        assert read, expression
        names = {selector.name for selector in read}
        labels = {label for sample in samples if sample.name in names for label in sample.labels} | {*TARGET_LABELS}
        faults += [f"{selector} in {expression}" for selector in read if not is_exported(selector, samples)]
        faults += [f"label {label} in {expression}" for label in grouping_labels(expression.text) - labels]
    return faults


def test_alerts_read_what_the_server_exports(scrapes, alert_expressions):
    assert not_exported(alert_expressions, scrapes.after) == []


def test_the_dashboard_reads_what_the_server_exports(scrapes):
    assert not_exported(of_dashboard(), scrapes.after) == []


def test_autoscalers_read_what_the_server_exports(scrapes, autoscaler_expressions):
    assert not_exported(autoscaler_expressions, scrapes.after) == []


@pytest.mark.parametrize(
    "text",
    [
        "vllm:gpu_cache_usage_perc",
        'winnow_requests_total{mode="half"}',
        'vllm:num_requests_waiting{model="demo"}',
        "sum by (reason) (vllm:num_requests_waiting)",
        'http_requests_total{status="500"}',
    ],
)
def test_the_check_finds_what_the_server_does_not_export(scrapes, text):
    assert len(not_exported([Expression("here", text)], scrapes.after)) == 1


def series_of(scrapes: Scrapes, expressions: list[Expression]) -> list[dict]:
    """What Prometheus would hold of these expressions' series after two scrapes a minute apart."""
    names = {selector.name for expression in expressions for selector in selectors(expression.text)}
    before = {(sample.name, *sorted(sample.labels.items())): sample.value for sample in scrapes.before}
    series = []
    for sample in scrapes.after:
        if sample.name in names and math.isfinite(sample.value):
            first = before.get((sample.name, *sorted(sample.labels.items())), 0.0)
            labels = ",".join(f'{label}="{value}"' for label, value in {**TARGET_LABELS, **sample.labels}.items())
            series.append({"series": f"{sample.name}{{{labels}}}", "values": f"{first} {sample.value} {sample.value}"})
    return series


def run_expressions(promtool: Path, folder: Path, scrapes: Scrapes, expressions: list[Expression], results: list):
    """Hold every expression's results, two minutes after the first scrape, against the expected ones."""
    tests = [{"expr": expression.text, "eval_time": "2m", "exp_samples": results} for expression in expressions]
    case = {"interval": "1m", "input_series": series_of(scrapes, expressions), "promql_expr_test": tests}
    run_rule_tests(promtool, folder, {"evaluation_interval": "1m", "tests": [case]}, rules=[])


def test_every_panel_shows_numbers(promtool, tmp_path, scrapes):
    """NaN, which Grafana leaves blank, is not at least 0."""
    shown = [Expression(place, f"count(({text}) >= 0) > bool 0") for place, text in of_dashboard()]
    run_expressions(promtool, tmp_path, scrapes, shown, [{"labels": "{}", "value": 1}])


def test_a_healthy_server_meets_no_alerts_condition(promtool, tmp_path, scrapes, alert_expressions):
    quiet = [expression for expression in alert_expressions if expression.place not in SPEED_ALERTS]
    assert len(quiet) == len(alert_expressions) - len(SPEED_ALERTS)
    run_expressions(promtool, tmp_path, scrapes, quiet, [])


def test_the_document_lists_every_series_of_ours(scrapes):
    families = {re.sub(r"_(bucket|count|sum|created)$", "", sample.name) for sample in scrapes.after}
    # `_created` of a counter stands without `_total`.
    ours = {name for name in families if name.startswith("winnow_") and f"{name}_total" not in families}
    section = (ROOT / "docs/http-api.md").read_text().partition("## Metrics")[2]
    assert set(re.findall(r"`(winnow_\w+)`", section)) == ours


def test_legends_name_labels_that_their_query_keeps():
    lost = []
    for panel in panels():
        for target in panel["targets"]:
            kept = grouping_labels(target["expr"])
            wanted = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            if not wanted <= (kept if kept else {*TARGET_LABELS}):
                lost.append((panel["title"], target["legendFormat"]))
    assert lost == []
