"""The mean of the weights over the last steps of a training (stochastic weight averaging, arXiv 1803.05407).

At a constant learning rate the weights move around a good place; their mean lies nearer to it than any of them.
"""

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.optim.swa_utils import get_swa_avg_fn
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

FILE_NAME = "weight_average.safetensors"
_COUNT = "num_averaged"


class WeightAverage(TrainerCallback):
    """Averages the trained weights over the last steps and leaves the mean in the model when training ends.

    Checkpoints hold the weights that training goes on with, and the mean so far in a file of its own.

    Args:
        last_share: share of the steps that are averaged, in (0, 1].
    """

    def __init__(self, last_share: float) -> None:
        self._last_share = last_share
        # Name -> mean so far, float32.
        self._mean: dict[str, torch.Tensor] = {}
        self._num_averaged = 0

    def on_step_end(self, args, state, control, model=None, **kwargs):
        """Take the weights of one step in."""
        if state.global_step <= round(state.max_steps * (1.0 - self._last_share)):
            return
        average = get_swa_avg_fn()
        with torch.no_grad():
            for name, weight in _trained(model).items():
                current = weight.float()
                mean = self._mean.get(name)
                self._mean[name] = current.clone() if mean is None else average(mean, current, self._num_averaged)
        self._num_averaged += 1

    def on_save(self, args, state, control, **kwargs):
        """Put the mean so far beside the checkpoint."""
        if not (self._num_averaged and args.should_save):
            return
        path = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}" / FILE_NAME
        save_file(
            {name: mean.contiguous() for name, mean in self._mean.items()}, path, {_COUNT: str(self._num_averaged)}
        )

    def load(self, checkpoint: Path, device: torch.device) -> None:
        """Go on from a checkpoint; one from before the first averaged step has no mean."""
        path = checkpoint / FILE_NAME
        if path.is_file():
            self._mean = load_file(path, device=str(device))
            with safe_open(path, framework="pt") as file:
                self._num_averaged = int(file.metadata()[_COUNT])

    def on_train_end(self, args, state, control, model=None, **kwargs):
        """Leave the mean in the model."""
        with torch.no_grad():
            for name, weight in _trained(model).items():
                if name in self._mean:
                    weight.copy_(self._mean[name])


def _trained(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
