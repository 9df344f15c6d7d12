"""Cases by name, and what every one of them offers."""

import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path

import pytest

from benchmarks import registry
from benchmarks.errors import BenchmarkError
from benchmarks.registry import CASES, DEVICES, case_of, load, module_name
from measurement.results import Result

ROOT = Path(__file__).parents[2]
MODULES = sorted({module for case in CASES.values() for module in case.modules.values()})


def test_every_module_belongs_to_a_case():
    found = {path.stem for path in (ROOT / "benchmarks" / "cases").glob("*.py")} - {"__init__"}
    assert found == set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_offers_what_a_case_must(module):
    case = load(module)
    parser = ArgumentParser()
    case.add_arguments(parser)
    defaults = vars(parser.parse_args([]))
    assert set(getattr(case, "SHORT", {})) <= set(defaults)
    # Options of the command line itself.
    assert not {"out", "device", "short", "update_readme", "case"} & set(defaults)
    assert all(callable(getattr(case, name)) for name in ("run", "table", "figures"))


def test_cases_name_known_devices():
    assert {device for case in CASES.values() for device in case.modules} == set(DEVICES)


@pytest.mark.parametrize(
    ("name", "device", "message"),
    [
        pytest.param("speed", "cpu", "case is 'speed', but must be one of quality, capacity", id="unknown case"),
        pytest.param("kernels", "cpu", "kernels runs on cuda only", id="other device"),
    ],
)
def test_unknown_names_are_refused(name, device, message):
    with pytest.raises(BenchmarkError, match=message):
        module_name(name, device)


def test_a_result_finds_its_module_by_what_its_case_begins_with():
    found = case_of(Result("quality-keys", {}, {}, {}, [], []))
    assert found.__name__ == "benchmarks.cases.quality"
    with pytest.raises(BenchmarkError, match="case of the result is 'evaluation', but must begin with one of"):
        case_of(Result("evaluation", {}, {}, {}, [], []))


def test_a_missing_package_is_named(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("No module named 'vllm'", name="vllm")

    monkeypatch.setattr(registry, "import_module", missing)
    with pytest.raises(BenchmarkError, match="needs vllm, which is not installed"):
        load("serve")


def test_knowing_the_cases_imports_none_of_them():
    code = (
        "import sys; from benchmarks.__main__ import main; main(['list']); "
        "print(sorted({'vllm', 'torch', 'matplotlib'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
