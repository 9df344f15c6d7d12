"""Random tensors of one prefill step, as the kernels take them."""

from dataclasses import dataclass

import torch

from attention_backend.config import SparsityConfig
from attention_backend.ops.estimate import probe_positions
from attention_backend.ops.prefill_batch import PrefillBatch

BLOCK_SIZE = 16
# Tokens of a dense request between two prompts: kernels must leave them alone.
GAP_TOKENS = 3
LAYER = 5


@dataclass(frozen=True, slots=True)
class PrefillStep:
    """One layer's inputs in a step that holds sparse prompts.

    Attributes:
        query: [num_tokens, num_heads, head_size], a view of the fused projection, as in vLLM.
        key, value: [num_tokens, num_kv_heads, head_size], likewise.
        batch: the prompts.
        lengths: their tokens, on the host.
        probes: [n, most probes], int32, ascending.
        num_probes: [n], int32.
        block_table: [n, max_blocks], int32; every block belongs to one prompt.
        num_blocks: of the cache; block 0 belongs to nobody.
        scale: softmax scale.
    """

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    batch: PrefillBatch
    lengths: tuple[int, ...]
    probes: torch.Tensor
    num_probes: torch.Tensor
    block_table: torch.Tensor
    num_blocks: int
    scale: float

    def tokens(self, index: int) -> slice:
        """The tokens of one prompt."""
        start = int(self.batch.token_start[index])
        return slice(start, start + self.lengths[index])

    def removals(self) -> torch.Tensor:
        """A table of removals for this cache, [num_blocks, 3], int32."""
        return torch.zeros(self.num_blocks, 3, dtype=torch.int32, device=self.query.device)


def prefill_step(
    lengths: tuple[int, ...],
    sparsity_p: tuple[float, ...],
    num_heads: int,
    num_kv_heads: int,
    head_size: int,
    device: torch.device,
    dtype: torch.dtype = torch.bfloat16,
) -> PrefillStep:
    """Prompts of these lengths with random queries, keys and values, and dense tokens around them."""
    generator = torch.Generator(device).manual_seed(sum(lengths))
    num_tokens = sum(lengths) + GAP_TOKENS * (len(lengths) + 1)
    heads = (num_heads, num_kv_heads, num_kv_heads)
    fused = torch.randn(num_tokens, sum(heads) * head_size, generator=generator, device=device, dtype=dtype)
    query, key, value = (
        part.unflatten(-1, (-1, head_size)) for part in fused.split([n * head_size for n in heads], dim=-1)
    )
    starts = [GAP_TOKENS * (i + 1) + sum(lengths[:i]) for i in range(len(lengths))]
    positions = [probe_positions(length, LAYER, SparsityConfig()) for length in lengths]
    probes = torch.zeros(len(lengths), max(map(len, positions)), dtype=torch.int32)
    for row, position in zip(probes, positions, strict=True):
        row[: len(position)] = position
    max_blocks = max(lengths) // BLOCK_SIZE + 1
    num_blocks = max_blocks * len(lengths) + 1
    blocks = 1 + torch.randperm(num_blocks - 1, generator=torch.Generator().manual_seed(0))

    def tensor(values: list, dtype: torch.dtype) -> torch.Tensor:
        return torch.tensor(values, dtype=dtype, device=device)

    batch = PrefillBatch(
        token_start=tensor(starts, torch.int32),
        num_tokens=tensor(list(lengths), torch.int32),
        num_prompt_tokens=tensor(list(lengths), torch.int32),
        row=torch.arange(len(lengths), dtype=torch.int32, device=device),
        sparsity_p=tensor(list(sparsity_p), torch.float64),
        max_num_tokens=max(lengths),
        max_prompt_tokens=max(lengths),
    )
    return PrefillStep(
        query=query,
        key=key,
        value=value,
        batch=batch,
        lengths=lengths,
        probes=probes.to(device),
        num_probes=tensor([len(position) for position in positions], torch.int32),
        block_table=blocks.view(len(lengths), max_blocks).int().to(device),
        num_blocks=num_blocks,
        scale=head_size**-0.5,
    )
