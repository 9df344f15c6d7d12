"""A Markdown document as one HTML file that needs no other: pictures lie inside it."""

import base64
import html
import re
from pathlib import Path

from benchmarks.errors import BenchmarkError

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; font-size: 0.9rem; }
th, td { border: 1px solid #d0d0d0; padding: 0.25rem 0.6rem; text-align: left; font-variant-numeric: tabular-nums; }
th { background: #f2f2f2; }
code, pre { font: 0.9em ui-monospace, monospace; background: #f2f2f2; }
pre { padding: 0.6rem; overflow-x: auto; }
img { max-width: 100%; }
summary { cursor: pointer; color: #0072b2; }
"""
_IMAGE = re.compile(r'<img src="([^":]+\.png)"')


def self_contained(markdown: str, folder: Path) -> str:
    """The document in HTML.

    Args:
        markdown: the document; its first heading becomes the title.
        folder: where its relative pictures lie.

    Raises:
        BenchmarkError: markdown-it-py is not installed.
    """
    try:
        from markdown_it import MarkdownIt
    except ModuleNotFoundError as error:
        raise BenchmarkError(
            "markdown-it-py is not installed, but the HTML page needs it. Install the project's extra `benchmarks`."
        ) from error
    body = MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown)
    body = _IMAGE.sub(lambda found: f'<img src="{_data_url(folder / found[1])}"', body)
    title = next((line.removeprefix("# ") for line in markdown.splitlines() if line.startswith("# ")), "Benchmarks")
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )


def _data_url(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
