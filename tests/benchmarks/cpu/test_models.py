"""Models by name and by folder, and what their KV cache takes."""

import json

import pytest

from benchmarks.cpu.models import ASSETS, Model
from benchmarks.cpu.options import checked_models, checked_sparsity_p
from benchmarks.errors import BenchmarkError


def test_kv_bytes_by_hand():
    model = Model.find("demo")
    # 4 layers x (key + value) x 2 heads x 32 numbers of 4 bytes.
    assert model.kv_bytes_per_token == 2048
    # 65 tokens take 3 blocks of 32; 2 requests and the null block.
    assert model.kv_bytes(2, 65) == 7 * 32 * 2048


def test_a_folder_is_a_model_under_its_own_name(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text((ASSETS / "demo" / "config.json").read_text())
    model = Model.find(str(tmp_path / "mine"))
    assert (model.name, model.path) == ("mine", tmp_path / "mine")


def test_unknown_models_are_refused():
    with pytest.raises(BenchmarkError, match=r"model is 'nothing', but must be one of demo.* or a folder"):
        Model.find("nothing")


def test_other_architectures_are_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 8}))
    with pytest.raises(BenchmarkError, match=r"does not describe a Qwen2.5-VL \(KeyError: 'text_config'\)"):
        Model.find(str(tmp_path))


def test_two_folders_of_one_name_are_refused(tmp_path):
    for parent in ("a", "b"):
        (tmp_path / parent / "same").mkdir(parents=True)
        (tmp_path / parent / "same" / "config.json").write_text((ASSETS / "demo" / "config.json").read_text())
    with pytest.raises(BenchmarkError, match="two of them have one name"):
        checked_models([str(tmp_path / parent / "same") for parent in ("a", "b")])
    assert len(checked_models(["demo", "demo"])) == 1


def test_sparsity_p_is_checked_and_taken_once():
    assert checked_sparsity_p([1, 0.9, 1.0]) == [1.0, 0.9]
    with pytest.raises(BenchmarkError, match=r"--sparsity-p: sparsity_p is 1\.5, but must be"):
        checked_sparsity_p([1.5])
