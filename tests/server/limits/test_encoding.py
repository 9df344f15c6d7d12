"""Text that Python's JSON parser takes and an answer cannot repeat."""

import json

import pytest

from server.limits.encoding import problem_of_text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no JSON",
        b'{"prompt": "\\u00e9 \\ud83d\\ude00"}',
        '{"prompt": "é 😀"}'.encode(),
        b'{"prompt": "\\\\ud800"}',
        b'{"prompt": "\\ud800',
        b'"\\ud800' + b"[" * 100_000,
    ],
    ids=range(7),
)
def test_text_passes_and_so_does_what_is_no_json(body):
    assert problem_of_text(body) is None


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b'{"prompt": "a\\ud800b"}', r"The body holds \ud800 alone, but that is half of a surrogate pair."),
        (b'{"prompt": ["\\uDC00\\uD800"]}', r"The body holds \udc00 alone"),
        (b'{"\\ud83d\\\\ude00": 1}', r"The body holds \ud83d alone"),
        (b'{"prompt": "\xed\xa0\x80"}', "Byte 12 of the body is no UTF-8, but JSON must be UTF-8. Encode it so."),
        (b'{"prompt": "\xff"}', "Byte 12 of the body is no UTF-8"),
        (json.dumps({"prompt": "x"}).encode("utf-16"), "Byte 0 of the body is no UTF-8"),
        (json.dumps({"prompt": "x"}).encode("utf-16-le"), "Byte 1 of the body is NUL"),
        (json.dumps({"prompt": "x"}).encode("utf-32-be"), "Byte 0 of the body is NUL"),
    ],
    ids=range(8),
)
def test_halves_and_other_encodings_are_refused(body, sentence):
    assert problem_of_text(body).startswith(sentence)
