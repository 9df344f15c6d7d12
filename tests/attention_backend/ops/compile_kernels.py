"""Compiles every kernel ahead of time for real GPUs, on a machine that needs none, and reports what each one takes.

Run as a program without TRITON_INTERPRET (`test_kernels_compile.py` does). Each entry of `AOT_SPECS` calls a public
launcher with tensors of PyTorch's meta device: what the launcher starts is recorded instead of started, and compiled
with the argument types, constants and options of that very launch. A meta tensor has no values, so a launcher that
waits for the device (`.item()`, `.cpu()`, sizes that depend on data) fails here too.

    python -m tests.attention_backend.ops.compile_kernels [NAME ...]

prints one JSON line per kernel and target: registers a thread, bytes of shared memory a program, bytes a thread spills.
"""

import inspect
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia import __file__ as nvidia_backend
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from attention_backend.config import Ranking
from attention_backend.ops.attend.kernel import (
    attend_keys,
    choose_tiles,
    pack_positions,
    pack_rows,
    stored_offsets,
    unpack_rows,
)
from attention_backend.ops.compact.kernel import compact_slots_varlen
from attention_backend.ops.estimate.kernel import estimate_importance_varlen
from attention_backend.ops.prefill_batch import PrefillBatch
from attention_backend.ops.ranking.kernel import write_baseline_scores
from attention_backend.ops.select.kernel import select_tokens_varlen
from attention_backend.ops.virtualise.kernel import virtualise_step

# Compute capabilities: A100, H100 and H200, B200.
CAPABILITIES = (80, 90, 100)
_CUOBJDUMP = Path(nvidia_backend).parent / "bin" / "cuobjdump"
_TYPES = {
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
    torch.float32: "fp32",
    torch.float64: "fp64",
    torch.bool: "i1",
    torch.int32: "i32",
    torch.int64: "i64",
    torch.uint64: "u64",
}


@dataclass(frozen=True, slots=True)
class AotSpec:
    """One call of a public launcher with real dimensions; every kernel that it starts is compiled.

    A launcher whose tiles depend on the GPU has a specification per capability, all of one name.
    """

    name: str
    launch: Callable[[], object]
    capabilities: tuple[int, ...] = CAPABILITIES


@dataclass(frozen=True, slots=True)
class Launch:
    """One recorded start of a kernel."""

    kernel: JITFunction
    arguments: dict[str, Any]
    options: dict[str, int]


@dataclass(frozen=True, slots=True)
class Usage:
    """What one compiled kernel takes on one target."""

    spec: str
    kernel: str
    capability: int
    num_warps: int
    registers: int
    shared_bytes: int
    spill_bytes: int


@dataclass(frozen=True, slots=True)
class Model:
    """Attention dimensions of one layer of a served model."""

    num_heads: int
    num_kv_heads: int
    head_size: int


MODEL_7B = Model(num_heads=28, num_kv_heads=4, head_size=128)
MODEL_3B = Model(num_heads=16, num_kv_heads=2, head_size=128)


def meta(*shape: int, dtype: torch.dtype = torch.int32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def meta_batch(num_tokens: int, num_prompts: int = 1) -> PrefillBatch:
    """A batch of prompts of `num_tokens` tokens, without values."""
    return PrefillBatch(
        token_start=meta(num_prompts),
        num_tokens=meta(num_prompts),
        num_prompt_tokens=meta(num_prompts),
        row=meta(num_prompts),
        sparsity_p=meta(num_prompts, dtype=torch.float64),
        max_num_tokens=num_tokens,
        max_prompt_tokens=num_tokens,
    )


def meta_qkv(model: Model, num_tokens: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Query, key and value as slices of one projection's output, as vLLM hands them over."""
    sizes = [model.num_heads * model.head_size, *[model.num_kv_heads * model.head_size] * 2]
    parts = meta(num_tokens, sum(sizes), dtype=torch.bfloat16).split(sizes, dim=-1)
    query, key, value = (part.unflatten(-1, (-1, model.head_size)) for part in parts)
    return query, key, value


def estimate(model: Model, num_tokens: int, num_probes: int = 128) -> None:
    query, key, _ = meta_qkv(model, num_tokens)
    estimate_importance_varlen(query, key, meta_batch(num_tokens), meta(1, num_probes), meta(1), scale=0.1)


def select(num_tokens: int, fixed_token_ratio: float | None = None) -> None:
    importance = meta(2, num_tokens, dtype=torch.float32)
    select_tokens_varlen(importance, meta_batch(num_tokens), 0, 4, fixed_token_ratio)


def rank_by_baseline(num_tokens: int, ranking: Ranking) -> None:
    write_baseline_scores(meta(2, num_tokens, dtype=torch.float32), meta_batch(num_tokens), 3, ranking)


def pack(model: Model, num_tokens: int) -> None:
    """Every copying kernel: query and key are strided, the output is contiguous."""
    query, key, _ = meta_qkv(model, num_tokens)
    batch, rank = meta_batch(num_tokens), meta(num_tokens)
    offsets = stored_offsets(meta(1), batch)
    packed = pack_rows(query, rank, batch, offsets)
    pack_rows(key, rank, batch, offsets)
    pack_positions(rank, batch, offsets)
    unpack_rows(packed, rank, batch, offsets, torch.empty_like(packed))


def attend(model: Model, num_tokens: int, capability: int) -> None:
    query, key, value = meta_qkv(model, num_tokens)
    batch, rank = meta_batch(num_tokens), meta(num_tokens)
    offsets = stored_offsets(meta(1), batch)
    packed_key, packed_value = (torch.empty_like(rows, memory_format=torch.contiguous_format) for rows in (key, value))
    tiles = choose_tiles(query.dtype, divmod(capability, 10))
    out = torch.empty_like(query, memory_format=torch.contiguous_format)
    attend_keys(query, packed_key, packed_value, rank, batch, offsets, 0.1, out, tiles)


def compact(num_tokens: int, num_reqs: int = 1024, max_num_blocks: int = 8192) -> None:
    block_table, removals = meta(num_reqs, max_num_blocks), meta(1 << 20, 3)
    compact_slots_varlen(meta(num_tokens), meta(1), meta_batch(num_tokens), block_table, 16, removals)


def virtualise(num_groups: int, num_tokens: int, num_reqs: int = 1024, max_num_blocks: int = 8192) -> None:
    virtualise_step(
        idx_mapping=meta(num_reqs, dtype=torch.int64),
        query_start_loc=meta(num_reqs + 1),
        positions=meta(num_tokens, dtype=torch.int64),
        is_sparse_by_state=meta(num_reqs, dtype=torch.int32),
        src_block_table_ptrs=meta(num_groups, dtype=torch.uint64),
        dst_block_table_ptrs=meta(num_groups, dtype=torch.uint64),
        block_table_strides=meta(num_groups, dtype=torch.int64),
        slot_mappings=meta(num_groups, num_tokens, dtype=torch.int64),
        seq_lens=meta(num_reqs),
        removals=meta(1 << 20, 3),
        virtual_seq_lens=meta(num_groups, num_reqs),
        block_size=16,
        num_reqs=num_reqs,
    )


AOT_SPECS: list[AotSpec] = [
    AotSpec("estimate 7B 32k", partial(estimate, MODEL_7B, 32768)),
    AotSpec("estimate 7B 128k, every row a probe", partial(estimate, MODEL_7B, 131072, 131072)),
    AotSpec("estimate 3B 32k", partial(estimate, MODEL_3B, 32768)),
    AotSpec("select 32k", partial(select, 32768)),
    AotSpec("select 1k", partial(select, 1024)),
    AotSpec("select 32k fixed ratio", partial(select, 32768, 0.3)),
    AotSpec("random ranking 32k", partial(rank_by_baseline, 32768, "random")),
    AotSpec("recent ranking 32k", partial(rank_by_baseline, 32768, "recent")),
    AotSpec("pack 7B", partial(pack, MODEL_7B, 32768)),
    AotSpec("pack 3B", partial(pack, MODEL_3B, 32768)),
    *[AotSpec("attend 7B", partial(attend, MODEL_7B, 32768, capability), (capability,)) for capability in CAPABILITIES],
    *[AotSpec("attend 3B", partial(attend, MODEL_3B, 32768, capability), (capability,)) for capability in CAPABILITIES],
    AotSpec("compact", partial(compact, 32768)),
    AotSpec("virtualise 7B", partial(virtualise, 28, 32768)),
    AotSpec("virtualise 3B", partial(virtualise, 36, 32768)),
]


@contextmanager
def recorded_launches() -> Iterator[list[Launch]]:
    """Within it, kernels are recorded instead of started."""
    launches: list[Launch] = []
    run = JITFunction.run

    def record(kernel: JITFunction, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        options = {name: kwargs.pop(name) for name in ("num_warps", "num_stages") if name in kwargs}
        bound = inspect.signature(kernel.fn).bind(*args, **kwargs)
        bound.apply_defaults()
        launches.append(Launch(kernel, dict(bound.arguments), options))

    JITFunction.run = record
    try:
        yield launches
    finally:
        JITFunction.run = run


def specialise(launch: Launch) -> ASTSource:
    """Types, constants and alignment as Triton derives them from the arguments of a launch."""
    signature, constants, attributes = {}, {}, {}
    for index, parameter in enumerate(launch.kernel.params):
        value = launch.arguments[parameter.name]
        is_int = isinstance(value, int) and not isinstance(value, bool)
        if parameter.is_constexpr or value is None or (is_int and value == 1 and not parameter.do_not_specialize):
            signature[parameter.name] = "constexpr"
            constants[parameter.name] = value
        elif isinstance(value, torch.Tensor):
            signature[parameter.name] = "*" + _TYPES[value.dtype]
            attributes[(index,)] = [["tt.divisibility", 16]]
        elif is_int:
            signature[parameter.name] = "i32" if -(2**31) <= value < 2**31 else "i64"
            if value % 16 == 0 and not parameter.do_not_specialize:
                attributes[(index,)] = [["tt.divisibility", 16]]
        elif isinstance(value, float):
            signature[parameter.name] = "fp32"
        else:
            raise TypeError(f"{launch.kernel.fn.__name__}: {parameter.name} is {value!r}, which no rule here covers.")
    return ASTSource(launch.kernel, signature, constants, attributes)


def resource_usage(cubin: bytes) -> dict[str, int]:
    """Registers and stack as the machine code declares them; Triton's only use of a stack is spilling."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(_CUOBJDUMP), "-res-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name: int(value) for name, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", text)}


def compile_launch(spec: AotSpec, launch: Launch, capability: int) -> Usage:
    target = GPUTarget("cuda", capability, 32)
    compiled = triton.compile(specialise(launch), target=target, options=launch.options)
    usage = resource_usage(compiled.asm["cubin"])
    return Usage(
        spec=spec.name,
        kernel=launch.kernel.fn.__name__,
        capability=capability,
        num_warps=compiled.metadata.num_warps,
        registers=usage["REG"],
        shared_bytes=compiled.metadata.shared,
        spill_bytes=usage["STACK"] + usage["LOCAL"],
    )


def main(names: list[str]) -> None:
    for spec in AOT_SPECS:
        if names and spec.name not in names:
            continue
        with recorded_launches() as launches:
            spec.launch()
        assert launches, f"{spec.name} starts no kernel"
        for launch in launches:
            for capability in spec.capabilities:
                print(json.dumps(asdict(compile_launch(spec, launch, capability))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
