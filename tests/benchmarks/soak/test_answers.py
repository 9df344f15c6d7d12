"""The comparison with answers alone, and its rule for ties."""

import pytest

from benchmarks.soak.answers import difference, is_tie, reference_of


def test_a_reference_knows_the_rivals_of_every_token(make_reply):
    content = [
        {"token": "token_id:5", "logprob": -0.1, "top_logprobs": [{"token": "token_id:5", "logprob": -0.1},
                                                                 {"token": "token_id:9", "logprob": -3.0}]},
    ]  # fmt: skip
    reference = reference_of(make_reply(choice={"token_ids": [5], "logprobs": {"content": content}}))
    assert reference.logprobs == [{5: -0.1, 9: -3.0}]
    assert (reference.token_ids, reference.kept_tokens_per_layer, reference.finish_reason) == ([5], [30, 50], "stop")


@pytest.mark.parametrize(
    ("token_ids", "expected"),
    [
        ([5, 6, 7], False),
        ([5, 8, 1], True),
        ([5, 9, 7], False),
        ([9, 6, 7], False),
        ([5, 6, 8], False),
        ([5, 6], False),
    ],
    ids=["equal", "rival as likely", "no rival", "unlikely rival", "less likely rival", "shorter"],
)
def test_only_two_tokens_that_are_as_likely_are_a_tie(reference, token_ids, expected):
    assert is_tie(reference, token_ids) is expected


def test_equal_answers_and_ties_do_not_differ(reference, make_reply):
    assert difference(reference, make_reply()) is None
    assert difference(reference, make_reply(choice={"token_ids": [5, 8], "finish_reason": "length"})) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"choice": {"token_ids": [5, 6, 8]}}, "generated [5, 6, 8], but [5, 6, 7] alone"),
        ({"choice": {"token_ids": [5, 6]}}, "generated [5, 6], but"),
        ({"choice": {"finish_reason": "length"}}, "ended with 'length', but 'stop' alone"),
        ({"usage": {"sparsity": {"kept_tokens_per_layer": [30, 49]}}}, "kept [30, 49] tokens"),
        ({"usage": None}, "kept None tokens"),
    ],
    ids=["token", "length", "reason", "kept", "silent"],
)
def test_everything_else_is_said(reference, make_reply, changes, said):
    assert difference(reference, make_reply(**changes)).startswith(said)


def test_what_was_kept_must_be_equal_in_a_tie_too(reference, make_reply):
    reply = make_reply(choice={"token_ids": [5, 8]}, usage={"sparsity": {"kept_tokens_per_layer": [1, 1]}})
    assert difference(reference, reply).startswith("kept [1, 1] tokens")
