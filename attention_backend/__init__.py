"""Top-p sparse attention for vLLM: keep the prompt tokens that carry the attention mass, free the rest.

Method: ZipVL (arXiv 2410.08584) and ZipR1 / Sparsity Forcing (arXiv 2504.18579).
Importing this package has no side effects and does not import vLLM.
"""

from attention_backend.config import SparsityConfig
from attention_backend.engine_args import engine_args
from attention_backend.errors import InvalidSparsityP, UnsupportedConfiguration, WinnowError
from attention_backend.request import REPORT, RETURN_KEPT, SPARSITY_P, SparsityReport, check_sparsity_p

__all__ = [
    "REPORT",
    "RETURN_KEPT",
    "SPARSITY_P",
    "InvalidSparsityP",
    "SparsityConfig",
    "SparsityReport",
    "UnsupportedConfiguration",
    "WinnowError",
    "check_sparsity_p",
    "engine_args",
]
