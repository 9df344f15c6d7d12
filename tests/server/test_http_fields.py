"""Any value in our fields, through HTTP: 200 or 400 with the field's name, and the engine lives on.

`pytest --hypothesis-profile=wide tests/server/test_http_fields.py` sends 2,000 requests for each test.
"""

import json

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.server.harness import MIN_SPARSITY_P
from tests.server.outcomes import can_be_sent
from tests.server.strategies import json_values, numbers, texts

QUESTION = "what color ?"
BODIES = {
    "chat/completions": {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 1},
    "completions": {"prompt": QUESTION, "max_tokens": 1},
    "responses": {"input": QUESTION, "max_output_tokens": 1},
}
HALF_A_PAIR = "\ud800"


@pytest.fixture(scope="module")
def connection(server):
    with httpx.Client(base_url=server.url, timeout=60) as connection:
        yield connection
        assert connection.get("/readyz").status_code == 200


def post(connection: httpx.Client, path: str, **fields) -> httpx.Response:
    body = json.dumps({"model": "demo", **BODIES[path], **fields})
    return connection.post(f"/v1/{path}", content=body, headers={"Content-Type": "application/json"})


@given(path=st.sampled_from(list(BODIES)), value=json_values | st.floats(MIN_SPARSITY_P, 1.0))
@example(path="completions", value=1 - 2**-53)
@example(path="chat/completions", value=MIN_SPARSITY_P)
@example(path="responses", value=HALF_A_PAIR)
def test_sparsity_p_is_used_or_refused(connection, path, value):
    response = post(connection, path, sparsity_p=value)
    if value is None or (type(value) in (int, float) and MIN_SPARSITY_P <= value <= 1):
        assert response.status_code == 200, response.text
        if value is not None:
            assert response.json()["usage"]["sparsity"]["sparsity_p"] == value
    else:
        assert response.status_code == 400, response.text
        is_text = can_be_sent(json.dumps(value, ensure_ascii=False))
        assert response.json()["error"]["param"] == ("sparsity_p" if is_text else None)


@given(path=st.sampled_from(list(BODIES)), value=numbers.map(repr) | texts)
@example(path="completions", value=HALF_A_PAIR)
def test_a_model_name_is_used_or_refused(connection, path, value):
    response = post(connection, path, model=f"demo@p={value}")
    assert response.status_code in (200, 400, 404)
    if response.status_code == 200:
        assert MIN_SPARSITY_P <= float(value) <= 1
    elif response.status_code == 400:
        assert response.json()["error"]["param"] == ("model" if can_be_sent(value) else None)
    else:
        assert "@p=" in value


@given(path=st.sampled_from(list(BODIES)), name=texts, value=json_values)
@example(path="completions", name=HALF_A_PAIR, value=1)
def test_a_field_called_like_ours_is_refused(connection, path, name, value):
    name = f"sparsity{name}"
    response = post(connection, path, **{name: value})
    assert response.status_code == 400, response.text
    is_text = can_be_sent(json.dumps({name: value}, ensure_ascii=False))
    assert response.json()["error"]["param"] == (name[:80] if is_text else None)


@given(path=st.sampled_from(list(BODIES)), text=texts)
@example(path="chat/completions", text=HALF_A_PAIR)
@example(path="completions", text=HALF_A_PAIR)
@example(path="responses", text=HALF_A_PAIR)
@example(path="completions", text="\0")
def test_any_text_is_answered_or_refused(connection, path, text):
    prompt = {"chat/completions": {"messages": [{"role": "user", "content": text}]}, "completions": {"prompt": text}}
    response = post(connection, path, user=text, **prompt.get(path, {"input": text}))
    assert response.status_code in (200, 400), response.text


# Other bytes are refused by the client's own library; tests/server/test_properties_request_ids.py has them all.
@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_categories=["Cc", "Zs"])))
def test_any_request_id_comes_back_or_is_refused(connection, value):
    response = connection.get("/version", headers=[(b"X-Request-Id", value.encode("latin-1"))])
    if 0 < len(value) <= 128 and value.isascii():
        assert (response.status_code, response.headers["X-Request-Id"]) == (200, value)
    else:
        assert response.status_code == 400


@given(st.binary(max_size=200) | json_values.map(json.dumps).map(str.encode), st.sampled_from(list(BODIES)))
def test_any_bytes_for_a_body_are_refused(connection, content, path):
    response = connection.post(f"/v1/{path}", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 400, response.text
    assert response.json()["error"]["message"]
