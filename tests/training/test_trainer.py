"""The trainer on a batch of pictures and videos: each row keeps its own p, masks, media and reward through TRL."""

import pytest
import torch

from training.arguments import SparsityForcingArguments
from training.objective import rollout_sparsity_p

from .grpo_harness import (
    IMAGE,
    LARGE,
    PICTURES,
    VIDEO,
    generation_batch,
    load_model,
    lora,
    make_trainer,
    with_pixels,
)

DENSE = {"sparsity_p_min": 1.0, "sparsity_p_max": 1.0}


def forward_batch(trainer):
    """The first batch as `_compute_loss` gets it: generated, scored, shuffled and split."""
    return trainer._prepare_inputs(generation_batch(trainer))


@pytest.mark.parametrize("peft", [False, True], ids=["full", "lora"])
def test_at_p_1_the_kl_to_the_dense_reference_is_exactly_0(tmp_path, peft):
    trainer = make_trainer(tmp_path, (IMAGE, VIDEO, LARGE, PICTURES), sparsity=DENSE, trl=lora() if peft else {})
    trainer.train()
    first = trainer.state.log_history[0]
    assert first["kl"] == 0.0
    assert first["token_ratio"] == 1.0
    assert first["rewards/efficiency/mean"] == 0.0


@pytest.mark.parametrize("peft", [False, True], ids=["full", "lora"])
def test_at_p_below_1_the_reference_stays_dense(tmp_path, peft):
    sparsity = {"sparsity_p_min": 0.7, "sparsity_p_max": 0.8}
    trainer = make_trainer(tmp_path, sparsity=sparsity, trl=lora() if peft else {})
    rows = generation_batch(trainer)
    inputs = trainer._prepare_inputs(rows)
    dense, inputs_pixels = load_model().train(), with_pixels(trainer, rows, inputs)
    for row in range(8):
        expected = direct_logprobs(dense, inputs_pixels, row)
        torch.testing.assert_close(inputs["ref_per_token_logps"][row, : len(expected)], expected, rtol=0, atol=1e-4)
    with torch.no_grad():
        trainer._compute_loss(trainer.model, inputs)
    assert trainer._metrics["train"]["kl"][-1] > 1e-6


def direct_logprobs(model, inputs, row: int) -> torch.Tensor:
    """Log-probabilities of a row's completion from one forward pass of its own, unpadded."""
    media = inputs["media"][row]
    completion = inputs["completion_ids"][row][inputs["completion_mask"][row].bool()]
    prompt = inputs["prompt_ids"][row][inputs["prompt_mask"][row].bool()]
    assert prompt.tolist() == media.prompt_ids
    types = torch.cat([media.token_types, torch.zeros(len(completion), dtype=torch.int64)])
    ids = torch.cat([prompt, completion])
    with torch.no_grad():
        logits = model(input_ids=ids[None], mm_token_type_ids=types[None], use_cache=False, **media.fields).logits[0]
    return logits[len(prompt) - 1 : -1].log_softmax(-1).gather(1, completion[:, None])[:, 0]


@pytest.mark.parametrize("frozen", [False, True], ids=["trained tower", "frozen tower"])
def test_log_probabilities_of_pictures_and_videos_equal_a_direct_forward(tmp_path, frozen):
    model = load_model()
    model.base_model.visual.requires_grad_(not frozen)
    trainer = make_trainer(tmp_path, (VIDEO, IMAGE, PICTURES, VIDEO), model=model, sparsity=DENSE, num_iterations=2)
    rows = generation_batch(trainer)
    inputs = trainer._prepare_inputs(rows)
    dense, inputs = load_model().train(), with_pixels(trainer, rows, inputs)
    assert any("pixel_values_videos" in media.fields for media in inputs["media"])
    for row in range(8):
        expected = direct_logprobs(dense, inputs, row)
        for name in ("old_per_token_logps", "ref_per_token_logps"):
            if name in inputs:
                torch.testing.assert_close(inputs[name][row, : len(expected)], expected, rtol=0, atol=1e-4)


def test_p_masks_and_media_stay_with_their_row_through_shuffle_and_split(tmp_path):
    sparsity = {"sparsity_p_min": 0.6, "sparsity_p_max": 0.9}
    sizes = (IMAGE, VIDEO, PICTURES, LARGE)
    trainer = make_trainer(tmp_path, sizes, sparsity=sparsity, per_device_train_batch_size=4, steps_per_generation=4)
    trainer._prepare_inputs(generation_batch(trainer))
    grid = rollout_sparsity_p("grid", 0.6, 0.9, 4, range(4))
    seen, orders = [], []
    for inputs in trainer._buffered_inputs:
        assert inputs["kept"].shape == (4, 4, inputs["prompt_ids"].shape[1])
        for row in range(4):
            prompt = inputs["prompt_ids"][row][inputs["prompt_mask"][row].bool()].tolist()
            assert prompt == inputs["media"][row].prompt_ids
            assert not (inputs["kept"][row] & ~inputs["prompt_mask"][row].bool()).any()
            seen.append((tuple(prompt), inputs["sparsity_p"][row].item()))
            orders.append(inputs["sparsity_p"][row].item())
            # The masks are those that this prompt selects at this p.
            again = reselect(trainer, inputs, row)
            assert torch.equal(again, inputs["kept"][row][:, inputs["prompt_mask"][row].bool()])
    for prompt in {prompt for prompt, _ in seen}:
        assert sorted(p for other, p in seen if other == prompt) == pytest.approx(sorted(grid))
    assert orders != pytest.approx(grid * 4), "TRL did not shuffle, so this test shows nothing"


def reselect(trainer, inputs, row: int) -> torch.Tensor:
    from training.sparse_attention import SparseRows

    media, rows = inputs["media"][row], SparseRows([inputs["sparsity_p"][row].item()])
    ids = torch.tensor([media.prompt_ids])
    rows.prompt_mask = torch.ones_like(ids, dtype=torch.bool)
    with torch.no_grad(), trainer._attention.activate(rows):
        trainer.model(input_ids=ids, mm_token_type_ids=media.token_types[None], use_cache=False, **media.fields)
    rows.freeze()
    return rows.kept[0]


def scripted(values):
    """An accuracy reward with given values, whatever was answered."""

    def accuracy(completions, token_ratio, **columns):
        assert len(token_ratio) == len(completions)
        return values

    return accuracy


@pytest.mark.parametrize("guard", [True, False])
def test_rewards_and_advantages_against_numbers_worked_by_hand(tmp_path, guard, monkeypatch):
    from training.sparse_attention import SparseRows

    accuracy = [1.0, 0.0, 1.0, 0.0] + [0.0] * 4
    ratios = torch.tensor([0.5, 0.25, 0.75, 0.5, 0.2, 0.4, 0.6, 0.8])
    monkeypatch.setattr(SparseRows, "token_ratios", lambda self, selection: ratios)
    options = {"collapse_guard": guard, "target_correct_rate": 0.25, "target_width": 0.5}
    options |= {"target_token_ratio": 0.4, "token_ratio_width": 0.4}
    trainer = make_trainer(tmp_path, accuracy=scripted(accuracy), sparsity=options)
    output = trainer._generate_and_score_completions(generation_batch(trainer))

    # Group 1: rewards 1.5, .75, 1.25, .5; mean 1; deviations .5, -.25, .25, -.5; variance (.25+.0625+.0625+.25)/3.
    std = (0.625 / 3) ** 0.5
    expected = [value / (std + 1e-4) for value in (0.5, -0.25, 0.25, -0.5)]
    if guard:  # nothing to gain where nothing is correct
        expected += [0.0] * 4
    else:  # rewards .8, .6, .4, .2; mean .5; variance (.09+.01+.01+.09)/3
        std = (0.2 / 3) ** 0.5
        expected += [value / (std + 1e-4) for value in (0.3, 0.1, -0.1, -0.3)]
    assert output["advantages"].tolist() == pytest.approx(expected, abs=1e-5)
    # Group 1 has half its rollouts correct, half way from .25 to .75, and a mean token ratio of .5, a quarter of the
    # way from .4 to .8; wrong rollouts are not pressed.
    assert output["pressure"].tolist() == pytest.approx([0.125, 0.0, 0.125, 0.0] + [0.0] * 4)
    # Both groups have wrong answers, which the mask term repairs in full.
    assert output["mask_pressure"].tolist() == [1.0] * 8


def test_where_all_are_right_the_mask_term_fades_with_the_token_ratio(tmp_path, monkeypatch):
    from training.sparse_attention import SparseRows

    monkeypatch.setattr(SparseRows, "token_ratios", lambda self, selection: torch.tensor([0.5] * 4 + [0.3] * 4))
    options = {"target_token_ratio": 0.4, "token_ratio_width": 0.4}
    trainer = make_trainer(tmp_path, accuracy=scripted([1.0] * 8), sparsity=options)
    output = trainer._generate_and_score_completions(generation_batch(trainer))
    assert output["mask_pressure"].tolist() == pytest.approx([0.25] * 4 + [0.0] * 4)


def test_a_group_below_the_target_gets_tokens_back_whatever_its_answers(tmp_path, monkeypatch):
    from training.sparse_attention import SparseRows

    monkeypatch.setattr(SparseRows, "token_ratios", lambda self, selection: torch.tensor([0.5] * 4 + [0.3] * 4))
    options = {"target_token_ratio": 0.4, "token_ratio_width": 0.4}
    accuracy = [1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    trainer = make_trainer(tmp_path, accuracy=scripted(accuracy), sparsity=options)
    output = trainer._generate_and_score_completions(generation_batch(trainer))
    # A quarter of the width above the target, and a quarter of it below.
    assert output["pressure"].tolist() == pytest.approx([0.25, 0.25, 0.25, 0.0] + [-0.25] * 4)


def test_token_ratio_counts_queries_too():
    from training.sparse_attention import SparseRows

    kept = torch.tensor([[[True, False, True, False], [True, True, True, True]]])
    rows = SparseRows([0.9], torch.ones(1, 4, dtype=torch.bool), kept)
    assert rows.token_ratios().tolist() == [0.75]
    assert rows.token_ratios("keys").tolist() == [0.875]


def test_the_efficiency_reward_is_weighted(tmp_path):
    trainer = make_trainer(tmp_path, sparsity={"efficiency_weight": 0.25})
    assert trainer.reward_weights.tolist() == [1.0, 0.25]


def test_rewards_see_p_and_ratio_of_their_row(tmp_path):
    seen = {}

    def accuracy(completions, sparsity_p, token_ratio, solution, **columns):
        seen.update(sparsity_p=sparsity_p, token_ratio=token_ratio)
        return [0.0] * len(completions)

    sparsity = {"sparsity_p_min": 0.4, "sparsity_p_max": 1.0, "efficiency_weight": 0.0}
    trainer = make_trainer(tmp_path, accuracy=accuracy, sparsity=sparsity)
    trainer._generate_and_score_completions(generation_batch(trainer))
    assert seen["sparsity_p"] == pytest.approx([1.0, 0.8, 0.6, 0.4] * 2)
    for group in (seen["token_ratio"][:4], seen["token_ratio"][4:]):
        assert group[0] == 1.0
        assert sorted(group, reverse=True) == group


@pytest.mark.parametrize("term", ["mask", "pathwise"])
def test_a_sparsity_term_moves_the_token_ratio_where_the_papers_objective_has_no_gradient(tmp_path, term):
    """All answers right and one p: every advantage of the mask term's rewards is equal, so only `pathwise` pushes."""
    sparsity = {"sparsity_p_min": 0.9, "sparsity_p_max": 0.9, "sparsity_term": term}
    gradients = {}
    for kind in ("none", term):
        trainer = make_trainer(
            tmp_path, accuracy=scripted([1.0] * 8), sparsity={**sparsity, "sparsity_term": kind}, beta=0.0
        )
        trainer._compute_loss(trainer.model, forward_batch(trainer)).backward()
        weight = trainer.model.get_decoder().layers[0].self_attn.q_proj.weight
        gradients[kind] = weight.grad.norm().item()
    assert gradients["none"] == pytest.approx(0.0, abs=1e-6)
    assert (gradients[term] > 1e-3) == (term == "pathwise")


def test_training_at_one_p_with_the_pathwise_term_lowers_the_ratio(tmp_path):
    sparsity = {"sparsity_p_min": 0.95, "sparsity_p_max": 0.95, "sparsity_term": "pathwise"}
    trainer = make_trainer(tmp_path, (IMAGE, IMAGE), 24, sparsity=sparsity, max_steps=8)
    trainer.train()
    ratios = [entry["token_ratio"] for entry in trainer.state.log_history if "token_ratio" in entry]
    assert ratios[-1] < ratios[0] - 0.05


def test_options_out_of_range_say_so():
    from training.arguments import InvalidTrainingOption

    for options in ({"sparsity_term": "maskk"}, {"sparsity_p_min": 0.98}, {"target_width": 0}, {"dataset_rows": 0}):
        with pytest.raises(InvalidTrainingOption, match=next(iter(options))):
            SparsityForcingArguments(**options)
