"""A run that was interrupted goes on exactly as if it had not been."""

import pytest
import torch

from .grpo_harness import IMAGE, VIDEO, make_trainer

RUN = {
    "max_steps": 4,
    "save_strategy": "steps",
    "save_steps": 2,
    "gradient_accumulation_steps": 2,
    "lr_scheduler_type": "linear",
    "temperature": 1.3,
}
SPARSITY = {
    "sparsity_p_min": 0.6,
    "sparsity_p_max": 0.95,
    "sparsity_schedule": "uniform",
    "sparsity_term": "pathwise",
    "target_correct_rate": 0.5,
    "target_width": 0.5,
    # Steps 2 to 4, so the checkpoint lies in the middle.
    "average_last_share": 0.75,
}
LOGGED = ("loss", "reward", "kl", "token_ratio", "grad_norm", "learning_rate", "sparsity_pressure")


def losses(trainer) -> list[tuple]:
    return [tuple(entry[name] for name in LOGGED) for entry in trainer.state.log_history if "kl" in entry]


@pytest.mark.parametrize("shuffle", [False, True], ids=["in order", "shuffled"])
@pytest.mark.parametrize("peft", [False, True], ids=["full", "lora"])
def test_a_resumed_run_has_the_losses_of_an_uninterrupted_one(tmp_path, shuffle, peft):
    from peft import LoraConfig

    lora = LoraConfig(r=4, lora_dropout=0.1, target_modules=["q_proj", "k_proj"], task_type="CAUSAL_LM")

    def build():
        return make_trainer(
            tmp_path / "run",
            (IMAGE, VIDEO),
            16,
            sparsity=SPARSITY,
            trl={"peft_config": lora} if peft else {},
            shuffle_dataset=shuffle,
            **RUN,
        )

    whole = build()
    whole.train()
    expected = losses(whole)
    assert len({step[0] for step in expected}) == 4, "all losses are alike, so the test could not see a difference"

    resumed = build()
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
    assert losses(resumed) == expected
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name


def test_weights_are_loaded_strictly(tmp_path):
    """transformers' own loading leaves the fresh weights where key names differ, and says nothing."""
    trainer = make_trainer(tmp_path / "run", (IMAGE, VIDEO), max_steps=1, save_strategy="steps", save_steps=1)
    trainer.train()
    other = make_trainer(tmp_path / "other", (IMAGE, VIDEO))
    moved = "model.language_model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(other.model.state_dict()[moved], trainer.model.state_dict()[moved])
    other._load_from_checkpoint(str(tmp_path / "run" / "checkpoint-1"))
    for name, weight in trainer.model.state_dict().items():
        assert torch.equal(weight, other.model.state_dict()[name]), name
