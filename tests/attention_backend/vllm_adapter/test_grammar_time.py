"""Grammars that stall a scheduler are ended, by the real backend's own time; others are left alone."""

import gc
import weakref

import pytest
import torch
import xgrammar
from vllm.sampling_params import SamplingParams, StructuredOutputsParams
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager
from vllm.v1.structured_output.backend_xgrammar import XgrammarGrammar

from attention_backend.vllm_adapter.grammar_time import (
    GRACE_S,
    GRAMMAR_STUCK,
    GRAMMAR_TOO_SLOW,
    TimedGrammar,
    TimedGrammars,
)

VOCABULARY = [chr(number) for number in range(32, 127)] + ["</s>"]
SLOW = {
    "nested-stars": "(" * 200 + "a" + ")*" * 200,
    "nested-counts": "(((((a{1,99}){1,99}){1,99}){1,99}){1,99}){1,99}",
}
FAST = {"text": "[a-z]{1,4000}", "address": r"([0-9]{1,3}\.){3}[0-9]{1,3}", "words": "([a-z]+ ?)+"}


@pytest.fixture(scope="module")
def compiler() -> xgrammar.GrammarCompiler:
    information = xgrammar.TokenizerInfo(VOCABULARY, stop_token_ids=[len(VOCABULARY) - 1])
    return xgrammar.GrammarCompiler(information, max_threads=1, cache_enabled=False)


def answer(compiler, regex: str, text: str) -> tuple[int, TimedGrammar]:
    """How many tokens of a text are accepted, one scheduler step for each."""
    context = compiler.compile_regex(regex)
    plain = XgrammarGrammar(len(VOCABULARY), xgrammar.GrammarMatcher(context), context)
    grammar = TimedGrammar(plain)
    bitmask = xgrammar.allocate_token_bitmask(1, len(VOCABULARY))
    for number, letter in enumerate(text):
        grammar.fill_bitmask(bitmask, 0)
        if not grammar.accept_tokens("request", [VOCABULARY.index(letter)]):
            return number, grammar
    return len(text), grammar


@pytest.mark.parametrize("regex", SLOW.values(), ids=SLOW)
def test_a_grammar_that_grows_slower_is_ended(compiler, regex):
    num_tokens, grammar = answer(compiler, regex, "a" * 2000)
    assert 0 < num_tokens < 2000
    assert grammar.stop_reason == GRAMMAR_TOO_SLOW
    # One step may overshoot, but not by much.
    assert GRACE_S < grammar._spent_s < 10 * GRACE_S


@pytest.mark.parametrize("regex", FAST.values(), ids=FAST)
def test_others_have_all_the_time(compiler, regex):
    text = "192.168.1.1" if "[0-9]" in regex else "abcdefgh" * 125
    num_tokens, grammar = answer(compiler, regex, text)
    assert (num_tokens, grammar.stop_reason) == (len(text), None)


def test_it_says_what_the_grammar_says(compiler):
    _, grammar = answer(compiler, "ab", "a")
    assert grammar.validate_tokens([VOCABULARY.index("b"), VOCABULARY.index("c")]) == [VOCABULARY.index("b")]
    assert grammar.accept_tokens("request", [VOCABULARY.index("b"), len(VOCABULARY) - 1])
    assert grammar.is_terminated()
    grammar.reset()
    assert not grammar.is_terminated()
    bitmask = xgrammar.allocate_token_bitmask(1, len(VOCABULARY))
    grammar.fill_bitmask(bitmask, 0)
    plain = torch.zeros_like(bitmask)
    grammar._grammar.fill_bitmask(plain, 0)
    assert torch.equal(bitmask, plain)


def test_a_token_that_it_rejects_is_called_so(compiler):
    num_tokens, grammar = answer(compiler, "ab", "aa")
    assert (num_tokens, grammar.stop_reason) == (1, GRAMMAR_STUCK)


def request_with(grammar: TimedGrammar) -> Request:
    params = SamplingParams(structured_outputs=StructuredOutputsParams(regex="ab"))
    request = Request(request_id="request", prompt_token_ids=[1], sampling_params=params, pooling_params=None)
    request.structured_output_request.grammar = grammar
    return request


def test_the_request_says_why_it_ended(compiler, monkeypatch):
    """vLLM's bounds of the part that a grammar constrains need a whole configuration; here it is the whole answer."""
    monkeypatch.setattr(StructuredOutputManager, "_get_constraint_bounds", lambda *_, **__: (0, 1))
    manager = TimedGrammars.__new__(TimedGrammars)
    _, grammar = answer(compiler, "ab", "a")
    request = request_with(grammar)
    assert not manager.accept_tokens(request, [VOCABULARY.index("c")])
    assert request.stop_reason == GRAMMAR_STUCK
    _, grammar = answer(compiler, "ab", "a")
    request = request_with(grammar)
    assert manager.accept_tokens(request, [VOCABULARY.index("b")])
    assert request.stop_reason is None


def test_a_request_that_ended_is_gone_at_once(compiler):
    """Not when Python next looks for circles, which an engine with a large heap does rarely."""
    _, grammar = answer(compiler, "ab", "a")
    request = request_with(grammar)
    is_there = weakref.ref(request)
    gc.disable()
    try:
        del grammar, request
        assert is_there() is None
    finally:
        gc.enable()
