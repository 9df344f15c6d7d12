"""The proof that the workers really prune: vLLM logs and swallows the errors of a plugin that fails to load."""

from importlib.metadata import entry_points

import vllm.envs as envs
from vllm.engine.protocol import EngineClient
from vllm.plugins import DEFAULT_PLUGINS_GROUP

from server.errors import BackendNotLive
from server.settings import ServerSettings

PLUGIN = "winnow"


def check_plugin_loads() -> None:
    """Find out before the engine starts what would only fail inside its processes.

    Raises:
        BackendNotLive: the plugin is not installed, not allowed, or does not import.
    """
    plugins = entry_points(group=DEFAULT_PLUGINS_GROUP, name=PLUGIN)
    if not plugins:
        raise BackendNotLive(
            f"The plugin `{PLUGIN}` is not installed, but vLLM's processes find the backend through it. "
            "Run `pip install -e .` in the repository, or `make serve`."
        )
    if envs.VLLM_PLUGINS is not None and PLUGIN not in envs.VLLM_PLUGINS:
        raise BackendNotLive(
            f"VLLM_PLUGINS is {','.join(envs.VLLM_PLUGINS)!r}, but must name `{PLUGIN}`. Add it, or unset the variable."
        )
    try:
        for plugin in plugins:
            plugin.load()
    except Exception as error:
        raise BackendNotLive(
            f"The plugin `{PLUGIN}` does not load ({type(error).__name__}: {error}), but vLLM's processes find the "
            "backend through it. Install this package again."
        ) from error


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
    sparsity = settings.sparsity
    expected = {"num_layers": num_layers, "selection": sparsity.selection, "ranking": sparsity.ranking}
    for rank, status in enumerate(statuses):
        if any(status[name] != value for name, value in expected.items()):
            raise BackendNotLive(
                f"Worker {rank} prunes {status['num_layers']} layers with selection {status['selection']} and ranking "
                f"{status['ranking']}, but the model has {num_layers} and the server was started with "
                f"{sparsity.selection} and {sparsity.ranking}. Let vLLM load the plugin `winnow` (see VLLM_PLUGINS) "
                "and choose no other attention backend."
            )
    return f"{statuses[0]['backend']} is live in {num_layers} layers of {len(statuses)} worker(s)."
