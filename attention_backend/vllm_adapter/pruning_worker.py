"""What workers of every platform have in common: start-up checks and one KV cache group per layer."""

from typing import Any

from vllm.config import get_layers_from_vllm_config
from vllm.model_executor.layers.attention import Attention
from vllm.v1.attention.backend import AttentionMetadataBuilder
from vllm.v1.kv_cache_interface import KVCacheConfig, KVCacheSpec

from attention_backend.config import SparsityConfig
from attention_backend.errors import UnsupportedConfiguration
from attention_backend.vllm_adapter.spec import top_p_specs
from attention_backend.vllm_adapter.startup_checks import check_hooks, check_layers, check_vllm_config


class PruningWorker:
    """Mixed into vLLM's worker of a platform.

    Attributes:
        builder_cls: metadata builder that every layer must use.
    """

    builder_cls: type[AttentionMetadataBuilder]

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        check_hooks()
        check_vllm_config(self.vllm_config)

    def get_kv_cache_spec(self) -> dict[str, KVCacheSpec]:
        check_layers(get_layers_from_vllm_config(self.vllm_config, Attention))
        return top_p_specs(super().get_kv_cache_spec())

    def initialize_from_config(self, kv_cache_config: KVCacheConfig) -> None:
        super().initialize_from_config(kv_cache_config)
        for builder in self.metadata_builders():
            if not isinstance(builder, self.builder_cls):
                raise UnsupportedConfiguration(
                    f"A layer uses {type(builder).__name__}, but token pruning needs {self.builder_cls.__name__}. "
                    "Let vLLM load the plugin `winnow` (see VLLM_PLUGINS) and choose no other attention backend."
                )
            if builder.block_size != self.cache_config.block_size:
                raise UnsupportedConfiguration(
                    f"The kernel block size is {builder.block_size} and the manager's {self.cache_config.block_size}, "
                    "but token pruning needs them equal. Set --block-size to the kernel's."
                )

    def metadata_builders(self) -> list[AttentionMetadataBuilder]:
        return [
            group.get_metadata_builder() for layer_groups in self.model_runner.attn_groups for group in layer_groups
        ]

    def winnow_status(self) -> dict[str, Any]:
        """What is live in this worker, for the server's start-up proof (`collective_rpc`)."""
        builders = self.metadata_builders()
        config = SparsityConfig.from_additional_config(self.vllm_config.additional_config)
        return {
            "backend": type(builders[0]).__name__,
            "num_layers": sum(builder.context is not None for builder in builders),
            "selection": config.selection,
            "ranking": config.ranking,
        }
