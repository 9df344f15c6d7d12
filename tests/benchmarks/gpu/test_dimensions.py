"""Counted bytes and operations, worked by hand."""

import json

import pytest

from benchmarks.gpu.dimensions import MODELS, Dimensions

SMALL = Dimensions(num_layers=2, hidden_size=8, intermediate_size=16, num_heads=4, num_kv_heads=2, vocab_size=10)


def test_small_model_by_hand():
    assert SMALL.head_size == 2
    # q, k, v: (8 + 1) x (8 + 2 x 4); output 8 x 8; three matrices of 8 x 16; two norms of 8.
    assert SMALL.layer_parameters == 144 + 64 + 384 + 16
    # Two layers, the last norm and the output projection, 2 bytes each.
    assert SMALL.weight_bytes == 2 * (2 * 608 + 8 + 80)
    # 2 layers x (key + value) x 2 heads x 2 numbers x 2 bytes.
    assert SMALL.kv_bytes_per_token == 32
    # 3 tokens: 2 operations per weight; 4 keys of a pair of triangles: 2 x 3 x 3 x 8 per layer.
    assert SMALL.prefill_flops(3) == 2 * (2 * 3 * 608 + 2 * 9 * 8)
    # ceil(0.5 x 3) = 2 tokens attend each other.
    assert SMALL.prefill_flops(3, 0.5) == 2 * (2 * 3 * 608 + 2 * 4 * 8)


def test_7b_bound_of_the_target_by_hand():
    """32 requests of 32,768 tokens: 14.1 GB of weights and 60.1 GB of KV, of which a quarter stays."""
    dims = Dimensions.read("qwen2_5_vl_7b")
    assert dims.weight_bytes == 2 * (28 * 233_057_792 + 152_064 * 3584 + 3584) == 14_141_238_272
    assert dims.kv_bytes_per_token == 57_344
    kv_bytes = 32 * 32_768 * dims.kv_bytes_per_token
    speedup = (dims.weight_bytes + kv_bytes) / (dims.weight_bytes + kv_bytes / 4)
    assert speedup == pytest.approx(74.27 / 29.17, abs=2e-3)


def test_3b_by_hand():
    dims = Dimensions.read("qwen2_5_vl_3b")
    assert (dims.head_size, dims.kv_bytes_per_token) == (128, 36_864)
    # (2048 + 1) x 2560 + 2048 x 2048 + 3 x 2048 x 11008 + 2 x 2048
    assert dims.layer_parameters == 77_076_992


@pytest.mark.parametrize("path", sorted(MODELS.iterdir()), ids=lambda path: path.name)
def test_vision_and_text_dimensions_belong_together(path):
    config = json.loads((path / "config.json").read_text())
    assert config["vision_config"]["out_hidden_size"] == config["text_config"]["hidden_size"]
    assert config["tie_word_embeddings"] == config["text_config"]["tie_word_embeddings"]
