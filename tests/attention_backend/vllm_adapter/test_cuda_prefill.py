"""The CUDA adapter's steps give what the method says: prefill, decode, mixed batches, preemption."""

import pytest
import torch

from attention_backend.config import SparsityConfig
from attention_backend.ops.attend import attend_selected
from attention_backend.ops.estimate import estimate_importance, probe_positions
from attention_backend.ops.ranking import baseline_score
from attention_backend.ops.select import forced_tokens, select_tokens
from attention_backend.request import unpack_mask
from attention_backend.vllm_adapter.feedback import Kept
from tests.attention_backend.vllm_adapter.cuda_step import (
    BLOCK_SIZE,
    HEAD_SIZE,
    LAYERS_BY_GROUP,
    NUM_HEADS,
    NUM_KV_HEADS,
    SCALE,
    CUDAWorker,
    Sequence,
)

NUM_GENERATED = 6


def sequence(name: str, num_prompt_tokens: int, sparsity_p: float) -> Sequence:
    generator = torch.Generator().manual_seed(num_prompt_tokens)
    num_tokens = num_prompt_tokens + NUM_GENERATED
    rows = [
        tuple(
            torch.randn(num_tokens, heads, HEAD_SIZE, generator=generator) * 1.5
            for heads in (NUM_HEADS, NUM_KV_HEADS, NUM_KV_HEADS)
        )
        for _ in LAYERS_BY_GROUP
    ]
    return Sequence(name, sparsity_p, num_prompt_tokens, rows)


def kept_tokens(request: Sequence, layer: int, config: SparsityConfig) -> torch.Tensor:
    length = request.num_prompt_tokens
    if request.sparsity_p >= 1.0:
        return torch.arange(length)
    query, key, _ = request.rows[layer]
    probes = probe_positions(length, layer, config)
    mass, score = estimate_importance(query[probes], key[:length], probes, SCALE)
    if config.ranking != "attention":
        score = baseline_score(length, layer, config.ranking)
    return select_tokens(mass, score, request.sparsity_p, forced_tokens(length, config))


def expected(request: Sequence, layer: int, num_tokens: int, config: SparsityConfig) -> torch.Tensor:
    """Output of the first tokens, computed at once: the prompt pruned, generated tokens behind it."""
    query, key, value = (rows[:num_tokens] for rows in request.rows[layer])
    kept = kept_tokens(request, layer, config)
    return attend_selected(query, key, value, kept, request.num_prompt_tokens, SCALE, config.selection)


def check(outputs, request: Sequence, config: SparsityConfig) -> None:
    """Rows that were just computed, against the method."""
    for layer, rows in outputs[request.request_id].items():
        wanted = expected(request, layer, request.num_computed, config)[-rows.shape[0] :]
        torch.testing.assert_close(rows, wanted, atol=2e-6, rtol=1e-5, msg=f"{request.request_id} layer {layer}")


@pytest.fixture(params=["zipvl", "keys"])
def config(request):
    return SparsityConfig(selection=request.param, num_recent_probes=8, num_random_probes=8, num_sink_tokens=1)


@pytest.fixture
def worker(monkeypatch, config):
    return CUDAWorker(monkeypatch, config)


def test_sparse_and_dense_requests_from_prompt_to_last_token(worker, config):
    requests = [sequence("a", 37, 0.6), sequence("b", 11, 1.0), sequence("c", 2 * BLOCK_SIZE, 0.8)]
    for state, request in enumerate(requests):
        worker.add(request, state + 2)
    outputs, feedback = worker.step([(request, request.num_prompt_tokens) for request in requests])
    for request in requests:
        check(outputs, request, config)
    kept = {
        request.request_id: [kept_tokens(request, layer, config).numel() for layer in sorted(LAYERS_BY_GROUP)]
        for request in requests
    }
    assert feedback == {"a": Kept(kept["a"]), "c": Kept(kept["c"])}
    assert max(kept["a"]) < 37 - BLOCK_SIZE
    for num_padded in (0, 2, 1, 0, 3, 0):
        outputs, feedback = worker.step([(request, 1) for request in requests], num_padded)
        assert feedback == {}
        for request in requests:
            check(outputs, request, config)


def test_emptied_blocks_are_never_touched_again(worker, config):
    request = sequence("a", 50, 0.5)
    worker.add(request, 0)
    _, feedback = worker.step([(request, 50)])
    for group, layer in enumerate(LAYERS_BY_GROUP):
        kept_blocks = -(-feedback["a"].tokens_per_layer[layer] // BLOCK_SIZE)
        freed = request.blocks[group][kept_blocks : 50 // BLOCK_SIZE]
        assert freed
        worker.kv_caches[group][freed] = float("nan")
    for _ in range(NUM_GENERATED):
        outputs, _ = worker.step([(request, 1)])
        check(outputs, request, config)
    for group, layer in enumerate(LAYERS_BY_GROUP):
        kept_blocks = -(-feedback["a"].tokens_per_layer[layer] // BLOCK_SIZE)
        assert worker.kv_caches[group][request.blocks[group][kept_blocks : 50 // BLOCK_SIZE]].isnan().all()


def test_a_prompt_joins_while_others_decode(worker, config):
    first, second = sequence("a", 30, 0.7), sequence("b", 23, 0.6)
    worker.add(first, 1)
    worker.step([(first, 30)])
    worker.add(second, 0)
    outputs, feedback = worker.step([(first, 1), (second, 23)])
    check(outputs, first, config)
    check(outputs, second, config)
    assert list(feedback) == ["b"]


def test_a_preempted_request_selects_again_what_it_selected(worker, config):
    request = sequence("a", 41, 0.6)
    worker.add(request, 3)
    _, first = worker.step([(request, 41)])
    for _ in range(3):
        worker.step([(request, 1)])
    worker.add(request, 5)
    outputs, again = worker.step([(request, 44)])
    check(outputs, request, config)
    assert again == first
    outputs, _ = worker.step([(request, 1)])
    check(outputs, request, config)


def kept_mask(request: Sequence, config: SparsityConfig) -> torch.Tensor:
    """[num_layers, num_prompt_tokens], bool."""
    mask = torch.zeros(len(LAYERS_BY_GROUP), request.num_prompt_tokens, dtype=torch.bool)
    for layer in LAYERS_BY_GROUP:
        mask[layer, kept_tokens(request, layer, config)] = True
    return mask


def check_mask(kept: Kept, request: Sequence, config: SparsityConfig) -> None:
    mask = torch.from_numpy(unpack_mask(kept.mask, len(LAYERS_BY_GROUP), request.num_prompt_tokens))
    assert torch.equal(mask, kept_mask(request, config))
    assert mask.sum(dim=1).tolist() == kept.tokens_per_layer


def test_requests_that_ask_are_told_which_tokens_were_kept(worker, config):
    """Also when it is computed again after a preemption, with generated tokens behind the prompt."""
    asking, other, dense = sequence("a", 37, 0.6), sequence("b", 23, 0.7), sequence("c", 9, 1.0)
    second = sequence("d", 29, 0.5)
    for state, (request, returns_kept) in enumerate([(dense, True), (asking, True), (other, False), (second, True)]):
        worker.add(request, state, returns_kept)
    prompts = [(request, request.num_prompt_tokens) for request in (dense, asking, other, second)]
    _, feedback = worker.step(prompts)
    assert list(feedback) == ["a", "b", "d"]
    assert feedback["b"].mask is None
    check_mask(feedback["a"], asking, config)
    check_mask(feedback["d"], second, config)
    for _ in range(3):
        worker.step([(asking, 1), (other, 1)])
    worker.add(asking, 5, returns_kept=True)
    _, feedback = worker.step([(other, 1), (asking, 40)])
    check_mask(feedback["a"], asking, config)


@pytest.mark.parametrize("ranking", ["random", "recent"])
def test_a_baseline_ranking_keeps_as_many_tokens_as_attention_and_others(monkeypatch, ranking):
    """The rows of every layer are given here, so k is attention's in all of them."""
    config = SparsityConfig(num_sink_tokens=1, ranking=ranking)
    worker, first, second = CUDAWorker(monkeypatch, config), sequence("a", 37, 0.6), sequence("b", 23, 0.7)
    for state, request in enumerate([first, second]):
        worker.add(request, state, returns_kept=True)
    outputs, feedback = worker.step([(first, 37), (second, 23)])
    attention = SparsityConfig(num_sink_tokens=1)
    for request in (first, second):
        check(outputs, request, config)
        check_mask(feedback[request.request_id], request, config)
        assert kept_mask(request, config).sum(1).tolist() == kept_mask(request, attention).sum(1).tolist()
        assert not torch.equal(kept_mask(request, config), kept_mask(request, attention))


def test_nothing_is_allocated_for_masks_when_nobody_asks(worker):
    request = sequence("a", 37, 0.6)
    worker.add(request, 3, returns_kept=True)
    worker.add(request, 3, returns_kept=False)
    _, feedback = worker.step([(request, 37)])
    assert worker.context.plan.prefills.masks is None
    assert feedback["a"].mask is None


def test_a_dense_request_inherits_nothing_from_the_former_owner_of_its_blocks(worker, config):
    pruned, dense = sequence("a", 33, 0.5), sequence("b", 33, 1.0)
    worker.add(pruned, 0)
    worker.step([(pruned, 33)])
    worker._next_block = 1
    worker.add(dense, 0)
    for count in (33, 1, 1):
        outputs, _ = worker.step([(dense, count)])
        check(outputs, dense, config)


def test_a_prompt_of_one_token_is_dense(worker, config):
    request = sequence("a", 1, 0.5)
    worker.add(request, 0)
    for _ in range(3):
        outputs, feedback = worker.step([(request, 1)])
        assert feedback == {}
        check(outputs, request, config)


def test_steps_that_are_not_planned_read_natural_lengths(worker):
    """Dummy runs and graph captures come past the builders only."""
    worker.context.seq_lens.fill_(-1)
    builder = worker.builders[0]
    seq_lens = torch.tensor([7, 9], dtype=torch.int32)
    common = make_common(seq_lens)
    metadata = builder.build(0, common)
    assert metadata.seq_lens.data_ptr() == worker.context.seq_lens[0].data_ptr()
    assert metadata.seq_lens.tolist() == [7, 9]


def make_common(seq_lens: torch.Tensor):
    from vllm.v1.attention.backend import CommonAttentionMetadata

    query_start_loc = torch.arange(3, dtype=torch.int32)
    return CommonAttentionMetadata(
        query_start_loc=query_start_loc,
        query_start_loc_cpu=query_start_loc,
        seq_lens=seq_lens,
        num_reqs=2,
        num_actual_tokens=2,
        max_query_len=1,
        max_seq_len=9,
        block_table_tensor=torch.zeros(2, 4, dtype=torch.int32),
        slot_mapping=torch.zeros(2, dtype=torch.int64),
    )
