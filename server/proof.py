"""The proof that the workers really prune: vLLM logs and swallows the errors of a plugin that fails to load."""

from vllm.engine.protocol import EngineClient

from server.errors import BackendNotLive
from server.settings import ServerSettings


async def prove_backend_is_live(engine: EngineClient, settings: ServerSettings) -> str:
    """Ask every worker which backend runs in it.

    Returns:
        One sentence to show.

    Raises:
        BackendNotLive: a worker lacks the backend in some layer, or selects otherwise than this server says.
    """
    try:
        statuses = await engine.collective_rpc("winnow_status")
    except Exception as error:
        raise BackendNotLive(
            f"The workers do not know `winnow_status` ({type(error).__name__}), but only Winnow's workers prune. "
            "Let vLLM load the plugin `winnow` (see VLLM_PLUGINS) and leave --worker-cls out."
        ) from error
    num_layers = engine.model_config.get_num_layers(engine.vllm_config.parallel_config)
    selection = settings.sparsity.selection
    for rank, status in enumerate(statuses):
        if status["num_layers"] != num_layers or status["selection"] != selection:
            raise BackendNotLive(
                f"Worker {rank} prunes {status['num_layers']} layers with selection {status['selection']}, but the "
                f"model has {num_layers} and the server was started with {selection}. Let vLLM load the plugin "
                "`winnow` (see VLLM_PLUGINS) and choose no other attention backend."
            )
    return f"{statuses[0]['backend']} is live in {num_layers} layers of {len(statuses)} worker(s)."
