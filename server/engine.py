"""The engine's client: every request of every route passes here, and so does every report on its way back."""

import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

from vllm.inputs import EngineInput
from vllm.outputs import RequestOutput
from vllm.renderers.inputs.preprocess import extract_prompt_len
from vllm.sampling_params import SamplingParams
from vllm.v1.engine import EngineCoreOutput
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.output_processor import (
    OutputProcessor,
    OutputProcessorOutput,
    RequestOutputCollector,
    RequestState,
)

from attention_backend import REPORT, SPARSITY_P, SparsityReport
from server.access.callers import settings_of_caller
from server.access.isolation import IsolatedInputs, with_own_prefix_cache
from server.errors import RequestRefused
from server.exchange import ReportSlot, current_exchange
from server.limits.requests import check_prompt_tokens, limited
from server.limits.structures import grammar_checked
from server.metrics import SparsityMetrics
from server.params import with_sparsity_p
from server.protocol import checked
from server.record import current_record
from server.settings import ServerSettings
from server.tracing import add_sparsity_to_traces, finishing
from server.vllm_hooks import become

# An idle engine needs less to leave its devices.
TEARDOWN_S = 10


class SparseAsyncLLM(AsyncLLM):
    """vLLM's client with `sparsity_p` on the way in and reports on the way out.

    Args:
        settings: default, bounds and selection mode.
        args, kwargs: those of `AsyncLLM`.

    Attributes:
        drain: what `shutdown` calls first.
        on_death: what the watchdog calls first.
        is_stopping: whether `shutdown` was called.
    """

    # Of the class, because vLLM also shuts down an engine that failed to start.
    drain: Callable[[float], None] | None = None
    on_death: Callable[[], None] | None = None
    is_stopping = False

    def __init__(self, *args: Any, settings: ServerSettings, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.settings = settings
        self.max_prefill_tokens = self.scheduler_config.max_num_batched_tokens
        become(self.output_processor, ReportingOutputProcessor)
        become(self.input_processor, IsolatedInputs)
        cache = self.vllm_config.cache_config
        self.output_processor.metrics = SparsityMetrics(
            self.model_config.served_model_name,
            num_cache_blocks=cache.num_gpu_blocks,
            num_layers=self.model_config.get_num_layers(self.vllm_config.parallel_config),
            block_size=cache.block_size,
        )
        if self.output_processor.tracing_enabled:
            add_sparsity_to_traces()

    @property
    def last_output_s(self) -> float:
        """When the engine last gave something out, on the monotonic clock."""
        return self.output_processor.last_output_s

    def generate(
        self,
        prompt: Any,
        sampling_params: SamplingParams,
        request_id: str,
        **kwargs: Any,
    ) -> AsyncGenerator[RequestOutput, None]:
        """vLLM's `generate`, which checks the request when called, so before a stream has sent its status.

        Raises:
            RequestRefused: the request cannot run with its `sparsity_p`, or asks for too much.
        """
        sparsity_p = self._sparsity_p_of(sampling_params)
        is_checked = current_exchange() is not None
        sampling_params = limited(sampling_params, self.settings.limits, is_checked=is_checked)
        self.check_prompt(prompt, sparsity_p)
        if sparsity_p < 1.0:
            self._refuse_prompt_logprobs(sampling_params, sparsity_p)
        sampling_params = with_sparsity_p(sampling_params, sparsity_p)
        outputs = super().generate(with_own_prefix_cache(prompt), sampling_params, request_id, **kwargs)
        return outputs if sampling_params.structured_outputs is None else grammar_checked(outputs)

    def _sparsity_p_of(self, sampling_params: SamplingParams) -> float:
        """From the HTTP exchange; other routes of vLLM may name it in `extra_args`, or get the server's default."""
        exchange = current_exchange()
        if exchange is not None:
            return exchange.sparsity_p
        value = (sampling_params.extra_args or {}).get(SPARSITY_P)
        settings = settings_of_caller(self.settings)
        return settings.sparsity_p if value is None else checked(value, settings)

    def check_prompt(self, prompt: EngineInput | AsyncGenerator, sparsity_p: float) -> None:
        """Refuse a prompt that is too long.

        Raises:
            RequestRefused: for the operator, or for its `sparsity_p`.
        """
        limits = self.settings.limits
        if limits.max_prompt_tokens and not isinstance(prompt, AsyncGenerator):
            check_prompt_tokens(extract_prompt_len(self.model_config, prompt), limits)
        if sparsity_p < 1.0:
            self._refuse_partial_prefill(prompt, sparsity_p)

    def _refuse_partial_prefill(self, prompt: EngineInput | AsyncGenerator, sparsity_p: float) -> None:
        """Refuse a sparse prompt that vLLM could not prefill in one step: selection looks at the whole prompt.

        Visual tokens are part of the prompt here, and vLLM's budget for them is never below the one for all tokens.

        Raises:
            RequestRefused: the prompt is too long, or arrives in pieces.
        """
        if isinstance(prompt, AsyncGenerator):
            raise RequestRefused(
                f"sparsity_p is {sparsity_p} and the prompt is a stream, but a sparse prompt must be there as a whole. "
                "Send sparsity_p = 1.",
                param=SPARSITY_P,
            )
        num_prompt_tokens = extract_prompt_len(self.model_config, prompt)
        if num_prompt_tokens > self.max_prefill_tokens:
            raise RequestRefused(
                f"sparsity_p is {sparsity_p} and the prompt has {num_prompt_tokens} tokens, pictures included, but a "
                f"sparse prompt must fit one prefill step of {self.max_prefill_tokens} tokens. Shorten the prompt, "
                "raise --max-num-batched-tokens, or send sparsity_p = 1.",
                param=SPARSITY_P,
            )

    def _refuse_prompt_logprobs(self, sampling_params: SamplingParams, sparsity_p: float) -> None:
        """In zipvl mode the rows that are not selected attend to nothing; their log-probabilities mean nothing."""
        if sampling_params.prompt_logprobs is not None and self.settings.sparsity.selection == "zipvl":
            raise RequestRefused(
                f"prompt_logprobs (or echo with logprobs) is set and sparsity_p is {sparsity_p}, but selection zipvl "
                "computes no attention for unselected prompt tokens. Send sparsity_p = 1, leave prompt_logprobs out, "
                "or start the server with --selection keys.",
                param="prompt_logprobs",
            )

    async def add_request(self, *args: Any, **kwargs: Any) -> RequestOutputCollector:
        collector = await super().add_request(*args, **kwargs)
        exchange, record = current_exchange(), current_record()
        slot = _slot_of(collector)
        if record is not None:
            slot.request_id = record.request_id
        if exchange is not None and exchange.collects_reports:
            exchange.slots.append(slot)
        return collector

    def shutdown(self, timeout: float | None = None) -> None:
        """vLLM's `shutdown`, which its launcher calls on a thread when a signal arrives; requests in flight come first.

        Args:
            timeout: seconds that they have; 0 and None cut them off.
        """
        self.is_stopping = True
        drain, self.drain = self.drain, None
        if drain is not None and timeout:
            drain(timeout)
            timeout = TEARDOWN_S
        super().shutdown(timeout)


class ReportingOutputProcessor(OutputProcessor):
    """vLLM's output processor, which takes the reports off the engine's outputs.

    Here, and not on `RequestOutput`, because vLLM merges outputs when a client is slow and when `n > 1`, and then
    keeps only one report. Taking them off also keeps them out of `kv_transfer_params` of every response.
    """

    metrics: SparsityMetrics
    last_output_s = 0.0

    def process_outputs(
        self, engine_core_outputs: list[EngineCoreOutput], *args: Any, **kwargs: Any
    ) -> OutputProcessorOutput:
        reports: dict[str, tuple[SparsityReport, RequestState]] = {}
        for output in engine_core_outputs:
            report = _take_report(output)
            if report is None:
                continue
            self.metrics.count_dropped_feedback(report.feedback_dropped)
            state = self.request_states.get(output.request_id)
            if state is not None:
                reports[output.request_id] = report, state
                _slot_of(state.queue).report = report
        processed = super().process_outputs(engine_core_outputs, *args, **kwargs)
        self.last_output_s = time.monotonic()
        # A request that may end at a stop string reports with every output; it counts when it is gone.
        for request_id, (report, state) in reports.items():
            if request_id not in self.request_states:
                self.metrics.count_finished(report, _decode_s(state))
        return processed

    def do_tracing(self, engine_core_output: EngineCoreOutput, req_state: RequestState, *args: Any) -> None:
        with finishing(_slot_of(req_state.queue)):
            super().do_tracing(engine_core_output, req_state, *args)


def _take_report(output: EngineCoreOutput) -> SparsityReport | None:
    """Remove our report from an engine output."""
    params = output.kv_transfer_params
    if not params or REPORT not in params:
        return None
    report = SparsityReport.from_dict(params[REPORT])
    output.kv_transfer_params = {name: value for name, value in params.items() if name != REPORT} or None
    return report


def _decode_s(state: RequestState) -> float:
    """Seconds from a request's first token to its last; 0 with `--disable-log-stats`, when vLLM keeps no times."""
    return 0.0 if state.stats is None else state.stats.last_token_ts - state.stats.first_token_ts


def _slot_of(collector: RequestOutputCollector) -> ReportSlot:
    """The slot of a prompt, made by whoever asks first: its outputs may arrive before `add_request` returns."""
    return vars(collector).setdefault("winnow_report_slot", ReportSlot())
