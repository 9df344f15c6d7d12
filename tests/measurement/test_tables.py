"""Markdown tables."""

from measurement.tables import markdown_table


def test_table_by_hand():
    assert markdown_table(["p", "ratio"], [["1", "1.000"]]) == "| p | ratio |\n| --- | --- |\n| 1 | 1.000 |"
