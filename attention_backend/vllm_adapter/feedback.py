"""What each layer kept, on its way from the worker to the scheduler."""

from dataclasses import dataclass

from vllm.v1.outputs import ModelRunnerOutput


@dataclass(frozen=True, slots=True)
class Kept:
    """What a sparse prefill kept of one prompt.

    Attributes:
        tokens_per_layer: kept prompt tokens by layer.
        mask: which ones, as `SparsityReport.kept_mask`; None unless the request asks.
    """

    tokens_per_layer: list[int]
    mask: bytes | None = None


# By request id.
Feedback = dict[str, Kept]

_ATTRIBUTE = "winnow_feedback"


def attach_feedback(output: ModelRunnerOutput, feedback: Feedback) -> None:
    """Put what this step's sparse prefills kept on the model output.

    An instance attribute: `ModelRunnerOutput` is an ordinary dataclass, and executors pickle it whole.
    """
    setattr(output, _ATTRIBUTE, feedback)


def feedback_of(output: ModelRunnerOutput) -> Feedback:
    """The feedback on a model output; empty where no sparse request was prefilled."""
    return getattr(output, _ATTRIBUTE, {})
