"""Train the bundled demo model from nothing: `python -m training.demo_model`.

Writes a Hugging Face folder (weights in bf16, tokenizer, chat template, processor) and `metrics.json` with the held-out
accuracy of what was written.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration
from transformers.utils.logging import disable_progress_bar

from .demo.architecture import build_model, save_checkpoint
from .demo.curriculum import training_batch
from .demo.evaluate import held_out_accuracy
from .demo.objective import CellReader, training_loss
from .demo.optimizer import DemoOptimizer
from .demo.report import accuracy_line, accuracy_tables
from .demo.tokenizer import build_tokenizer

DEFAULT_OUT = Path(__file__).parents[1] / "server" / "assets" / "demo"
METRICS_FILE = "metrics.json"
HELD_OUT_SEED = 1000
PROGRESS_SEED = 1001


def train(
    out: Path, seed: int, num_steps: int, learning_rate: float, evaluate_every: int, start_from: Path | None = None
) -> dict:
    """Train, write the checkpoint and return how it was made."""
    tokenizer = build_tokenizer()
    model = build_model(tokenizer, seed).train()
    if start_from is not None:
        model.load_state_dict(Qwen2_5_VLForConditionalGeneration.from_pretrained(start_from).float().state_dict())
    reader = CellReader(model.config.text_config.hidden_size)
    parameters = [*model.named_parameters(), *reader.named_parameters()]
    optimizer = DemoOptimizer(parameters, learning_rate, num_steps)
    started = time.monotonic()
    losses = {"answer": 0.0, "cell": 0.0}
    with tqdm(range(num_steps), desc="training", unit="step", mininterval=2.0) as progress:
        for step in progress:
            parts = training_loss(model, reader, training_batch(tokenizer, seed, step, num_steps))
            parts["total"].backward()
            optimizer.step(step)
            losses = {name: 0.98 * mean + 0.02 * parts[name].item() for name, mean in losses.items()}
            if step % 20 == 0:
                progress.set_postfix(answer=f"{losses['answer']:.3f}", cell=f"{losses['cell']:.3f}", refresh=False)
            if (step + 1) % evaluate_every == 0:
                save_checkpoint(model, tokenizer, out)
                accuracy = held_out_accuracy(model, tokenizer, PROGRESS_SEED, questions_per_size=16)
                progress.write(f"step {step + 1}: {accuracy_line(accuracy)}")
    train_time_s = time.monotonic() - started
    save_checkpoint(model, tokenizer, out)
    return {
        "seed": seed,
        "num_steps": num_steps,
        "learning_rate": learning_rate,
        "train_time_s": round(train_time_s, 1),
        "torch_version": torch.__version__,
    }


def measure(checkpoint: Path, questions_per_size: int) -> dict:
    """Held-out accuracy of a checkpoint as it lies on disk."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()
    return {
        "held_out_seed": HELD_OUT_SEED,
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        **held_out_accuracy(model, tokenizer, HELD_OUT_SEED, questions_per_size),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m training.demo_model", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="folder to write (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and training scenes (default: 0)")
    parser.add_argument("--steps", type=int, default=5000, help="training steps (default: %(default)s)")
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="peak learning rate (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: %(default)s)")
    parser.add_argument("--evaluate-every", type=int, default=500, help="steps between checks (default: %(default)s)")
    parser.add_argument("--start-from", type=Path, help="checkpoint to go on from (default: random weights)")
    parser.add_argument("--evaluate-only", action="store_true", help="measure the checkpoint in --out again")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    disable_progress_bar()  # transformers' own bars would tear ours
    args.out.mkdir(parents=True, exist_ok=True)
    metrics_path = args.out / METRICS_FILE
    if args.evaluate_only:
        training = json.loads(metrics_path.read_text(encoding="utf-8"))["training"]
    else:
        training = train(args.out, args.seed, args.steps, args.learning_rate, args.evaluate_every, args.start_from)
    metrics = {"training": training, "held_out": measure(args.out, questions_per_size=160)}
    metrics_path.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    print(accuracy_tables(metrics["held_out"]))


if __name__ == "__main__":
    main()
