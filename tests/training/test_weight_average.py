import pytest
import torch

from training.arguments import InvalidTrainingOption, SparsityForcingArguments

from .grpo_harness import IMAGE, VIDEO, make_trainer


def test_the_final_weights_are_the_mean_of_the_last_steps(tmp_path):
    options = {"max_steps": 4, "save_strategy": "steps", "save_steps": 1}
    trainer = make_trainer(tmp_path / "run", (IMAGE, VIDEO), 16, sparsity={"average_last_share": 0.5}, **options)
    trainer.train()
    final = {name: weight.clone() for name, weight in trainer.model.state_dict().items()}

    steps = []
    for step in (3, 4):
        trainer._load_from_checkpoint(str(tmp_path / "run" / f"checkpoint-{step}"))
        steps.append({name: weight.clone() for name, weight in trainer.model.state_dict().items()})
    moved = "model.language_model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(steps[0][moved], steps[1][moved])
    for name, weight in final.items():
        torch.testing.assert_close(weight, (steps[0][name] + steps[1][name]) / 2, rtol=0, atol=1e-6, msg=name)


def test_without_the_option_nothing_is_averaged(tmp_path):
    options = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    trainer = make_trainer(tmp_path / "run", (IMAGE, VIDEO), **options)
    trainer.train()
    final = {name: weight.clone() for name, weight in trainer.model.state_dict().items()}
    trainer._load_from_checkpoint(str(tmp_path / "run" / "checkpoint-2"))
    assert all(torch.equal(weight, final[name]) for name, weight in trainer.model.state_dict().items())


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(InvalidTrainingOption, match="average_last_share"):
        SparsityForcingArguments(average_last_share=share)
