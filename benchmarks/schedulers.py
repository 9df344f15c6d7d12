"""Schedulers that take decode steps of made-up requests: vLLM's own, and ours with a KV cache group per layer.

The point of a measurement has `num_layers`, `num_requests`, `prompt_tokens`, `block_size`, `steps` and `rounds`.
"""

import argparse
import gc
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from vllm.config import VllmConfig
from vllm.engine.arg_utils import EngineArgs
from vllm.sampling_params import SamplingParams
from vllm.utils.gc_utils import freeze_gc_heap
from vllm.utils.hashing import get_hash_fn_by_name
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager

from attention_backend.engine_args import engine_args
from attention_backend.plugin import register
from attention_backend.request import SPARSITY_P
from attention_backend.vllm_adapter.feedback import Kept, attach_feedback
from attention_backend.vllm_adapter.scheduler import TopPScheduler
from attention_backend.vllm_adapter.spec import TopPSpec
from benchmarks.errors import BenchmarkError

MAX_MODEL_LEN = 4096
TOKEN = 7
# What a request may generate beyond the timed steps.
SPARE_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Variant:
    """A scheduler with its KV cache groups and the requests it gets."""

    name: str
    scheduler_class: type[Scheduler]
    has_group_per_layer: bool
    sparsity_p: float = 1.0


VARIANTS = (
    Variant("vLLM Scheduler, 1 group", Scheduler, False),
    Variant("vLLM AsyncScheduler, 1 group", AsyncScheduler, False),
    Variant("TopPScheduler, dense requests", TopPScheduler, True),
    Variant("TopPScheduler, sparse requests", TopPScheduler, True, sparsity_p=0.9),
)


def time_variants(point: argparse.Namespace, turn_ended: Callable[[], None]) -> dict[str, list[float]]:
    """Milliseconds of every timed step by variant; the variants take turns, `rounds` of each.

    Args:
        point: what all of them are given.
        turn_ended: called after every turn.

    Raises:
        BenchmarkError: requests would be too long.
    """
    if (longest := point.prompt_tokens + point.block_size + point.steps + SPARE_TOKENS) > MAX_MODEL_LEN:
        raise BenchmarkError(
            f"--prompt-tokens and --steps make requests of {longest} tokens, but {MAX_MODEL_LEN} is the most here. "
            "Lower one of them."
        )
    register()
    init_none_hash(get_hash_fn_by_name("sha256"))
    times_ms: dict[str, list[float]] = {variant.name: [] for variant in VARIANTS}
    with tempfile.TemporaryDirectory() as folder:
        _write_model_config(Path(folder), point.num_layers)
        configs = {variant.name: _vllm_config(variant, folder, point) for variant in VARIANTS}
        for variant in [variant for _ in range(point.rounds) for variant in VARIANTS]:
            times_ms[variant.name] += time_steps(_scheduler(variant, configs[variant.name], point), variant, point)
            # `time_steps` froze the scheduler's blocks, which refer to each other.
            gc.unfreeze()
            gc.collect()
            turn_ended()
    return times_ms


def time_steps(scheduler: Scheduler, variant: Variant, point: argparse.Namespace) -> list[float]:
    """Start all requests, then time steps in which each decodes one token. Milliseconds per step."""
    # As vLLM's engine does once it is built: the collector would walk every block of the pool again and again.
    freeze_gc_heap()
    for index in range(point.num_requests):
        scheduler.add_request(_request(index, variant, point))
    _step(scheduler, lambda scheduled: _prefill_output(scheduled, variant, point))
    assert len(scheduler.running) == point.num_requests
    return [_step(scheduler, _output) for _ in range(point.steps)]


def _step(scheduler: Scheduler, model: Callable[[SchedulerOutput], ModelRunnerOutput]) -> float:
    """One step; returns the milliseconds spent in the scheduler."""
    start = time.perf_counter()
    scheduled = scheduler.schedule()
    between = time.perf_counter()
    output = model(scheduled)
    restart = time.perf_counter()
    scheduler.update_from_output(scheduled, output)
    return (time.perf_counter() - restart + between - start) * 1000


def _output(scheduled: SchedulerOutput) -> ModelRunnerOutput:
    """One made-up token for every scheduled request."""
    request_ids = list(scheduled.num_scheduled_tokens)
    return ModelRunnerOutput(
        req_ids=request_ids,
        req_id_to_index={request_id: index for index, request_id in enumerate(request_ids)},
        sampled_token_ids=[[TOKEN] for _ in request_ids],
    )


def _prefill_output(scheduled: SchedulerOutput, variant: Variant, point: argparse.Namespace) -> ModelRunnerOutput:
    """The output of a prefill step; sparse requests report that layers keep 30 to 70 % of their tokens."""
    output = _output(scheduled)
    if variant.sparsity_p < 1.0:
        kept = [point.prompt_tokens * (30 + 40 * layer // point.num_layers) // 100 for layer in range(point.num_layers)]
        attach_feedback(output, {request.req_id: Kept(kept) for request in scheduled.scheduled_new_reqs})
    return output


def _request(index: int, variant: Variant, point: argparse.Namespace) -> Request:
    extra_args = {SPARSITY_P: variant.sparsity_p} if variant.sparsity_p < 1.0 else None
    return Request(
        request_id=f"request-{index}",
        # Prompts differ, so that no prefix is shared; lengths too, so that requests do not all need a block at once.
        prompt_token_ids=[100 + index] * (point.prompt_tokens + index % point.block_size),
        sampling_params=SamplingParams(max_tokens=point.steps + SPARE_TOKENS, ignore_eos=True, extra_args=extra_args),
        pooling_params=None,
        block_hasher=get_request_block_hasher(point.block_size, get_hash_fn_by_name("sha256")),
    )


def _scheduler(variant: Variant, config: VllmConfig, point: argparse.Namespace) -> Scheduler:
    """A scheduler whose block pool holds all requests to their end."""
    shape = {"block_size": point.block_size, "num_kv_heads": 4, "head_size": 128, "dtype": torch.bfloat16}
    names = [f"model.layers.{layer}.self_attn.attn" for layer in range(point.num_layers)]
    if variant.has_group_per_layer:
        groups = [KVCacheGroupSpec([name], TopPSpec(layer=layer, **shape)) for layer, name in enumerate(names)]
    else:
        groups = [KVCacheGroupSpec(names, FullAttentionSpec(**shape))]
    blocks_per_request = (point.prompt_tokens + point.steps + SPARE_TOKENS) // point.block_size + 3
    num_blocks = blocks_per_request * point.num_requests * len(groups) + 1
    config.cache_config.num_gpu_blocks = num_blocks
    return variant.scheduler_class(
        vllm_config=config,
        kv_cache_config=KVCacheConfig(num_blocks=num_blocks, kv_cache_tensors=[], kv_cache_groups=groups),
        structured_output_manager=StructuredOutputManager(config),
        block_size=point.block_size,
        log_stats=True,
    )


def _vllm_config(variant: Variant, model: str, point: argparse.Namespace) -> VllmConfig:
    arguments: dict[str, Any] = {
        "model": model,
        "skip_tokenizer_init": True,
        "max_model_len": MAX_MODEL_LEN,
        # All prompts fit one step, so that no variant splits one.
        "max_num_batched_tokens": max(MAX_MODEL_LEN, point.num_requests * (point.prompt_tokens + point.block_size)),
        "max_num_seqs": point.num_requests,
        "block_size": point.block_size,
        "async_scheduling": variant.scheduler_class is not Scheduler,
    }
    if variant.has_group_per_layer:
        arguments = engine_args(**arguments)
    return EngineArgs(**arguments).create_engine_config()


def _write_model_config(folder: Path, num_layers: int) -> None:
    """A text model of that many layers; only its configuration is ever read."""
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_size": 512,
        "intermediate_size": 512,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "num_hidden_layers": num_layers,
        "vocab_size": 1000,
        "max_position_embeddings": MAX_MODEL_LEN,
        "dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config))
