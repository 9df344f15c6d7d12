"""Lets torchvision be imported beside a CPU-only torch.

vLLM's image processing imports torchvision, and the package index has no CPU build of it. The build that is there
links against CUDA; beside a CPU-only torch its extension cannot be loaded, and `import torchvision` then ends with
"operator torchvision::nms does not exist", although the Python parts (all that image and video processing needs) would
work. Declaring the two missing operators is enough.

It must happen in every process, before the first `import torchvision`: spawned engine processes and vLLM's
model-inspection subprocess import it long before any plugin is loaded. So `winnow_torchvision.pth`, installed beside
this module, runs `install()` when the interpreter starts. That only puts one finder in front of `sys.meta_path`.
Nothing else happens until torchvision itself is imported, and nothing at all when torch is built for a GPU or when the
extension loads.
"""

import sys

MISSING_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

_library = None  # keeps the declarations alive: torch forgets them with the Library object


def install() -> None:
    """Puts the finder in front of the import system, once."""
    if not any(isinstance(finder, TorchvisionFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, TorchvisionFinder())


def declare_missing_operators(extension_path: str) -> bool:
    """Declares torchvision's operators if torch is CPU-only and the extension at `extension_path` cannot be loaded.

    Returns:
        True if the operators were declared, False if torchvision is complete (or is not ours to mend).
    """
    global _library
    import torch

    if _library is not None or torch.version.cuda is not None or torch.version.hip is not None:
        return False
    try:
        torch.ops.load_library(extension_path)
    except OSError:
        _library = torch.library.Library("torchvision", "DEF")
        for operator in MISSING_OPERATORS:
            _library.define(operator)
        return True
    return False


class TorchvisionFinder:
    """Finds torchvision as Python would, with a loader that first completes the operators."""

    def find_spec(self, name, path=None, target=None):
        if name != "torchvision":
            return None
        from importlib.machinery import PathFinder, SourceFileLoader

        spec = PathFinder.find_spec(name, path, target)
        if spec is None or type(spec.loader) is not SourceFileLoader:
            return None

        class TorchvisionLoader(SourceFileLoader):
            def exec_module(self, module):
                declare_missing_operators(self.path.replace("__init__.py", "_C.so"))
                super().exec_module(module)

        spec.loader = TorchvisionLoader(spec.loader.name, spec.loader.path)
        return spec
