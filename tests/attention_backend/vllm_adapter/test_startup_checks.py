"""Every configuration that excludes pruning is named before anything is loaded."""

from types import SimpleNamespace

import pytest
import vllm
from vllm.engine.arg_utils import EngineArgs
from vllm.v1.attention.backends.registry import AttentionBackendEnum

from attention_backend import UnsupportedConfiguration, engine_args
from attention_backend.errors import InvalidSparsityConfig
from attention_backend.vllm_adapter import startup_checks
from attention_backend.vllm_adapter.startup_checks import check_hooks, check_vllm_config
from tests.integration.harness import DEMO_MODEL


def vllm_config(**options):
    defaults = {"model": str(DEMO_MODEL), "max_model_len": 1024, "enforce_eager": True}
    return EngineArgs(**engine_args(**(defaults | options))).create_engine_config()


@pytest.fixture
def config():
    return vllm_config()


def test_default_configuration_passes(config):
    check_vllm_config(config)
    assert config.scheduler_config.max_num_batched_tokens >= 1024


@pytest.mark.parametrize(
    ("section", "setting", "value", "named"),
    [
        ("parallel_config", "pipeline_parallel_size", 2, "pipeline_parallel_size is 2"),
        ("parallel_config", "decode_context_parallel_size", 2, "Context parallelism"),
        ("parallel_config", "prefill_context_parallel_size", 2, "Context parallelism"),
        ("parallel_config", "enable_dbo", True, "Micro-batching"),
        ("scheduler_config", "enable_chunked_prefill", True, "--no-enable-chunked-prefill"),
        ("scheduler_config", "long_prefill_token_threshold", 100, "long_prefill_token_threshold is 100"),
        ("scheduler_config", "max_num_batched_tokens", 512, "max_num_batched_tokens is 512"),
        ("scheduler_config", "disable_hybrid_kv_cache_manager", True, "hybrid KV cache manager"),
        ("cache_config", "block_size", 48, "block size is 48"),
        ("model_config", "is_mm_prefix_lm", True, "both directions"),
        ("model_config", "runner_type", "pooling", "does not generate"),
    ],
)
def test_refused_settings(config, section, setting, value, named):
    setattr(getattr(config, section), setting, value)
    with pytest.raises(UnsupportedConfiguration, match=named):
        check_vllm_config(config)


@pytest.mark.parametrize(
    ("setting", "named"), [("kv_transfer_config", "KV connector"), ("speculative_config", "Speculative decoding")]
)
def test_refused_features(config, setting, named):
    object.__setattr__(config, setting, object())
    with pytest.raises(UnsupportedConfiguration, match=named):
        check_vllm_config(config)


def test_model_runner_v2_is_refused_on_cpu(config, monkeypatch):
    # By attribute: vLLM reads the environment variable once per process.
    monkeypatch.setattr(type(config), "use_v2_model_runner", True)
    with pytest.raises(UnsupportedConfiguration, match="VLLM_USE_V2_MODEL_RUNNER=0"):
        check_vllm_config(config)


@pytest.fixture
def on_cuda(monkeypatch):
    platform = SimpleNamespace(is_cpu=lambda: False, is_cuda=lambda: True)
    monkeypatch.setattr(startup_checks, "current_platform", platform)


def test_model_runner_v1_is_refused_on_cuda(config, on_cuda):
    with pytest.raises(UnsupportedConfiguration, match=r"on CUDA token pruning needs V2\. Remove VLLM_USE_V2"):
        check_vllm_config(config)


def test_another_attention_backend_is_refused_on_cuda(config, on_cuda, monkeypatch):
    monkeypatch.setattr(type(config), "use_v2_model_runner", True)
    check_vllm_config(config)
    config.attention_config.backend = AttentionBackendEnum.FLASHINFER
    with pytest.raises(UnsupportedConfiguration, match=r"FLASHINFER.*Remove --attention-backend"):
        check_vllm_config(config)


def test_unknown_pruning_option_is_refused():
    with pytest.raises(InvalidSparsityConfig, match="probes"):
        check_vllm_config(vllm_config(additional_config={"winnow": {"probes": 3}}))


def test_every_hook_exists_in_the_pinned_vllm():
    check_hooks()


def test_another_vllm_version_is_refused(monkeypatch):
    monkeypatch.setattr(vllm, "__version__", "0.33.0")
    with pytest.raises(UnsupportedConfiguration, match=r"vLLM is 0\.33\.0.*Install vllm==0\.32\.0"):
        check_hooks()


def test_a_missing_hook_is_named(monkeypatch):
    class Scheduler:
        pass

    monkeypatch.setitem(startup_checks.HOOKS, Scheduler, ("update_from_output",))
    with pytest.raises(UnsupportedConfiguration, match=r"Scheduler\.update_from_output"):
        check_hooks()
