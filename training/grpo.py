"""Sparsity Forcing post-training: `python -m training.grpo [--config recipe.yaml] [--option value ...]`.

Options on the command line win over those of the YAML file. Without arguments it runs `recipes/demo.yaml`: the bundled
model on questions of its own generator.
"""

import shutil
import sys
from pathlib import Path

import torch
from datasets import Dataset
from transformers import AutoModelForImageTextToText, AutoProcessor, ProgressCallback
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import GENERATION_CONFIG_NAME

from .arguments import SparsityForcingArguments, SparsityForcingConfig
from .data import DataArguments
from .demo_task import held_out_rows, training_rows
from .progress import SparsityProgress
from .trainer import SparsityForcingTrainer
from .trl_import import ModelConfig, TrlParser, get_peft_config

DEMO = "demo"
DEMO_RECIPE = Path(__file__).with_name("recipes") / "demo.yaml"
DEMO_MODEL = Path(__file__).parents[1] / "server" / "assets" / "demo"
HELD_OUT_SEED = 2000


def parse(
    arguments: list[str],
) -> tuple[SparsityForcingArguments, DataArguments, SparsityForcingConfig, ModelConfig]:
    """Options from the command line over those of `--config`; without any, the demo recipe."""
    parser = TrlParser(
        (SparsityForcingArguments, DataArguments, SparsityForcingConfig, ModelConfig), prog="python -m training.grpo"
    )
    if "--config" not in arguments and not {"-h", "--help"} & set(arguments):
        arguments = ["--config", str(DEMO_RECIPE), *arguments]
    return parser.parse_args_and_config(arguments)


def load_model(model: ModelConfig, freeze_vision: bool):
    """The policy, with a frozen vision tower if asked for."""
    name = str(DEMO_MODEL) if model.model_name_or_path == DEMO else model.model_name_or_path
    policy = AutoModelForImageTextToText.from_pretrained(
        name,
        revision=model.model_revision,
        dtype=model.dtype or "auto",
        attn_implementation=model.attn_implementation or "sdpa",
    )
    if freeze_vision:
        policy.base_model.visual.requires_grad_(False)
    # transformers does not save a temperature of 0, which a model that decodes greedily may have; see `save`.
    policy.generation_config.temperature = None
    return policy


def load_rows(options: SparsityForcingArguments, data: DataArguments) -> tuple[Dataset, Dataset | None]:
    """Training and held-out rows; there are no held-out ones where no file of them is given."""
    if options.dataset == DEMO:
        train = training_rows(options.dataset_seed, options.dataset_rows, options.prompts_per_size)
        return train, held_out_rows(HELD_OUT_SEED, options.num_eval_rows)
    held_out = data.questions(data.eval_dataset).as_dataset() if data.eval_dataset else None
    return data.questions(options.dataset).as_dataset(), held_out


def build_trainer(
    options: SparsityForcingArguments, data: DataArguments, config: SparsityForcingConfig, model: ModelConfig
) -> SparsityForcingTrainer:
    """Everything but the training itself."""
    policy = load_model(model, options.freeze_vision)
    train_rows, eval_rows = load_rows(options, data)
    trainer = SparsityForcingTrainer(
        policy,
        data.accuracy_reward(),
        options,
        config,
        train_dataset=train_rows,
        eval_dataset=eval_rows if config.eval_strategy != "no" else None,
        processing_class=AutoProcessor.from_pretrained(policy.config.name_or_path, padding_side="left"),
        peft_config=get_peft_config(model),
    )
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(SparsityProgress(trainer.reward_func_names[0]))
    return trainer


def save(trainer: SparsityForcingTrainer, dtype: str | None) -> None:
    """Write the final weights and the processor to the output folder, ready to be served."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    if dtype is not None:
        model.to(getattr(torch, dtype))
    trainer.save_model()
    trainer.save_state()
    # What the base model answers with by default; transformers would not write a temperature of 0.
    defaults = Path(model.config.name_or_path) / GENERATION_CONFIG_NAME
    if trainer.args.should_save and defaults.is_file():
        shutil.copyfile(defaults, Path(trainer.args.output_dir) / GENERATION_CONFIG_NAME)


def main(arguments: list[str] | None = None) -> SparsityForcingTrainer:
    """Command line."""
    options, data, config, model = parse(sys.argv[1:] if arguments is None else arguments)
    trainer = build_trainer(options, data, config, model)
    checkpoint = config.resume_from_checkpoint
    if checkpoint in ("true", "True", "last"):
        checkpoint = get_last_checkpoint(config.output_dir)
    trainer.train(resume_from_checkpoint=checkpoint)
    save(trainer, options.save_dtype)
    trainer.end()
    return trainer


if __name__ == "__main__":
    main()
