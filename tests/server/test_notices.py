"""Where the server's own words go."""

import logging
from types import SimpleNamespace

import pytest

from server import notices

TEXT = "\nserves 100 % at once\nask it\n"


@pytest.mark.parametrize(
    ("formatter", "printed", "logged"),
    [("text", f"{TEXT}\n", []), ("json", "", ["serves 100 % at once\nask it"])],
)
def test_words_are_printed_or_logged(formatter, printed, logged, capsys, monkeypatch):
    records = []
    monkeypatch.setattr(notices.logger, "handle", records.append)
    notices.logger.setLevel(logging.INFO)
    notices.say(TEXT, SimpleNamespace(logging_config=SimpleNamespace(formatter=formatter)))
    notices.logger.setLevel(logging.NOTSET)
    assert capsys.readouterr().out == printed
    assert [record.getMessage() for record in records] == logged
