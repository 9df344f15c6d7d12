"""Any body in any pieces, any schema: within the limits it arrives as it was sent, beyond them it is refused.

`pytest --hypothesis-profile=wide tests/server/limits/test_properties.py` draws 2,000 for each test.
"""

import asyncio
import json

from hypothesis import given
from hypothesis import strategies as st
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.sampling_params import StructuredOutputsParams

from server.errors import RequestRefused
from server.limits.bodies import Bodies
from server.limits.requests import check_request
from server.limits.settings import KIB, MIB, RequestLimits
from server.limits.structures import check_structure
from server.limits.texts import check_text
from tests.server.outcomes import can_be_sent, outcome
from tests.server.strategies import json_values, texts

LIMITS = RequestLimits(
    max_body_mib=1, max_bodies_mib=1, max_sequences=8, max_text_chars=100, max_list_items=4, max_schema_kib=1,
    max_regex_chars=64,
)  # fmt: skip


class Client:
    """Sends pieces to the layer and keeps what it answers and what it lets through."""

    def __init__(self) -> None:
        self.bodies = Bodies(self._app, LIMITS)
        self.arrived: list[bytes] = []
        self.statuses: list[int] = []

    async def _app(self, scope, receive, send):
        message = await receive()
        assert not message["more_body"]
        self.arrived.append(message["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def post(self, pieces: list[bytes], *, path: str, leaves: bool, length: bytes | None) -> None:
        messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
        messages.append({"type": "http.disconnect"} if leaves else {"type": "http.request", "more_body": False})
        messages.reverse()

        async def receive():
            return messages.pop()

        async def send(message):
            if message["type"] == "http.response.start":
                self.statuses.append(message["status"])

        headers = [] if length is None else [(b"content-length", length)]
        scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
        await self.bodies(scope, receive, send)


pieces = st.lists(st.binary(max_size=64) | st.sampled_from([bytes(MIB // 2), bytes(MIB)]), max_size=5)


@given(
    pieces=pieces,
    leaves=st.booleans(),
    length=st.none() | st.integers(0, 1 << 40).map(lambda n: b"%d" % n) | st.binary(),
)
def test_a_body_arrives_whole_or_not_at_all_and_is_not_counted_afterwards(pieces, leaves, length):
    client = Client()
    asyncio.run(client.post(pieces, path="/tokenize", leaves=leaves, length=length))
    size = sum(map(len, pieces))
    claims = int(length) if length is not None and length.isdigit() else 0
    if max(size, claims) > MIB:
        assert (client.arrived, set(client.statuses) - {413}) == ([], set())
    elif leaves:
        assert (client.arrived, client.statuses) == ([], [])
    else:
        assert (client.arrived, client.statuses) == ([b"".join(pieces)], [200])
    # Nothing is left of it: a body of the largest size fits again.
    client.arrived.clear()
    asyncio.run(client.post([bytes(MIB)], path="/tokenize", leaves=False, length=None))
    assert client.arrived == [bytes(MIB)]


fields = st.dictionaries(texts | st.sampled_from(["sparsity_p", "sParsity", "sparsity_q"]), json_values, max_size=3)


@given(fields, st.sampled_from(["/tokenize", "/v1/messages", "/detokenize"]), st.booleans())
def test_fields_called_like_ours_are_refused_where_nobody_reads_them(fields, path, escaped):
    client = Client()
    body = json.dumps(fields).replace('"s', '"\\u0073') if escaped else json.dumps(fields, ensure_ascii=False)
    asyncio.run(client.post([body.encode("utf-8", "surrogatepass")], path=path, leaves=False, length=None))
    is_ours = any(name.lower().startswith("sparsity") for name in fields)
    assert client.statuses == [400 if is_ours else 200]


patterns = st.text(st.sampled_from("ab()[]*+{}\\|^$"), max_size=80)
schemas = st.recursive(
    st.fixed_dictionaries({}, optional={"type": json_values, "pattern": patterns | json_values, "enum": json_values}),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"items": inner | st.lists(inner, max_size=3)}),
        st.fixed_dictionaries({"properties": st.dictionaries(texts, inner, max_size=3)}),
        st.fixed_dictionaries({"patternProperties": st.dictionaries(patterns, inner, max_size=2)}),
        st.fixed_dictionaries({"$defs": st.dictionaries(texts, inner, max_size=2), "anyOf": st.lists(inner)}),
    ),
    max_leaves=12,
)


def longest_pattern(schema: object, of: str = "") -> int:
    """By recursion, unlike the code that is tested."""
    if isinstance(schema, list):
        return max((longest_pattern(item) for item in schema), default=0)
    if not isinstance(schema, dict):
        return 0
    own = [len(schema[name]) for name in ("pattern", "regex") if isinstance(schema.get(name), str)]
    if isinstance(schema.get("patternProperties"), dict):
        own += map(len, schema["patternProperties"])
    return max([*own, *map(longest_pattern, schema.values())], default=0)


@given(schemas, st.booleans())
def test_a_schema_within_the_limits_passes_and_another_is_refused(schema, as_text):
    structure = StructuredOutputsParams(json=json.dumps(schema) if as_text else schema)
    is_large = len(json.dumps(schema)) > KIB or longest_pattern(schema) > LIMITS.max_regex_chars
    _, refused = outcome(RequestRefused, check_structure, structure, LIMITS)
    assert (refused is not None) == is_large
    if refused:
        assert refused.parameter == "structured_outputs"
        assert can_be_sent(refused.message)


@given(
    prompt=st.one_of(
        texts.filter(bool), st.lists(texts, min_size=1, max_size=10), st.lists(st.integers(0, 400), min_size=1)
    ),
    n=st.none() | st.integers(1, 20),
    stop=st.none() | texts | st.lists(texts, max_size=4),
    words=st.none() | st.lists(texts, max_size=6),
)
def test_a_request_is_within_the_limits_or_refused(prompt, n, stop, words):
    fields = {"n": n, "stop": stop, "bad_words": words}
    request = CompletionRequest(prompt=prompt, **{name: value for name, value in fields.items() if value is not None})
    prompts = prompt if isinstance(prompt, list) and prompt and isinstance(prompt[0], str) else [prompt]
    # vLLM's defaults, such as a request's id, are text of the request too.
    defaults = [value for value in vars(CompletionRequest(prompt=[0])).values() if isinstance(value, str)]
    num_chars = sum(map(len, [*prompts, *(words or []), *(stop or []), *defaults]))
    is_large = len(prompts) * (n or 1) > 8 or len(words or []) > 4 or num_chars > LIMITS.max_text_chars
    for check in (check_request, check_text):
        _, refused = outcome(RequestRefused, check, request, LIMITS)
        if refused:
            break
    assert (refused is not None) == is_large
    assert refused is None or can_be_sent(refused.message)
