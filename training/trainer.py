"""Sparsity Forcing on TRL's GRPOTrainer: every rollout has its own `sparsity_p`, and its kept masks are replayed.

TRL is composed, not copied: each override below does one thing and calls TRL's. TRL's methods are private, so
`trl==1.16.*` is pinned and a test guards the signatures.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate.utils import is_peft_model

from .arguments import InvalidTrainingOption, SparsityForcingArguments, SparsityForcingConfig
from .objective import TERMS, SparsityTerm, collapse_guard, ease, group_mean, rollout_sparsity_p
from .rollout_requests import rollout_requests, with_frames
from .row_media import (
    RowMedia,
    VisionFeatures,
    batch_fields,
    batch_token_types,
    fill_placeholders,
    process_prompt,
    prompt_key,
    with_features,
)
from .self_distillation import distillation_loss, last_hidden_states
from .sparse_attention import SparseAttention, SparseRows
from .trl_import import GRPOTrainer
from .vllm_rollout import vllm_backend
from .weight_average import WeightAverage

MEDIA_COLUMNS = ("images", "videos", "video_fps")
CORRECT_ABOVE = 0.5
"""An answer counts as correct when its accuracy reward is above this; binary rewards are 0 and 1."""


def efficiency(token_ratio: list[float], **columns) -> list[float]:
    """The efficiency reward, 1 - token_ratio."""
    return [1.0 - ratio for ratio in token_ratio]


@dataclass(slots=True)
class Rollouts:
    """What the rows of a batch need in every forward pass, in the order of its rows."""

    media: list[RowMedia]
    sparse: SparseRows


class SparsityForcingTrainer(GRPOTrainer):
    """GRPO whose policy is the model with Top-p sparse attention, and whose reference is the dense one.

    Args:
        model: a vision-language model or its name.
        accuracy: reward function of the answer, with TRL's signature.
        sparsity: our options.
        args: TRL's options.
        trl: what else `GRPOTrainer` takes.
    """

    def __init__(
        self,
        model,
        accuracy: Callable[..., list[float | None]],
        sparsity: SparsityForcingArguments,
        args: SparsityForcingConfig,
        **trl,
    ) -> None:
        self.sparsity = sparsity
        if args.reward_weights is None:
            args.reward_weights = [1.0, sparsity.efficiency_weight]
        with vllm_backend(sparsity):
            super().__init__(model=model, reward_funcs=[accuracy, efficiency], args=args, **trl)
        policy = self._policy()
        self._attention = SparseAttention(policy, sparsity.sparsity_config())
        self._features = VisionFeatures(policy)
        self._vision_is_frozen = not any(p.requires_grad for p in policy.base_model.visual.parameters())
        self._num_layers = policy.config.get_text_config().num_hidden_layers
        self._rollouts: Rollouts | None = None
        self._pressure: torch.Tensor | None = None
        self._mask_pressure: torch.Tensor | None = None
        # Of the reference? -> what its output head reads before each completion token, [B, num_tokens, hidden_size].
        self._hidden_states: dict[bool, torch.Tensor] = {}
        for name in ("average_last_share", "distillation_weight"):
            self._check_whole_weights(name)
        self._check_reference()
        self._average = WeightAverage(sparsity.average_last_share) if sparsity.average_last_share else None
        if self._average is not None:
            self.add_callback(self._average)

    def _check_whole_weights(self, name: str) -> None:
        if (value := getattr(self.sparsity, name)) and (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            raise InvalidTrainingOption(
                f"{name} is {value}, but must be 0 with FSDP and DeepSpeed, whose ranks hold parts of the weights. "
                "Leave it out."
            )

    def _check_reference(self) -> None:
        weight = self.sparsity.distillation_weight
        if weight and self.beta == 0.0:
            raise InvalidTrainingOption(
                f"distillation_weight is {weight} and beta is 0, but without beta there is no dense reference. "
                "Set beta to a small number such as 0.04."
            )

    def _policy(self):
        """The transformers model without wrappers."""
        model = self.accelerator.unwrap_model(self.model)
        return model.get_base_model() if is_peft_model(model) else model

    @property
    def _mode(self) -> str:
        return "train" if self.model.training else "eval"

    def _generate_and_score_completions(self, inputs):
        """Media move from columns into the messages; masks, p and correctness join what TRL shuffles and splits."""
        inputs = [
            {name: value for name, value in row.items() if name not in MEDIA_COLUMNS}
            | {"prompt": fill_placeholders(**{"images": None, "videos": None, **row})}
            for row in inputs
        ]
        output = super()._generate_and_score_completions(inputs)
        device = output["prompt_ids"].device
        sparse = self._rollouts.sparse
        output["sparsity_p"] = torch.tensor(sparse.sparsity_p, dtype=torch.float64, device=device)
        output["kept"] = sparse.kept
        output["pressure"] = self._pressure.to(device)
        output["mask_pressure"] = self._mask_pressure.to(device)
        output["media"] = self._rollouts.media
        if self.sparsity.distillation_weight:
            output["teacher_states"] = self._hidden_states.pop(True)
        return output

    def _generate(self, prompts):
        """Draws `sparsity_p` for each row; reward functions get it and the token ratio as columns.

        No images are returned: TRL would process them again for its log-probabilities, where ours come from `media`.
        """
        self._rollouts = Rollouts([], SparseRows(self._draw_sparsity_p(len(prompts))))
        *output, extra_fields, _, tool_images = super()._generate(prompts)
        sparse = self._rollouts.sparse
        ratios = self.vllm_generation.token_ratios() if self.use_vllm else sparse.token_ratios(self.sparsity.selection)
        self._metrics[self._mode]["token_ratio"].append(self.accelerator.gather(ratios).mean().item())
        extra_fields |= {"sparsity_p": list(sparse.sparsity_p), "token_ratio": ratios.tolist()}
        return *output, extra_fields, None, tool_images

    def _draw_sparsity_p(self, num_rows: int) -> list[float]:
        options = self.sparsity
        if self._mode == "eval":
            return [options.eval_sparsity_p] * num_rows
        first = self.accelerator.process_index * num_rows
        low, high = options.sparsity_p_min, options.sparsity_p_max
        rows = range(first, first + num_rows)
        return rollout_sparsity_p(options.sparsity_schedule, low, high, self.num_generations, rows)

    def _tokenize_prompts(self, prompts):
        """Processes each prompt of a group once, videos included, and keeps the media of every row."""
        requests, processed = None, {}
        if self.use_vllm:
            prompts = with_frames(self.processing_class, prompts)
            sparsity_p, is_greedy = self._rollouts.sparse.sparsity_p, self._mode == "eval"
            requests = rollout_requests(self.processing_class, prompts, sparsity_p, is_greedy)
        for prompt in prompts:
            if (key := prompt_key(prompt)) not in processed:
                row = process_prompt(self.processing_class, prompt, self.chat_template_kwargs)
                processed[key] = self._encode(row) if self._vision_is_frozen else row
        media = self._rollouts.media = [processed[prompt_key(prompt)] for prompt in prompts]
        fields = batch_fields(media, self.accelerator.device)
        fields.pop("mm_encoder_outputs", None)
        if fields:
            fields["mm_token_type_ids"] = [row.token_types.tolist() for row in media]
        return [row.prompt_ids for row in media], requests, fields

    def _encode(self, row: RowMedia) -> RowMedia:
        with self.accelerator.autocast():
            return with_features(row, self._policy())

    def _generate_single_turn(self, *args, **kwargs):
        """Generates under sparse attention; greedily in evaluation."""
        rollouts = self._rollouts
        if self.use_vllm:
            output = super()._generate_single_turn(*args, **kwargs)
            rollouts.sparse = self.vllm_generation.replayed_rows(self.pad_to_multiple_of)
            return output
        do_sample = self.generation_config.do_sample
        self.generation_config.do_sample = do_sample and self._mode == "train"
        try:
            with self._attention.activate(rollouts.sparse), self._features.use(rollouts.media):
                output = super()._generate_single_turn(*args, **kwargs)
        finally:
            self.generation_config.do_sample = do_sample
        rollouts.sparse.freeze()
        return output

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        """Applies the collapse guard and sets the pressure: both need whole groups, which may lie across ranks."""
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        correct, token_ratios = rewards[:, 0] > CORRECT_ABOVE, 1.0 - rewards[:, 1]
        if self._mode == "train" and self.sparsity.collapse_guard:
            rewards[:, 1] = collapse_guard(rewards[:, 1], correct, self.num_generations)
        first = self.accelerator.process_index * len(prompts)
        own = slice(first, first + len(prompts))
        self._pressure, self._mask_pressure = (part[own] for part in self._pressures(correct, token_ratios))
        return rewards

    def _pressures(self, correct: torch.Tensor, token_ratios: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """How hard the terms press each rollout, by how its group stands.

        The pathwise term presses right answers while their group is right and not sparse enough, and gives tokens
        back, whatever the answers, to a group below the target: weights are shared, so prompts that are sparse already
        would pay for those that are not. The mask term of a group with wrong answers moves mass from their sets into
        those of the right ones, however sparse the group is; where all are right it only makes sparser.
        """
        if self._mode == "eval":
            return torch.zeros_like(token_ratios), torch.zeros_like(token_ratios)
        options = self.sparsity
        rate = group_mean(correct.float(), self.num_generations)
        ratio = group_mean(token_ratios, self.num_generations)
        by_rate = ease(rate, options.target_correct_rate, options.target_width)
        by_ratio = ease(ratio, options.target_token_ratio, options.token_ratio_width)
        relief = ease(-ratio, -options.target_token_ratio, options.token_ratio_width)
        return correct * by_rate * by_ratio - relief, torch.where(rate < 1.0, 1.0, by_ratio)

    def _get_per_token_logps_and_entropies(self, model, *args, **kwargs):
        """Log-probabilities under the masks of the rollout, with its pictures and videos; dense for the reference."""
        forward, is_reference = self._with_rollouts(model), self._is_reference(model)
        if not self.sparsity.distillation_weight:
            return super()._get_per_token_logps_and_entropies(forward, *args, **kwargs)
        with last_hidden_states(self._reference() if is_reference else self._policy()) as states:
            output = super()._get_per_token_logps_and_entropies(forward, *args, **kwargs)
        first = self._rollouts.sparse.prompt_mask.shape[1] - 1
        self._hidden_states[is_reference] = torch.cat(states)[:, first:-1]
        return output

    def _reference(self):
        """The dense model; with an adapter it is the policy, whose adapter TRL switches off."""
        return self._policy() if self.ref_model is None else self.accelerator.unwrap_model(self.ref_model)

    def _with_rollouts(self, model) -> Callable:
        """`model` for TRL's loop over consecutive chunks of the batch."""
        rollouts, is_dense, first = self._rollouts, self._is_reference(model), 0

        def forward(input_ids, **inputs):
            nonlocal first
            rows = slice(first, first + len(input_ids))
            first = rows.stop
            media = rollouts.media[rows]
            if fields := batch_fields(media, input_ids.device):
                num_prompt_columns = rollouts.sparse.prompt_mask.shape[1]
                types = batch_token_types(media, num_prompt_columns, input_ids.shape[1], input_ids.device)
                fields["mm_token_type_ids"] = types
            with nullcontext() if is_dense else self._attention.activate(rollouts.sparse[rows]):
                return model(input_ids=input_ids, **inputs, **fields)

        return forward

    def _is_reference(self, model) -> bool:
        """The separate reference model, or the policy with its adapter switched off or replaced by TRL's copy."""
        if self.ref_model is not None:
            return model is self.ref_model
        unwrapped = self.accelerator.unwrap_model(model)
        if not is_peft_model(unwrapped):
            return False
        status = unwrapped.get_model_status()
        return not status.enabled or status.active_adapters == ["ref"]

    def _compute_loss(self, model, inputs):
        """TRL's loss on replayed masks, the differentiable sparsity term, and distillation."""
        sparse = SparseRows(inputs["sparsity_p"].tolist(), inputs["prompt_mask"].bool(), inputs["kept"])
        if self._mode == "train" and self.sparsity.sparsity_term != "none":
            sparse.term = SparsityTerm(self._coefficients(inputs), self._num_layers)
        self._rollouts = Rollouts(inputs["media"], sparse)
        loss = super()._compute_loss(model, inputs)
        if self._mode == "train" and self.sparsity.distillation_weight:
            loss = loss + self._distillation(inputs)
        return loss if sparse.term is None else sparse.term.join(loss)

    def _distillation(self, inputs) -> torch.Tensor:
        """The weighted divergence from the dense model, a mean over accumulated batches as TRL's loss."""
        with torch.no_grad():
            teacher_logits = self._reference().get_output_embeddings()(inputs["teacher_states"])
        logits = self._policy().get_output_embeddings()(self._hidden_states.pop(False))
        divergence = distillation_loss(teacher_logits, logits, inputs["completion_mask"])
        self._metrics["train"]["distillation_kl"].append(self.accelerator.gather(divergence.detach()).mean().item())
        return self.sparsity.distillation_weight * divergence / self.current_gradient_accumulation_steps

    def _coefficients(self, inputs) -> dict[str, list[float]]:
        """What each row's terms count in the loss: a mean over rows and accumulated batches, as TRL's "grpo" loss."""
        num_rows = len(inputs["prompt_ids"]) * self.current_gradient_accumulation_steps
        share = self.sparsity.sparsity_term_weight / num_rows
        self._metrics["train"]["sparsity_pressure"].append(self.accelerator.gather(inputs["pressure"]).mean().item())
        # Mass moves into the sets of rollouts that did well; the token ratio goes down where there is pressure.
        weights = {"mask": -inputs["advantages"] * inputs["mask_pressure"], "pathwise": inputs["pressure"]}
        return {part: (weights[part] * share).tolist() for part in TERMS[self.sparsity.sparsity_term]}

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        """Loads weights strictly: checkpoints of Qwen2-VL and Qwen2.5-VL have other key names than the model, and the
        stock way drops every key that it does not know without a word."""
        if self._average is not None:
            self._average.load(Path(resume_from_checkpoint), self.accelerator.device)
        target = self.model if model is None else model
        if is_peft_model(target) or self.is_fsdp_enabled or self.is_deepspeed_enabled:
            return super()._load_from_checkpoint(resume_from_checkpoint, model)
        saved = type(target).from_pretrained(resume_from_checkpoint, dtype=target.dtype)
        target.load_state_dict(saved.state_dict(), strict=True)
        return None
