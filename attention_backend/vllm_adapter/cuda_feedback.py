"""What the sparse prompts of a step kept, copied from the device to the host behind the step."""

from dataclasses import dataclass

import numpy as np
import torch
from vllm.v1.outputs import AsyncModelRunnerOutput, ModelRunnerOutput

from attention_backend.request import pack_mask
from attention_backend.vllm_adapter.feedback import Feedback, Kept, attach_feedback


@dataclass(frozen=True, slots=True)
class KeptMasks:
    """Which prompt tokens were kept, for the requests of a step that ask.

    Attributes:
        kept: by the step's token index, for all of its tokens up to the last one that is asked for, those of other
            requests included. [num_groups, num_tokens], bool, on the device.
        prompts: where each asked prompt is in the step; None for the others. [n]
    """

    kept: torch.Tensor
    prompts: list[slice | None]

    @classmethod
    def of_prompts(
        cls,
        token_start: np.ndarray,
        num_prompt_tokens: np.ndarray,
        returns_kept: np.ndarray,
        num_groups: int,
        device: torch.device,
    ) -> "KeptMasks | None":
        """Room for the masks of sparse prompts; arrays are [n]. None when nobody asks."""
        if not returns_kept.any():
            return None
        starts, ends = token_start.tolist(), (token_start + num_prompt_tokens).tolist()
        prompts = [
            slice(start, end) if asks else None
            for start, end, asks in zip(starts, ends, returns_kept.tolist(), strict=True)
        ]
        num_tokens = max(prompt.stop for prompt in prompts if prompt is not None)
        return cls(torch.empty(num_groups, num_tokens, dtype=torch.bool, device=device), prompts)

    def record(self, group: int, rank: torch.Tensor) -> None:
        """Note what one layer selected.

        Args:
            group: the layer's KV cache group.
            rank: as `select_tokens_varlen` gives it, [num_step_tokens], int32.
        """
        torch.ge(rank[: self.kept.shape[1]], 0, out=self.kept[group])


class PendingFeedback:
    """Kept counts and masks that are still being copied to the host.

    Args:
        request_ids: of the sparse prompts, [n].
        layers_by_group: index of the decoder layer that each KV cache group holds.
        num_kept: [num_groups, n], int32, on the device.
        masks: of the requests that ask.
    """

    def __init__(
        self,
        request_ids: list[str],
        layers_by_group: tuple[int, ...],
        num_kept: torch.Tensor,
        masks: KeptMasks | None,
    ) -> None:
        self._request_ids = request_ids
        self._groups_by_layer = np.argsort(layers_by_group)
        self._num_kept = num_kept.to("cpu", non_blocking=True)
        self._kept = masks.kept.to("cpu", non_blocking=True) if masks is not None else None
        self._prompts = masks.prompts if masks is not None else [None] * len(request_ids)
        self._copied = torch.cuda.Event()
        self._copied.record()

    def read(self) -> Feedback:
        """Wait for the copy, and sort by layer."""
        self._copied.synchronize()
        by_layer = self._num_kept[self._groups_by_layer].T.tolist()
        return {
            request_id: Kept(num_kept, self._mask(prompt))
            for request_id, num_kept, prompt in zip(self._request_ids, by_layer, self._prompts, strict=True)
        }

    def _mask(self, prompt: slice | None) -> bytes | None:
        return None if prompt is None else pack_mask(self._kept[self._groups_by_layer, prompt].numpy())


class OutputWithFeedback(AsyncModelRunnerOutput):
    """A model output that carries the feedback of its step."""

    def __init__(self, output: AsyncModelRunnerOutput, pending: PendingFeedback) -> None:
        self._output = output
        self._pending = pending

    def get_output(self) -> ModelRunnerOutput:
        output = self._output.get_output()
        attach_feedback(output, self._pending.read())
        return output
