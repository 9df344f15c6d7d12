"""The start-up hook: installed, silent until torchvision is imported, and enough to import it beside CPU torch."""

import subprocess
import sys

import torch


def run_python(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_interpreter_start_imports_neither_torch_nor_torchvision():
    code = "import sys; print('winnow_torchvision' in sys.modules, {'torch', 'torchvision'} & set(sys.modules))"
    assert run_python(code) == "True set()"


def test_looking_for_torchvision_does_not_import_torch():
    code = "import sys, importlib.util as u; print(u.find_spec('torchvision').name, 'torch' in sys.modules)"
    assert run_python(code) == "torchvision False"


def test_torchvision_resizes_a_picture_in_a_fresh_process():
    code = (
        "import torchvision, torch\n"
        "from torchvision.transforms.v2 import functional\n"
        "print(functional.resize(torch.full((3, 8, 8), 7.0), [4, 4]).unique().tolist())"
    )
    assert run_python(code) == "[7.0]"


def test_operators_are_declared_only_for_a_torch_without_gpu_support():
    code = "import torchvision, winnow_torchvision; print(winnow_torchvision._library is not None)"
    declared = run_python(code)
    if torch.version.cuda is not None:
        assert declared == "False"
    else:
        assert declared in {"True", "False"}  # False where torchvision's own CPU build is installed
        assert run_python("import torchvision, torch; print(hasattr(torch.ops.torchvision, 'nms'))") == "True"


def test_installing_twice_leaves_one_finder():
    code = (
        "import sys, winnow_torchvision as hook\n"
        "hook.install(); hook.install()\n"
        "print(sum(isinstance(finder, hook.TorchvisionFinder) for finder in sys.meta_path))"
    )
    assert run_python(code) == "1"
