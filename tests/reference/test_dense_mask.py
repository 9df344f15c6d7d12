"""The reference itself, against numbers worked by hand and against transformers' own dense attention."""

import math
from itertools import pairwise

import pytest
import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from .dense_mask import Rule, attention_probabilities, select, teacher_forced, visibility

IMAGE_TOKEN, VISION_START = 60, 61


def one_head(*values: float) -> torch.Tensor:
    """[1 head, tokens, head size 1]."""
    return torch.tensor(values).view(1, -1, 1)


# Query 1 everywhere and keys 0, ln 4, ln 5 give the causal probabilities
#   row 0: 1;  row 1: 1/5 4/5;  row 2: 1/10 4/10 5/10
# so the masses are 1.3, 1.2, 0.5 (sum 3) and, seen by 3, 2, 1 probes, the scores 0.4333, 0.6, 0.5.
QUERY = one_head(1.0, 1.0, 1.0)
KEY = one_head(0.0, math.log(4), math.log(5))


def select_three(**rule) -> tuple[list[int], torch.Tensor, torch.Tensor]:
    layer = select(QUERY, KEY, 1.0, 0, Rule(**rule))
    return layer.kept.tolist(), layer.mass, layer.score


def test_mass_and_score_by_hand():
    _, mass, score = select_three(sparsity_p=0.5)
    torch.testing.assert_close(mass, torch.tensor([1.3, 1.2, 0.5]).double())
    torch.testing.assert_close(score, torch.tensor([1.3 / 3, 0.6, 0.5]).double())


@pytest.mark.parametrize(
    ("sparsity_p", "num_recent_tokens", "kept"),
    [
        pytest.param(0.4, 0, [1], id="1.2 of 3 is reached by the largest mass; the best score is kept, not that mass"),
        pytest.param(0.44, 0, [1, 2], id="1.32 of 3 needs two masses; two best scores"),
        pytest.param(0.83, 0, [1, 2], id="2.49 of 3 is just reached by two"),
        pytest.param(0.84, 0, [0, 1, 2], id="2.52 of 3 needs all"),
        pytest.param(0.4, 1, [2], id="the forced token counts in k"),
        pytest.param(0.4, 2, [1, 2], id="more forced tokens than k"),
        pytest.param(0.4, 9, [0, 1, 2], id="more forced tokens than there are"),
        pytest.param(1.0, 0, [0, 1, 2], id="dense"),
    ],
)
def test_kept_set_by_hand(sparsity_p, num_recent_tokens, kept):
    assert select_three(sparsity_p=sparsity_p, num_recent_tokens=num_recent_tokens)[0] == kept


def test_sink_is_kept_first():
    assert select_three(sparsity_p=0.4, num_recent_tokens=0, num_sink_tokens=1)[0] == [0]


def test_one_probe_by_hand():
    kept, mass, score = select_three(sparsity_p=0.9, num_recent_tokens=0, probe_positions=lambda length, layer: [2])
    torch.testing.assert_close(mass, torch.tensor([0.1, 0.4, 0.5]).double())
    torch.testing.assert_close(score, mass)
    assert kept == [1, 2]


def test_lower_position_wins_a_tie():
    # One probe that sees three equal keys: masses and scores 1/3, 1/3, 1/3.
    rule = Rule(0.5, num_recent_tokens=0, probe_positions=lambda *_: [2])
    assert select(QUERY, one_head(0.0, 0.0, 0.0), 1.0, 0, rule).kept.tolist() == [0, 1]


@pytest.mark.parametrize("sparsity_p", [0.6, 0.9, 0.975])
def test_uniform_causal_attention_keeps_x_with_x_one_minus_log_x(sparsity_p):
    """Masses are ln(L / j): the first x L of them hold x (1 - ln x) of the sum."""
    length = 2048
    layer = select(torch.zeros(1, length, 1), torch.zeros(1, length, 1), 1.0, 0, Rule(sparsity_p, num_recent_tokens=0))
    ratio = len(layer.kept) / length
    assert ratio * (1 - math.log(ratio)) == pytest.approx(sparsity_p, abs=2e-3)
    if sparsity_p == 0.975:
        assert ratio == pytest.approx(0.785, abs=2e-3)


@pytest.mark.parametrize(
    ("selection", "kept", "outputs"),
    [
        # Rows 0 to 2 are the prompt, row 3 (key 0) is generated; values 1, 10, 100, 1000.
        pytest.param("zipvl", [1, 2], [0, 10, 60, (40 + 500 + 1000) / 10], id="zipvl"),
        pytest.param("keys", [1, 2], [0, 10, 60, (40 + 500 + 1000) / 10], id="keys, nothing to see for row 0"),
        pytest.param("zipvl", [0, 2], [1, 0, 501 / 6, (1 + 500 + 1000) / 7], id="zipvl, row 1 unselected"),
        pytest.param("keys", [0, 2], [1, 1, 501 / 6, (1 + 500 + 1000) / 7], id="keys, row 1 sees token 0"),
    ],
)
def test_outputs_by_hand(selection, kept, outputs):
    query, key = one_head(1.0, 1.0, 1.0, 1.0), one_head(0.0, math.log(4), math.log(5), 0.0)
    visible = visibility(4, 3, torch.tensor(kept), selection)
    output = attention_probabilities(query, key, visible, 1.0) @ one_head(1.0, 10.0, 100.0, 1000.0)
    torch.testing.assert_close(output.flatten(), torch.tensor(outputs, dtype=torch.float32))


def test_unknown_selection_is_refused():
    with pytest.raises(ValueError, match="'rows'"):
        visibility(4, 3, torch.tensor([0]), "rows")


@pytest.fixture(scope="module")
def model() -> Qwen2_5_VLForConditionalGeneration:
    """A random Qwen2.5-VL with wide weights, so that attention is far from uniform."""
    torch.manual_seed(0)
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": 64, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 3,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
            "rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "mrope_section": [2, 3, 3]},
            "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1,
        },
        vision_config={
            "depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "patch_size": 14,
            "out_hidden_size": 64, "window_size": 112, "fullatt_block_indexes": [0],
        },
        image_token_id=IMAGE_TOKEN, video_token_id=62, vision_start_token_id=VISION_START, vision_end_token_id=63,
    )  # fmt: skip
    model = Qwen2_5_VLForConditionalGeneration(config).eval().float()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "q_proj" in name or "k_proj" in name:
                weight.normal_(0, 0.4)
    return model


def text_prompt() -> tuple[list[int], dict]:
    return torch.randint(2, 60, (70,), generator=torch.Generator().manual_seed(1)).tolist(), {}


def image_prompt() -> tuple[list[int], dict]:
    tokens = [5, 6, VISION_START, *[IMAGE_TOKEN] * 16, 63, *range(10, 40)]
    media = {
        "pixel_values": torch.randn(64, 3 * 2 * 14 * 14, generator=torch.Generator().manual_seed(2)),
        "image_grid_thw": torch.tensor([[1, 8, 8]]),
        "mm_token_type_ids": torch.tensor([[int(token == IMAGE_TOKEN) for token in tokens]]),
    }
    return tokens, media


prompts = pytest.mark.parametrize("prompt", [text_prompt, image_prompt], ids=["text", "image"])
CONTINUATION = [7, 8, 9, 10, 11]


@prompts
@pytest.mark.parametrize("selection", ["zipvl", "keys"])
def test_p_1_equals_the_dense_model(model, prompt, selection):
    tokens, media = prompt()
    run = teacher_forced(model, tokens, CONTINUATION, Rule(1.0, selection), **media)
    ids = torch.tensor([tokens + CONTINUATION])
    if media:
        types = media["mm_token_type_ids"]
        media["mm_token_type_ids"] = torch.cat([types, types.new_zeros(1, len(CONTINUATION))], dim=1)
    with torch.inference_mode():
        logprobs = model(input_ids=ids, use_cache=False, **media).logits[0, len(tokens) - 1 : -1].log_softmax(-1)
    expected = logprobs.gather(1, torch.tensor(CONTINUATION)[:, None])[:, 0]
    torch.testing.assert_close(run.logprobs, expected, atol=2e-5, rtol=0)
    assert run.kept_tokens_per_layer == [len(tokens)] * 3


@prompts
@pytest.mark.parametrize("selection", ["zipvl", "keys"])
def test_kept_set_grows_with_p_and_holds_the_forced_tokens_and_the_mass(model, prompt, selection):
    tokens, media = prompt()
    # Later layers read what earlier ones wrote, so only the first layer's sets are nested.
    sets = []
    for sparsity_p in (0.3, 0.6, 0.9, 1.0):
        layer = teacher_forced(model, tokens, CONTINUATION, Rule(sparsity_p, selection), **dict(media)).layers[0]
        sets.append(set(layer.kept.tolist()))
        largest = layer.mass.sort(descending=True).values
        assert float(largest[: len(layer.kept)].sum() / largest.sum()) >= sparsity_p - 1e-9
        assert set(range(len(tokens) - 4, len(tokens))) <= sets[-1]
    assert all(smaller < larger for smaller, larger in pairwise(sets))


def test_pruning_changes_the_answer_and_the_two_modes_differ(model):
    tokens, media = image_prompt()
    dense, zipvl, keys = (
        teacher_forced(model, tokens, CONTINUATION, Rule(sparsity_p, selection), **dict(media)).logprobs
        for sparsity_p, selection in ((1.0, "keys"), (0.5, "zipvl"), (0.5, "keys"))
    )
    assert (dense - zipvl).abs().max() > 1e-3
    assert (dense - keys).abs().max() > 1e-3
    assert (zipvl - keys).abs().max() > 1e-3


def test_later_tokens_do_not_change_earlier_ones(model):
    tokens, media = image_prompt()
    rule = Rule(0.7)
    long = teacher_forced(model, tokens, CONTINUATION, rule, **dict(media)).logprobs
    short = teacher_forced(model, tokens, CONTINUATION[:2], rule, **dict(media)).logprobs
    torch.testing.assert_close(long[:2], short, atol=1e-5, rtol=0)


def test_given_kept_sets_are_used_as_they_are(model):
    tokens, media = text_prompt()
    chosen = teacher_forced(model, tokens, CONTINUATION, Rule(0.8), **media)
    kept = [layer.kept.tolist() for layer in chosen.layers]
    replay = teacher_forced(model, tokens, CONTINUATION, Rule(0.8, kept=kept), **media)
    torch.testing.assert_close(replay.logprobs, chosen.logprobs, atol=0, rtol=0)


def test_margin_is_the_distance_to_another_kept_set():
    # Masses .1, .4, .5 of one probe: two largest cover .9, one covers .5; scores .5 and .4 are kept, .1 is left.
    rule = Rule(0.8, num_recent_tokens=0, probe_positions=lambda *_: [2])
    assert select(QUERY, KEY, 1.0, 0, rule).margin(rule) == pytest.approx(0.1)
