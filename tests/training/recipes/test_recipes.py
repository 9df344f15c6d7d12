"""Every shipped recipe and launch file, read by the parsers that users' commands go through."""

import json
import os
import re
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.deepspeed import HfDeepSpeedConfig
from accelerate.utils.launch import prepare_multi_gpu_env
from transformers.integrations.deepspeed import HfTrainerDeepSpeedConfig, unset_hf_deepspeed_config
from trl import ModelConfig, TrlParser

from training.arguments import SparsityForcingArguments, SparsityForcingConfig
from training.data import DataArguments

TRAINING = Path(__file__).parents[3] / "training"
RECIPES = sorted(path for path in (TRAINING / "recipes").glob("*.yaml") if path.stem != "demo")
LAUNCH_FILES = sorted((TRAINING / "accelerate").glob("*.yaml"))
ARGUMENTS = (SparsityForcingArguments, DataArguments, SparsityForcingConfig, ModelConfig)
NUM_GPUS = 8


def parse(path: Path, *more: str):
    # This machine has no GPU, where bf16 is refused.
    arguments = ["--config", str(path), "--use_cpu", "true", "--bf16", "false", *more]
    return TrlParser(ARGUMENTS).parse_args_and_config(arguments)


def launch(path: Path, monkeypatch):
    monkeypatch.chdir(TRAINING.parent)
    args = launch_command_parser().parse_args(["--config_file", str(path), "-m", "training.grpo"])
    return _validate_launch_command(args)[0]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_have_the_settings_they_say(path):
    sparsity, data, config, model = parse(path, "--dataset", "some.json")
    assert (sparsity.sparsity_schedule, sparsity.sparsity_p_min, sparsity.sparsity_p_max) == ("grid", 0.94, 0.975)
    # One rollout at each step of 0.005.
    assert round((sparsity.sparsity_p_max - sparsity.sparsity_p_min) / 0.005) + 1 == config.num_generations == 8
    assert (config.beta, config.learning_rate, config.loss_type) == (0.04, 1e-6, "grpo")
    assert (data.grading, data.max_pixels, data.max_frames) == ("binary", 512 * 28 * 28, 16)
    assert data.max_frame_pixels == 128 * 28 * 28
    assert sparsity.dataset == "some.json"
    rollouts = config.per_device_train_batch_size * config.gradient_accumulation_steps * NUM_GPUS
    assert rollouts == 8 * config.num_generations
    # The name is the model's: qwen2_5_vl_3b is Qwen/Qwen2.5-VL-3B-Instruct.
    name = re.sub(r"[.-]", "_", model.model_name_or_path.lower())
    assert name == f"qwen/{path.stem}_instruct"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_name_launch_files_and_recipes_that_exist(path):
    named = re.findall(r"training/[\w/]+\.(?:yaml|json)", path.read_text())
    assert f"training/recipes/{path.name}" in named
    assert [name for name in named if not (TRAINING.parent / name).is_file()] == []


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_number_says_where_it_comes_from(path):
    unmarked = [line for line in path.read_text().splitlines() if re.match(r"\w+: \S", line) and "[" not in line]
    # What follows from the model and the machine, and figures that say it in the line above.
    free = {
        "model_name_or_path", "dtype", "bf16", "gradient_checkpointing", "output_dir", "per_device_train_batch_size",
        "gradient_accumulation_steps", "seed", "logging_steps", "save_steps", "save_total_limit", "report_to",
        "sparsity_term", "sparsity_term_weight", "target_correct_rate",
    }  # fmt: skip
    assert {line.partition(":")[0] for line in unmarked} <= free


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda path: path.stem)
def test_launch_files(path, monkeypatch):
    args = launch(path, monkeypatch)
    assert args.num_processes == (1 if path.stem == "single_gpu" else NUM_GPUS)
    assert args.use_deepspeed == path.stem.startswith("deepspeed")
    assert args.use_fsdp == path.stem.startswith("fsdp")
    assert args.multi_gpu == path.stem.startswith("ddp")
    if args.use_deepspeed:
        assert Path(args.deepspeed_config_file).is_file()


def test_fsdp_wraps_layers_that_transformers_has(monkeypatch):
    args = launch(TRAINING / "accelerate" / "fsdp_8gpu.yaml", monkeypatch)
    for name, value in prepare_multi_gpu_env(args).items():
        monkeypatch.setitem(os.environ, name, value)
    plugin = FullyShardedDataParallelPlugin()
    assert (plugin.fsdp_version, plugin.reshard_after_forward) == (2, True)
    assert plugin.transformer_cls_names_to_wrap == ["Qwen2_5_VLDecoderLayer", "Qwen2_5_VLVisionBlock"]
    others = re.search(r"for Qwen2-VL: (\S+)", (TRAINING / "accelerate" / "fsdp_8gpu.yaml").read_text())[1].split(",")
    for module, names in (("qwen2_5_vl", plugin.transformer_cls_names_to_wrap), ("qwen2_vl", others)):
        modeling = import_module(f"transformers.models.{module}.modeling_{module}")
        assert [name for name in names if not hasattr(modeling, name)] == []


@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_takes_what_is_auto_from_the_recipe(stage, monkeypatch):
    # The parser asks for the package too, which only machines with GPUs need; without it, its base class is missing.
    monkeypatch.setattr("transformers.integrations.deepspeed.dep_version_check", lambda *_: None)
    path = TRAINING / "deepspeed" / f"zero{stage}.json"
    _, _, config, _ = parse(RECIPES[0])
    deepspeed = type("Parser", (HfTrainerDeepSpeedConfig, HfDeepSpeedConfig), {})(json.loads(path.read_text()))
    # It made itself known to transformers, which would build every later model for DeepSpeed.
    unset_hf_deepspeed_config()
    deepspeed.trainer_config_process(config)
    assert deepspeed.is_zero3() == (stage == 3)
    assert deepspeed.get_value("gradient_accumulation_steps") == config.gradient_accumulation_steps
    assert deepspeed.get_value("train_micro_batch_size_per_gpu") == config.per_device_train_batch_size
    assert deepspeed.get_value("gradient_clipping") == config.max_grad_norm


@pytest.mark.parametrize("name", ["dataset_format", "answer_format", "grading", "max_frames"])
def test_options_are_checked(name):
    value = 0 if name == "max_frames" else "other"
    with pytest.raises(ValueError, match=f"{name} is {value!r}, but must be"):
        DataArguments(**{name: value})


def test_yaml_options_are_those_of_the_parser():
    known = {field for arguments in ARGUMENTS for field in arguments.__dataclass_fields__}
    for path in RECIPES:
        assert set(yaml.safe_load(path.read_text())) <= known
