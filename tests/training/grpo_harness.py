"""A small trainer on the bundled demo model and a few small scenes."""

from pathlib import Path

import torch
from peft import LoraConfig
from transformers import AutoModelForImageTextToText, AutoProcessor

from training.arguments import SparsityForcingArguments, SparsityForcingConfig
from training.demo.scenes import SceneSize
from training.demo.streams import TRAINING_STREAM, make_example
from training.demo_task import lazy_rows, row_of
from training.grpo import DEMO_MODEL
from training.rewards import accuracy_reward
from training.row_media import fill_placeholders, process_prompt
from training.trainer import SparsityForcingTrainer

IMAGE = SceneSize("image", 8)
PICTURES = SceneSize("images", 8, num_pictures=2)
VIDEO = SceneSize("video", 8, num_steps=2)
LARGE = SceneSize("image", 16)


def load_model():
    model = AutoModelForImageTextToText.from_pretrained(DEMO_MODEL, dtype=torch.float32, attn_implementation="sdpa")
    model.generation_config.temperature = None
    return model


def load_processor():
    return AutoProcessor.from_pretrained(DEMO_MODEL, padding_side="left")


def small_rows(sizes, num_rows: int | None = None, seed: int = 0):
    """One row per size, in turn."""
    num_rows = num_rows or len(sizes)
    return lazy_rows(
        lambda index: row_of(
            make_example(seed, TRAINING_STREAM, index, sizes[index % len(sizes)], num_questions=1), f"test:{index}"
        ),
        num_rows,
    )


def make_trainer(
    folder: Path,
    sizes=(IMAGE, VIDEO),
    num_rows=None,
    model=None,
    accuracy=None,
    sparsity=None,
    trl=None,
    **config,
) -> SparsityForcingTrainer:
    """Two prompts of four rollouts in one batch of eight rows, unless told otherwise."""
    config = {
        "output_dir": str(folder),
        "num_generations": 4,
        "per_device_train_batch_size": 8,
        "steps_per_generation": 1,
        "max_completion_length": 4,
        "max_steps": 1,
        "learning_rate": 1e-3,
        "use_cpu": True,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1,
        "gradient_checkpointing": False,
        "bf16": False,
        "disable_tqdm": True,
        "shuffle_dataset": False,
        "seed": 0,
        **config,
    }
    trainer = SparsityForcingTrainer(
        load_model() if model is None else model,
        accuracy or accuracy_reward(),
        SparsityForcingArguments(**(sparsity or {})),
        SparsityForcingConfig(**config),
        train_dataset=small_rows(sizes, num_rows),
        processing_class=load_processor(),
        **(trl or {}),
    )
    # What `train` would set, for tests that go without it.
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    return trainer


def generation_batch(trainer: SparsityForcingTrainer) -> list[dict]:
    """The rows of the first generation batch, as the data loader gives them."""
    return next(iter(trainer.get_train_dataloader()))


def with_pixels(trainer: SparsityForcingTrainer, rows: list[dict], inputs: dict) -> dict:
    """The batch with each row's media processed anew, without the features of a frozen tower."""
    processor = trainer.processing_class
    prompts = [fill_placeholders(row["prompt"], row["images"], row["videos"]) for row in rows]
    pixels = {tuple(media.prompt_ids): media for media in (process_prompt(processor, prompt, {}) for prompt in prompts)}
    return {**inputs, "media": [pixels[tuple(media.prompt_ids)] for media in inputs["media"]]}


def lora() -> dict:
    """What the trainer takes for training an adapter."""
    modules = ["q_proj", "k_proj", "v_proj"]
    return {"peft_config": LoraConfig(r=4, target_modules=modules, task_type="CAUSAL_LM")}
