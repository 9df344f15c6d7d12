"""Model names that choose `sparsity_p`, read against vLLM's own registry of names."""

import pytest
from vllm.entrypoints.openai.models.protocol import BaseModelPath
from vllm.entrypoints.openai.models.serving import OpenAIModelRegistry, OpenAIServingModels
from vllm.lora.request import LoRARequest

from server.aliases import AliasedModels, ModelAlias, alias_of
from server.errors import RequestRefused
from server.exchange import Exchange, entered
from server.protocol import MAX_VALUE_CHARS
from server.settings import ServerSettings

SETTINGS = ServerSettings(sparsity_p=0.8, min_sparsity_p=0.5, max_sparsity_p=0.95)
SERVED = ("demo", "second", "org/model@p=0.6", "user@host")
ADAPTERS = ("cats", "dogs@p=0.7")


@pytest.fixture
def models() -> AliasedModels:
    """vLLM's object with names, but no engine behind it."""
    serving = object.__new__(OpenAIServingModels)
    serving.base_model_paths = [BaseModelPath(name=name, model_path="/m") for name in SERVED]
    serving.registry = OpenAIModelRegistry(None, serving.base_model_paths)
    serving.lora_requests = {name: LoRARequest(name, number, "/a") for number, name in enumerate(ADAPTERS, 1)}
    serving.__class__ = AliasedModels
    return serving


@pytest.mark.parametrize(
    ("asked", "model", "sparsity_p"),
    [
        ("demo@p=0.9", "demo", 0.9),
        ("second@p=.5", "second", 0.5),
        ("demo@p=9.5e-1", "demo", 0.95),
        ("cats@p=0.9", "cats", 0.9),
        ("user@host@p=0.9", "user@host", 0.9),
        ("org/model@p=0.6@p=0.9", "org/model@p=0.6", 0.9),
        ("dogs@p=0.7@p=0.9", "dogs@p=0.7", 0.9),
    ],
)
def test_a_served_name_with_a_value(models, asked, model, sparsity_p):
    assert alias_of(asked, models, SETTINGS) == ModelAlias(asked, model, sparsity_p)


@pytest.mark.parametrize("name", [*SERVED, *ADAPTERS, None, ""])
def test_what_is_served_under_the_whole_name_comes_first(models, name):
    assert alias_of(name, models, SETTINGS) is None


@pytest.mark.parametrize("name", ["nobody", "nobody@p=0.9", "nobody@p=abc", "@p=0.9", "demo@q=0.9", "demo@P=1"])
def test_an_unknown_name_is_left_to_vllm(models, name):
    assert alias_of(name, models, SETTINGS) is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("abc", r"sparsity_p is 'abc', but must be a number in \(0, 1\]\. Send a number"),
        ("", r"sparsity_p is '', but must be a number"),
        ("0,9", r"sparsity_p is '0,9', but must be a number"),
        ("0", r"sparsity_p is 0\.0, but must be greater than 0 and at most 1\. Send a number"),
        ("1.5", r"sparsity_p is 1\.5, but must be greater than 0"),
        ("nan", r"sparsity_p is nan, but must be greater than 0"),
        ("inf", r"sparsity_p is inf, but must be greater than 0"),
        ("0.49", r"sparsity_p is 0\.49, but this server allows 0\.5 to 0\.95\. Send a number"),
        ("1", r"sparsity_p is 1\.0, but this server allows 0\.5 to 0\.95"),
    ],
)
def test_a_bad_value_is_refused_as_in_the_field(models, text, sentence):
    with pytest.raises(RequestRefused, match=f"^{sentence}") as refused:
        alias_of(f"demo@p={text}", models, SETTINGS)
    assert refused.value.parameter == "model"


@pytest.mark.parametrize("text", ["x" * 10_000, "[" * 10_000, "9" * 10_000], ids=lambda text: text[0])
def test_a_long_value_is_not_repeated(models, text):
    with pytest.raises(RequestRefused) as refused:
        alias_of(f"demo@p={text}", models, SETTINGS)
    assert len(str(refused.value)) < MAX_VALUE_CHARS + 120


def test_responses_answer_with_the_name_that_was_asked_for(models):
    adapter = models.lora_requests["cats"]
    with entered(Exchange(0.9, alias="second@p=0.9")):
        assert models.model_name() == "second@p=0.9"
    with entered(Exchange(0.9, alias="cats@p=0.9")):
        assert models.model_name(adapter) == "cats@p=0.9"
    with entered(Exchange(0.9)):
        assert (models.model_name(), models.model_name(adapter)) == ("demo", "cats")
    assert models.model_name() == "demo"
