"""TRL's names, imported without its warning that it has not seen our version of vLLM.

The warning is about rollouts through TRL's own use of vLLM, and would stand above every run five times over.
"""

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="TRL currently supports vLLM versions")
    from trl import GRPOConfig, GRPOTrainer, ModelConfig, TrlParser, get_peft_config

__all__ = ["GRPOConfig", "GRPOTrainer", "ModelConfig", "TrlParser", "get_peft_config"]
