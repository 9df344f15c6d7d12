"""Options of `python -m training.grpo`: ours, and TRL's with the defaults that Sparsity Forcing uses."""

import json
from dataclasses import dataclass, field

from attention_backend.config import SERVED_SELECTIONS, SparsityConfig

from .objective import SCHEDULES, TERMS
from .trl_import import GRPOConfig


class InvalidTrainingOption(ValueError):
    """An option of the training is out of range."""


@dataclass
class SparsityForcingArguments:
    """What is trained, and how sparsity is forced. Raises `InvalidTrainingOption` for values out of range."""

    dataset: str = field(
        default="demo",
        metadata={"help": "'demo' for the generator of the demo task, else a dataset file."},
    )
    dataset_rows: int = field(
        default=100_000, metadata={"help": "Training questions of the demo generator, made when they are needed."}
    )
    dataset_seed: int = field(default=0, metadata={"help": "Seed of the demo generator's training questions."})
    prompts_per_size: int = field(
        default=1,
        metadata={
            "help": "How many training questions of the demo generator in a row have media of one size. Rollouts that "
            "are generated together are padded to the longest prompt: give the number of prompts of a device's batch."
        },
    )
    num_eval_rows: int = field(default=170, metadata={"help": "Held-out questions of the demo generator."})
    sparsity_schedule: str = field(
        default="grid",
        metadata={"help": "sparsity_p of a group's rollouts: 'grid' (evenly spaced) or 'uniform' (drawn)."},
    )
    sparsity_p_min: float = field(default=0.94, metadata={"help": "Smallest sparsity_p of a rollout."})
    sparsity_p_max: float = field(default=0.975, metadata={"help": "Largest sparsity_p of a rollout."})
    eval_sparsity_p: float = field(default=0.975, metadata={"help": "sparsity_p of every rollout in evaluation."})
    selection: str = field(
        default="zipvl",
        metadata={"help": "'zipvl' (selected rows attend selected keys) or 'keys'; must be the server's mode."},
    )
    efficiency_weight: float = field(
        default=1.0, metadata={"help": "Weight of the efficiency reward, 1 - token_ratio, beside the accuracy."}
    )
    collapse_guard: bool = field(
        default=True,
        metadata={
            "help": "No efficiency reward in groups without a correct rollout (the papers' later version; their first "
            "has none)."
        },
    )
    sparsity_term: str = field(
        default="none",
        metadata={
            "help": "Differentiable sparsity term of ours: 'none' (the papers' objective), 'mask' (the kept set as an "
            "action), 'pathwise' (derivative of the token ratio) or 'both'."
        },
    )
    sparsity_term_weight: float = field(default=1.0, metadata={"help": "Weight of the sparsity term in the loss."})
    target_correct_rate: float = field(
        default=0.0,
        metadata={"help": "The pathwise term leaves a group alone whose share of correct rollouts is this or lower."},
    )
    target_width: float = field(
        default=0.05,
        metadata={"help": "How far above the target rate the pathwise term presses in full; less in between."},
    )
    target_token_ratio: float = field(
        default=0.0,
        metadata={
            "help": "The pathwise term holds a group's mean token ratio here: it presses above, and gives tokens back "
            "below."
        },
    )
    token_ratio_width: float = field(
        default=0.05,
        metadata={"help": "How far from the target token ratio the pathwise term acts in full; less in between."},
    )
    distillation_weight: float = field(
        default=0.0,
        metadata={
            "help": "Weight of the divergence KL(dense || sparse) of next-token distributions (ours). It sums over the "
            "whole vocabulary, and holds both models' logits of a batch's completions for that."
        },
    )
    average_last_share: float = field(
        default=0.0,
        metadata={
            "help": "The final weights are the mean over this share of the steps, the last ones (0: the last step's "
            "weights). Made for a constant learning rate."
        },
    )
    freeze_vision: bool = field(
        default=False,
        metadata={"help": "Leave the vision tower as it is; it then runs once for each prompt and step."},
    )
    vllm_engine_args: dict | str | None = field(
        default=None,
        metadata={
            "help": "With use_vllm: further arguments of vLLM's engine for rollouts, as a mapping (JSON on the command "
            'line), such as \'{"dtype": "float32"}\'.'
        },
    )
    save_dtype: str | None = field(
        default=None, metadata={"help": "dtype of the final weights, such as 'bfloat16'; default: that of training."}
    )

    def __post_init__(self) -> None:
        self.vllm_engine_args = self._engine_args()
        self._check_choice("sparsity_schedule", SCHEDULES)
        self._check_choice("sparsity_term", tuple(TERMS))
        self._check_choice("selection", SERVED_SELECTIONS)
        if not 0 <= self.sparsity_p_min <= self.sparsity_p_max <= 1:
            raise InvalidTrainingOption(
                f"sparsity_p_min is {self.sparsity_p_min} and sparsity_p_max is {self.sparsity_p_max}, but they must "
                "lie in [0, 1] and in this order. Give such values."
            )
        self._check_range("eval_sparsity_p", 0.0, 1.0)
        self._check_range("target_correct_rate", 0.0, 1.0)
        self._check_range("target_token_ratio", 0.0, 1.0)
        self._check_range("average_last_share", 0.0, 1.0)
        for name in ("efficiency_weight", "sparsity_term_weight", "distillation_weight"):
            self._check_range(name, 0.0, float("inf"))
        for name in ("dataset_rows", "prompts_per_size", "num_eval_rows"):
            self._check_range(name, 1, float("inf"))
        for name in ("target_width", "token_ratio_width"):
            if getattr(self, name) <= 0:
                raise InvalidTrainingOption(f"{name} is {getattr(self, name)}, but must be above 0. Give 0.05 or so.")

    def _engine_args(self) -> dict:
        """`vllm_engine_args` as a mapping."""
        given = self.vllm_engine_args
        try:
            parsed = json.loads(given) if isinstance(given, str) else given or {}
        except json.JSONDecodeError:
            parsed = None
        if not isinstance(parsed, dict):
            raise InvalidTrainingOption(
                f'vllm_engine_args is {given!r}, but must be a mapping. Give JSON such as {{"dtype": "float32"}}.'
            )
        return parsed

    def _check_choice(self, name: str, choices: tuple[str, ...]) -> None:
        if getattr(self, name) not in choices:
            raise InvalidTrainingOption(
                f"{name} is {getattr(self, name)!r}, but must be one of {', '.join(choices)}. Choose one of these."
            )

    def _check_range(self, name: str, low: float, high: float) -> None:
        if not low <= getattr(self, name) <= high:
            raise InvalidTrainingOption(
                f"{name} is {getattr(self, name)}, but must lie between {low} and {high}. Give such a value."
            )

    def sparsity_config(self) -> SparsityConfig:
        """The selection's options; everything but the mode at the server's defaults."""
        return SparsityConfig(selection=self.selection)


@dataclass
class SparsityForcingConfig(GRPOConfig):
    """TRL's `GRPOConfig` with the papers' loss: per-sequence mean, KL to the dense reference at 0.04."""

    loss_type: str = field(default="grpo", metadata=GRPOConfig.__dataclass_fields__["loss_type"].metadata)
    beta: float = field(default=0.04, metadata=GRPOConfig.__dataclass_fields__["beta"].metadata)
    use_bias_correction_kl: bool = field(
        default=False, metadata=GRPOConfig.__dataclass_fields__["use_bias_correction_kl"].metadata
    )
    shuffle_dataset: bool = field(default=True, metadata=GRPOConfig.__dataclass_fields__["shuffle_dataset"].metadata)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.use_vllm and self.vllm_mode != "colocate":
            raise InvalidTrainingOption(
                f"vllm_mode is {self.vllm_mode!r}, but rollouts need 'colocate': TRL sends a prompt to a server once "
                "for its whole group, where every rollout has a sparsity_p of its own. Set vllm_mode to colocate."
            )
