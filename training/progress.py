"""The progress bar of training: reward, accuracy, token ratio, KL and the time left on one line."""

from tqdm.auto import tqdm
from transformers import ProgressCallback

SHOWN = {
    "reward": "reward",
    "rewards/{accuracy}/mean": "accuracy",
    "token_ratio": "token ratio",
    "kl": "KL",
}


class SparsityProgress(ProgressCallback):
    """transformers' bar with the figures of the last step behind it instead of a dictionary a line.

    Args:
        accuracy_name: name of the accuracy reward in TRL's logs.
    """

    def __init__(self, accuracy_name: str) -> None:
        super().__init__()
        self._shown = {key.format(accuracy=accuracy_name): name for key, name in SHOWN.items()}

    def on_train_begin(self, args, state, control, **kwargs):
        """Open the bar."""
        super().on_train_begin(args, state, control, **kwargs)
        if self.training_bar is not None:
            self.training_bar.set_description("training")
            self.training_bar.unit = "step"

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Show a training step behind the bar, and an evaluation as a line of its own."""
        if not state.is_world_process_zero or self.training_bar is None or not logs:
            return
        figures = {name: logs[key] for key, name in self._shown.items() if logs.get(key) is not None}
        if figures:
            self.training_bar.set_postfix_str(", ".join(f"{name} {value:.3f}" for name, value in figures.items()))
        held_out = {name: logs[f"eval_{key}"] for key, name in self._shown.items() if f"eval_{key}" in logs}
        if held_out:
            text = ", ".join(f"{name} {value:.3f}" for name, value in held_out.items())
            tqdm.write(f"step {state.global_step}, held out: {text}")
