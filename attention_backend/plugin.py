"""The entry point that vLLM's plugin loader calls in every process of an engine."""


def register() -> None:
    """Make the KV cache spec and the attention backend known to vLLM.

    Idempotent. An engine that does not use `TopPWorker` is left exactly as it is: the CPU backend behaves
    as vLLM's own until a worker binds it to a pruning context.
    """
    from attention_backend.vllm_adapter.registration import register_with_vllm

    register_with_vllm()
