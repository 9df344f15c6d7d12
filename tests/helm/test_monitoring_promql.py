"""The reader of PromQL that the checks of series rest on."""

import pytest

from tests.helm.promql import Matcher, grouping_labels, selectors


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("up", ["up"]),
        ("sum(rate(a_total[5m])) / sum(rate(b_total[$__rate_interval]))", ["a_total", "b_total"]),
        ("histogram_quantile(0.95, sum by (le) (rate(vllm:x_bucket{job=\"j\"}[5m]))) > 1e3", ["vllm:x_bucket"]),
        ("a and on (pod) b unless c == bool 0 or vector(0)", ["a", "b", "c"]),
        ('sum(a{path="}{"})', ["a"]),
        ("absent(up == 1)", ["up"]),
    ],
)  # fmt: skip
def test_the_series_of_an_expression(expression, names):
    assert [selector.name for selector in selectors(expression)] == names


def test_the_conditions_of_a_series():
    (selector,) = selectors('rate(a{b="c",handler=~"/v1/.*", d!="}"}[5m])')
    assert selector.matchers == (Matcher("b", "=", "c"), Matcher("handler", "=~", "/v1/.*"), Matcher("d", "!=", "}"))


def test_conditions_accept_what_prometheus_does():
    assert Matcher("a", "=~", "x.").accepts("xy")
    assert not Matcher("a", "=~", "x.").accepts("xyz")
    assert Matcher("a", "!~", "x.").accepts("xyz")
    assert not Matcher("a", "=", "x.").accepts("xy")


def test_the_labels_of_groups_and_joins():
    expression = "sum by (a, b) (x) / on (c) group_left (d) avg without (e) (y) + sum(z)"
    assert grouping_labels(expression) == {"a", "b", "c", "d", "e"}
