"""The KV cache spec that gives every layer a block table of its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from vllm.model_executor.models.utils import extract_layer_index
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheSpec, replace_as

from attention_backend.errors import UnsupportedConfiguration


@dataclass(frozen=True, kw_only=True)
class TopPSpec(FullAttentionSpec):
    """Full attention whose layers keep different numbers of tokens.

    The `layer` field makes the specs of two layers differ, so vLLM puts each layer into a KV cache group
    of its own; all groups draw on one block pool.
    """

    layer: int

    @classmethod
    def merge(cls, specs: list[Self]) -> Self:
        """Equal specs only; vLLM takes the AssertionError as "these layers cannot share a group"."""
        if any(spec != specs[0] for spec in specs[1:]):
            raise AssertionError("Layers with Top-p pruning never share a KV cache group.")
        return specs[0]

    def is_uniform_with_collection(self, kv_cache_specs: dict[str, KVCacheSpec]) -> bool:
        """Layers of equal type but different pruning must not be merged into one uniform group."""
        return len(kv_cache_specs) == 1


def top_p_specs(kv_cache_specs: Mapping[str, KVCacheSpec]) -> dict[str, KVCacheSpec]:
    """Turn the model's specs into one group per layer.

    Raises:
        UnsupportedConfiguration: a layer is not plain full attention.
    """
    specs: dict[str, KVCacheSpec] = {}
    for name, spec in kv_cache_specs.items():
        if type(spec) is not FullAttentionSpec or spec.sliding_window is not None or spec.non_causal:
            raise UnsupportedConfiguration(
                f"Layer {name} has a {type(spec).__name__} KV cache, but token pruning needs causal full attention "
                "in every layer. Serve this model with stock vLLM."
            )
        specs[name] = replace_as(spec, TopPSpec, layer=extract_layer_index(name))
    return specs
