"""Options: vLLM's pass through, ours are read, contradictions stop the start with one sentence."""

import os
import socket
import subprocess
import sys

import pytest

from attention_backend import UnsupportedConfiguration
from server import demo
from server.command_line import parse
from server.main import EXIT_UNSUPPORTED, main
from tests.server.harness import free_port


def test_vllm_options_pass_through_and_ours_are_read():
    command = """
        --model some/model --port 9000 --max-model-len 512 --tensor-parallel-size 2 --sparsity-p 0.9
        --min-sparsity-p 0.5 --max-sparsity-p 0.95 --selection keys --num-random-probes 8 --exact --ranking random
    """
    args, settings = parse(command.split())
    assert (args.model, args.port, args.max_model_len, args.tensor_parallel_size) == ("some/model", 9000, 512, 2)
    assert (settings.sparsity_p, settings.min_sparsity_p, settings.max_sparsity_p) == (0.9, 0.5, 0.95)
    assert (settings.sparsity.selection, settings.sparsity.num_random_probes, settings.sparsity.exact) == (
        "keys", 8, True,
    )  # fmt: skip
    assert args.additional_config["winnow"]["ranking"] == settings.sparsity.ranking == "random"


def test_the_engine_gets_what_pruning_needs():
    args, _ = parse(["--model", "some/model", "--selection", "keys", "--additional-config", '{"mine": 1}'])
    assert args.worker_cls == "attention_backend.vllm_adapter.worker.TopPWorker"
    assert args.scheduler_cls == "attention_backend.vllm_adapter.scheduler.TopPScheduler"
    assert args.enable_chunked_prefill is False
    assert args.additional_config["winnow"]["selection"] == "keys"
    assert args.additional_config["mine"] == 1


@pytest.mark.parametrize(
    ("option", "name", "default", "explicit"),
    [
        ("--host", "host", "127.0.0.1", "0.0.0.0"),
        ("--mm-processor-cache-gb", "mm_processor_cache_gb", 0, 4.0),
        ("--shutdown-timeout", "shutdown_timeout", 20, 0),
    ],
)
def test_our_defaults_and_explicit_options(option, name, default, explicit):
    assert getattr(parse(["--model", "some/model"])[0], name) == default
    assert getattr(parse(["--model", "some/model", option, str(explicit)])[0], name) == explicit


@pytest.mark.parametrize("model", ["demo", "demo-sparse"])
@pytest.mark.parametrize("option", [["--model"], []], ids=["option", "positional"])
def test_a_demo_name_resolves_to_the_bundled_checkpoint(option, model):
    args, _ = parse([*option, model])
    assert args.model == str(demo.checkpoint(model))
    assert args.served_model_name == [model]


def test_explicit_options_win_over_the_demo_ones():
    args, _ = parse(["--model", "demo", "--dtype", "bfloat16", "--max-model-len", "1024", "--no-enforce-eager"])
    assert (args.dtype, args.max_model_len, args.enforce_eager) == ("bfloat16", 1024, False)


def test_the_demos_kv_cache_has_the_size_that_is_asked_for():
    """A variable set for the demo would come before the option, and nobody would notice."""
    assert parse(["--model", "demo"])[0].kv_cache_memory_bytes == 1 << 30
    assert parse(["--model", "demo", "--kv-cache-memory-bytes", "4000000"])[0].kv_cache_memory_bytes == 4_000_000
    assert "VLLM_CPU_KVCACHE_SPACE" not in os.environ


def test_a_folder_named_demo_comes_before_the_bundled_model(tmp_path, monkeypatch):
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)
    assert parse(["--model", "demo"])[0].model == "demo"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--enable-chunked-prefill"], "enable_chunked_prefill is True"),
        (["--worker-cls", "some.Worker"], "worker_cls is 'some.Worker'"),
        (["--scheduler-cls", "some.Scheduler"], "scheduler_cls is 'some.Scheduler'"),
        (["--headless"], "--headless is True"),
        (["--grpc"], "--grpc is True"),
        (["--api-server-count", "2"], "--api-server-count is 2"),
        (["--disable-log-stats", "--otlp-traces-endpoint", "http://here:4317"], "traces are made of these statistics"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_contradicting_options_are_refused(arguments, sentence):
    with pytest.raises(UnsupportedConfiguration, match=sentence):
        parse(["--model", "some/model", *arguments])


def test_names_of_requests_must_not_meet_in_the_engine(monkeypatch):
    monkeypatch.setenv("VLLM_DISABLE_REQUEST_ID_RANDOMIZATION", "1")
    with pytest.raises(UnsupportedConfiguration, match="VLLM_DISABLE_REQUEST_ID_RANDOMIZATION is set"):
        parse(["--model", "some/model"])


@pytest.mark.parametrize(
    ("arguments", "interface"),
    [
        ([], "lo"),
        (["--data-parallel-address", "10.0.0.1"], None),
        (["--distributed-executor-backend", "ray"], None),
    ],
    ids=["alone", "data-parallel", "ray"],
)
def test_workers_of_one_machine_meet_on_loopback(monkeypatch, arguments, interface):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "")
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")
    parse(["--model", "some/model", *arguments])
    assert os.environ.get("GLOO_SOCKET_IFNAME") == interface


def test_the_operators_interface_stays(monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth7")
    parse(["--model", "some/model"])
    assert os.environ["GLOO_SOCKET_IFNAME"] == "eth7"


def test_processes_of_the_engine_send_no_pickles(monkeypatch):
    monkeypatch.setenv("VLLM_ALLOW_INSECURE_SERIALIZATION", "1")
    with pytest.raises(UnsupportedConfiguration, match="VLLM_ALLOW_INSECURE_SERIALIZATION is set"):
        parse(["--model", "some/model"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--pipeline-parallel-size", "2"], "pipeline_parallel_size is 2"),
        (["--disable-hybrid-kv-cache-manager"], "hybrid KV cache manager is disabled"),
        (["--max-num-batched-tokens", "512"], "max_num_batched_tokens (512) is smaller than max_model_len"),
        (["--enable-chunked-prefill"], "Leave enable_chunked_prefill out"),
        (
            ["--speculative-config", '{"method": "ngram", "num_speculative_tokens": 2, "prompt_lookup_max": 3}'],
            "Remove --speculative-config",
        ),
        (
            ["--kv-transfer-config", '{"kv_connector": "ExampleConnector", "kv_role": "kv_both"}'],
            "Remove --kv-transfer-config",
        ),
        (["--model", "/no/such/folder"], "--model is /no/such/folder, but cannot be read"),
        (["--sparsity-p", "2"], "--sparsity-p is 2.0"),
        (["--num-recent-probes", "0"], "num_recent_probes is 0"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_start_up_stops_with_one_sentence(arguments, sentence, capfd):
    assert main(["--model", "demo", "--port", str(free_port()), *arguments]) == EXIT_UNSUPPORTED
    last_line = capfd.readouterr().err.splitlines()[-1]
    assert last_line.startswith("Winnow cannot start: ")
    assert sentence in last_line


def test_a_terminal_sees_no_traceback():
    command = [sys.executable, "-m", "server", "--model", "demo", "--pipeline-parallel-size", "2"]
    stopped = subprocess.run([*command, "--port", str(free_port())], capture_output=True, text=True)
    assert stopped.returncode == EXIT_UNSUPPORTED
    assert "Winnow cannot start: pipeline_parallel_size is 2" in stopped.stderr
    assert "Traceback" not in stopped.stdout + stopped.stderr


def test_a_taken_port_is_named(capfd):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["--model", "demo", "--port", str(port)]) == EXIT_UNSUPPORTED
    assert f"--port is {port}, but this address cannot be bound" in capfd.readouterr().err
