"""What each rank of `test_two_ranks.py` runs; writes what it saw as JSON."""

import json
import os
import sys
from pathlib import Path

import torch

from tests.training.grpo_harness import IMAGE, VIDEO, generation_batch, make_trainer


def main(folder: Path, rows_per_rank: int) -> None:
    """Take one step with greedy rollouts, whose groups lie across the ranks."""
    trainer = make_trainer(
        folder,
        (IMAGE, VIDEO),
        16,
        sparsity={
            "sparsity_p_min": 0.3,
            "sparsity_p_max": 0.9,
            "sparsity_term": "pathwise",
            "distillation_weight": 1.0,
        },
        per_device_train_batch_size=rows_per_rank,
        generation_kwargs={"do_sample": False},
        max_steps=2,
        learning_rate=1e-4,
    )
    batch = trainer._generate_and_score_completions(generation_batch(trainer))
    seen = {
        "sparsity_p": batch["sparsity_p"].tolist(),
        "advantages": batch["advantages"].tolist(),
        "kept": batch["kept"].sum(dim=(1, 2)).tolist(),
        "pressure": batch["pressure"].tolist(),
    }
    trainer._metrics["train"].clear()
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "kl" in entry]
    seen["kl"] = [entry["kl"] for entry in logged]
    seen["distillation_kl"] = [entry["distillation_kl"] for entry in logged]
    seen["reward"] = [entry["reward"] for entry in logged]
    seen["token_ratio"] = [entry["token_ratio"] for entry in logged]
    model = trainer.accelerator.unwrap_model(trainer.model)
    seen["weights"] = model.get_decoder().layers[0].self_attn.k_proj.weight.detach().flatten()[:200].tolist()
    (folder / f"rank{trainer.accelerator.process_index}.json").write_text(json.dumps(seen), encoding="utf-8")
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        # Without a teardown: in that of torch 2.13, Gloo's threads and the one that ends them may wait for each other.
        os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
