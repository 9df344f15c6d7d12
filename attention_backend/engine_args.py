"""The engine arguments that make plain vLLM serve with this backend."""

from typing import Any

from attention_backend.config import CONFIG_KEY, SparsityConfig
from attention_backend.errors import UnsupportedConfiguration

WORKER_CLS = "attention_backend.vllm_adapter.worker.TopPWorker"
SCHEDULER_CLS = "attention_backend.vllm_adapter.scheduler.TopPScheduler"

# A sparse prompt is selected over as a whole, so it must be prefilled in one step.
REQUIRED = {"worker_cls": WORKER_CLS, "scheduler_cls": SCHEDULER_CLS, "enable_chunked_prefill": False}


def engine_args(config: SparsityConfig | None = None, **llm_kwargs: Any) -> dict[str, Any]:
    """Complete the keyword arguments of `vllm.LLM` or `AsyncEngineArgs`.

    Args:
        config: options of the selection; defaults to `SparsityConfig()`.
        llm_kwargs: vLLM's own arguments, passed through.

    Returns:
        The arguments with worker, scheduler and selection set.

    Raises:
        UnsupportedConfiguration: an argument contradicts what pruning needs.
    """
    arguments = dict(llm_kwargs)
    for name, needed in REQUIRED.items():
        given = arguments.setdefault(name, needed)
        if given is None:
            arguments[name] = needed
        elif given != needed:
            raise UnsupportedConfiguration(
                f"{name} is {given!r}, but token pruning needs {needed!r}. Leave {name} out."
            )
    additional_config = dict(arguments.get("additional_config") or {})
    if config is not None or CONFIG_KEY not in additional_config:
        additional_config |= (config or SparsityConfig()).to_additional_config()
    arguments["additional_config"] = additional_config
    return arguments
