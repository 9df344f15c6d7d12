"""The divergence from the dense model: numbers worked by hand, direct forward passes, and what training makes of it."""

import math
from contextlib import nullcontext

import pytest
import torch

from training.arguments import InvalidTrainingOption
from training.self_distillation import distillation_loss
from training.sparse_attention import SparseAttention, SparseRows

from .grpo_harness import IMAGE, VIDEO, generation_batch, load_model, lora, make_trainer, with_pixels


def test_against_numbers_worked_by_hand():
    # Teacher (1/2, 1/2), student (1/4, 3/4): (log 2 + log 2/3) / 2 = log 2 - log 3 / 2.
    even, uneven = torch.zeros(2), torch.tensor([0.0, math.log(3)])
    teacher = torch.stack([torch.stack([even, even, even]), torch.stack([even, even, even])])
    student = torch.stack([torch.stack([uneven, even, uneven]), torch.stack([uneven, uneven, uneven])])
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    divergence = math.log(2) - math.log(3) / 2
    # Row 0: one of its two tokens differs; row 1: its only one does.
    assert distillation_loss(teacher, student, mask).item() == pytest.approx((divergence / 2 + divergence) / 2)
    assert distillation_loss(teacher, teacher, mask).item() == 0.0


@pytest.mark.parametrize("peft", [False, True], ids=["full", "lora"])
def test_at_p_1_it_is_0(tmp_path, peft):
    dense = {"sparsity_p_min": 1.0, "sparsity_p_max": 1.0, "distillation_weight": 1.0}
    trainer = make_trainer(tmp_path, sparsity=dense, trl=lora() if peft else {})
    trainer.train()
    assert trainer.state.log_history[0]["distillation_kl"] == pytest.approx(0.0, abs=1e-8)


@pytest.mark.parametrize("peft", [False, True], ids=["full", "lora"])
def test_it_is_the_divergence_of_direct_forward_passes_and_joins_the_loss(tmp_path, peft):
    sparsity = {"sparsity_p_min": 0.6, "sparsity_p_max": 0.7, "distillation_weight": 3.0}
    trainer = make_trainer(tmp_path, (IMAGE, VIDEO), sparsity=sparsity, trl=lora() if peft else {})
    rows = generation_batch(trainer)
    inputs = trainer._prepare_inputs(rows)
    pixels = with_pixels(trainer, rows, inputs)
    dense, sparse = ([logits(trainer, pixels, row, is_dense) for row in range(8)] for is_dense in (True, False))
    expected = sum(
        torch.nn.functional.kl_div(student, teacher, log_target=True, reduction="sum") / len(student)
        for teacher, student in zip(dense, sparse, strict=True)
    )
    trainer.current_gradient_accumulation_steps = 2
    with torch.no_grad():
        loss = trainer._compute_loss(trainer.model, dict(inputs))
        trainer.sparsity.distillation_weight = 0.0
        rest = trainer._compute_loss(trainer.model, dict(inputs))
    measured = trainer._metrics["train"]["distillation_kl"][-1]
    assert measured > 1e-3
    assert measured == pytest.approx(expected.item() / 8, rel=1e-3)
    assert (loss - rest).item() == pytest.approx(3.0 * measured / 2, rel=1e-4)


def logits(trainer, inputs, row: int, is_dense: bool) -> torch.Tensor:
    """Log-probabilities before each completion token from a forward pass of the row's own, [num_tokens, vocab_size]."""
    model = load_model().train()
    media, rows = inputs["media"][row], slice(row, row + 1)
    completion = inputs["completion_ids"][row][inputs["completion_mask"][row].bool()]
    prompt_columns = inputs["prompt_mask"][row].bool()
    prompt = inputs["prompt_ids"][row][prompt_columns]
    types = torch.cat([media.token_types, torch.zeros(len(completion), dtype=torch.int64)])
    ids = torch.cat([prompt, completion])[None]
    attention = SparseAttention(model, trainer.sparsity.sparsity_config())
    kept = SparseRows([inputs["sparsity_p"][row].item()], inputs["prompt_mask"][rows].bool(), inputs["kept"][rows])
    kept.prompt_mask, kept.kept = kept.prompt_mask[:, prompt_columns], kept.kept[:, :, prompt_columns]
    with torch.no_grad(), nullcontext() if is_dense else attention.activate(kept):
        output = model(input_ids=ids, mm_token_type_ids=types[None], use_cache=False, **media.fields)
    return output.logits[0, len(prompt) - 1 : -1].log_softmax(-1)


def never_right(completions, **_) -> list[float]:
    return [0.0] * len(completions)


def test_training_on_it_alone_brings_the_sparse_model_nearer_to_the_dense_one(tmp_path):
    sparsity = {"sparsity_p_min": 0.5, "sparsity_p_max": 0.5, "distillation_weight": 1.0, "efficiency_weight": 0.0}
    trainer = make_trainer(
        tmp_path,
        (IMAGE, IMAGE),
        accuracy=lambda completions, **_: [0.0] * len(completions),
        sparsity=sparsity,
        max_steps=8,
    )
    trainer.train()
    divergences = [step["distillation_kl"] for step in trainer.state.log_history if "distillation_kl" in step]
    assert len(divergences) == 8
    assert divergences[-1] < 0.5 * divergences[0]


def test_it_needs_a_reference(tmp_path):
    with pytest.raises(InvalidTrainingOption, match=r"distillation_weight is 1.0 and beta is 0"):
        make_trainer(tmp_path, sparsity={"distillation_weight": 1.0}, beta=0.0)
