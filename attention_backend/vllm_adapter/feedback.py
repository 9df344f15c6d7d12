"""How many tokens each layer kept, on its way from the worker to the scheduler."""

from vllm.v1.outputs import ModelRunnerOutput

# {request id: kept prompt tokens by layer}
Feedback = dict[str, list[int]]

_ATTRIBUTE = "winnow_feedback"


def attach_feedback(output: ModelRunnerOutput, feedback: Feedback) -> None:
    """Put the counts of this step's sparse prefills on the model output.

    An instance attribute: `ModelRunnerOutput` is an ordinary dataclass, and executors pickle it whole.
    """
    setattr(output, _ATTRIBUTE, feedback)


def feedback_of(output: ModelRunnerOutput) -> Feedback:
    """The counts on a model output; empty where no sparse request was prefilled."""
    return getattr(output, _ATTRIBUTE, {})
