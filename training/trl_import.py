"""TRL's names, imported without its warning that it has not seen our version of vLLM.

It would stand above every run five times over. What rollouts through vLLM need of TRL is guarded by tests.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_version_warning() -> Iterator[None]:
    """TRL may look at the version of vLLM inside."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="TRL currently supports vLLM versions")
        yield


with without_version_warning():
    from trl import GRPOConfig, GRPOTrainer, ModelConfig, TrlParser, get_peft_config
    from trl.generation import vllm_generation
    from trl.generation.vllm_generation import VLLMGeneration
    from trl.trainer import grpo_trainer

__all__ = [
    "GRPOConfig",
    "GRPOTrainer",
    "ModelConfig",
    "TrlParser",
    "VLLMGeneration",
    "get_peft_config",
    "grpo_trainer",
    "vllm_generation",
    "without_version_warning",
]
