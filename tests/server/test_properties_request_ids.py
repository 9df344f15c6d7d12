"""Any bytes in X-Request-Id, any text in `request_id`: the name that comes out is the one that went in, or a new one.

`pytest --hypothesis-profile=wide tests/server/test_properties_request_ids.py` draws 2,000 names for each test.
"""

import asyncio
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm.entrypoints.openai.completion.protocol import CompletionRequest

from server.errors import RequestRefused
from server.record import RequestRecord, begin_record, current_record
from server.request_ids import RequestIds, settle_request_id
from tests.server.outcomes import can_be_sent
from tests.server.strategies import texts

GOOD = re.compile(rb"[\x21-\x7e]{1,128}")
good_names = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=128)


def answer_to(values: list[bytes]) -> tuple[int, list[bytes], bytes | None]:
    """What the layer says to a request with these X-Request-Id headers: status, ids of the answer, id seen within."""
    sent, seen = [], []

    async def app(scope, receive, send):
        seen.append(current_record().request_id.encode())
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-request-id", b"of vLLM")]})
        await send({"type": "http.response.body", "body": b""})

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"x-request-id", value) for value in values]}
    asyncio.run(RequestIds(app)(scope, None, send))
    ids = [value for name, value in sent[0]["headers"] if name == b"x-request-id"]
    return sent[0]["status"], ids, seen[0] if seen else None


@given(st.lists(st.binary(max_size=140) | good_names.map(str.encode), max_size=3))
def test_every_answer_has_one_name_that_cannot_break_a_log(values):
    status, ids, seen = answer_to(values)
    assert len(ids) == 1
    assert GOOD.fullmatch(ids[0])
    if len(values) == 1 and GOOD.fullmatch(values[0]):
        assert (status, ids, seen) == (200, values, values[0])
    elif not values:
        assert (status, ids) == (200, [seen])
    else:
        assert (status, seen) == (400, None)


@given(in_header=st.none() | good_names, in_body=st.none() | texts | good_names)
def test_header_and_body_agree_or_the_request_is_refused(in_header, in_body):
    request = CompletionRequest.model_construct(prompt="hello")
    if in_body is not None:
        request = CompletionRequest(prompt="hello", request_id=in_body)
    record = RequestRecord(in_header or "made", is_named=in_header is not None)

    async def settle() -> None:
        begin_record(record)
        settle_request_id(request)

    is_good = in_body is None or GOOD.fullmatch(in_body.encode("utf-8", "surrogatepass")) is not None
    if is_good and (in_header is None or in_body is None or in_body == in_header):
        asyncio.run(settle())
        assert request.request_id == record.request_id == (in_body or in_header or "made")
    else:
        with pytest.raises(RequestRefused) as refused:
            asyncio.run(settle())
        assert refused.value.parameter == "request_id"
        assert can_be_sent(refused.value.message)
