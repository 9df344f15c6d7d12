"""The command: options from recipe and command line, a run from end to end, a checkpoint that can be loaded."""

import json
import re

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from training.grpo import DEMO_MODEL, main, parse


def test_without_arguments_it_is_the_demo_recipe():
    options, _, config, model = parse([])
    assert model.model_name_or_path == "demo"
    assert options.dataset == "demo"
    assert config.loss_type == "grpo"


def test_the_command_line_wins_over_the_recipe(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        f"model_name_or_path: demo\noutput_dir: {tmp_path}\nsparsity_p_min: 0.5\nbeta: 0.1\nuse_cpu: true\n"
    )
    options, _, config, _ = parse(["--config", str(recipe), "--beta", "0.2"])
    assert (options.sparsity_p_min, config.beta) == (0.5, 0.2)


def test_defaults_are_the_papers(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(f"output_dir: {tmp_path}\nuse_cpu: true\n")
    options, _, config, _ = parse(["--config", str(recipe)])
    assert (options.sparsity_p_min, options.sparsity_p_max, options.sparsity_term) == (0.94, 0.975, "none")
    assert (config.beta, config.loss_type, config.num_generations) == (0.04, "grpo", 8)


def test_an_unknown_option_of_a_recipe_is_named(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(f"output_dir: {tmp_path}\nuse_cpu: true\nsparsityp: 1\n")
    with pytest.raises(ValueError, match="sparsityp"):
        parse(["--config", str(recipe)])


def test_two_steps_of_the_demo_recipe_leave_a_checkpoint_to_serve(tmp_path, capfd):
    small = ["--per_device_train_batch_size", "8", "--gradient_accumulation_steps", "1", "--prompts_per_size", "1"]
    evaluate = [
        "--eval_strategy",
        "steps",
        "--eval_steps",
        "2",
        "--num_eval_rows",
        "2",
        "--per_device_eval_batch_size",
        "2",
    ]
    main(["--output_dir", str(tmp_path), "--max_steps", "2", *small, *evaluate])

    shown = capfd.readouterr()
    assert re.search(r"2/2 .*reward \d\.\d+, accuracy \d\.\d+, token ratio 0\.\d+, KL \d\.\d+", shown.err)
    assert "step 2, held out: " in shown.out + shown.err

    history = json.loads((tmp_path / "trainer_state.json").read_text())["log_history"]
    assert [entry["step"] for entry in history if "token_ratio" in entry] == [1, 2]
    assert 0 < next(entry["eval_token_ratio"] for entry in history if "eval_token_ratio" in entry) < 1

    trained = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype="auto")
    base = AutoModelForImageTextToText.from_pretrained(DEMO_MODEL, dtype="auto")
    assert trained.dtype == base.dtype == torch.bfloat16
    assert trained.state_dict().keys() == base.state_dict().keys()
    changed = {
        name for name, weight in trained.state_dict().items() if not torch.equal(weight, base.state_dict()[name])
    }
    assert changed
    assert not any("visual" in name for name in changed)
    assert (
        AutoProcessor.from_pretrained(tmp_path).chat_template == AutoProcessor.from_pretrained(DEMO_MODEL).chat_template
    )
    assert (tmp_path / "generation_config.json").read_text() == (DEMO_MODEL / "generation_config.json").read_text()
