"""The short set: with cases made up here, because the real ones take minutes."""

import sys
from types import ModuleType

import pytest

from benchmarks import running
from benchmarks.errors import BenchmarkError, NoCudaDevice
from benchmarks.registry import CaseInfo
from benchmarks.running import device_for, run
from measurement.results import Result, read

BOTH = {"cpu": "here", "cuda": "there"}


def made_up(name: str, short: dict | None, error: str | None = None) -> ModuleType:
    """A case with one option; its result says what it was given."""
    module = ModuleType(f"benchmarks.cases.{name}")

    def measure(args):
        if error:
            raise BenchmarkError(error)
        return Result(name, {"steps": args.steps, "device": args.device}, {}, {}, [], [])

    module.add_arguments = lambda parser: parser.add_argument("--steps", type=int, default=1000)
    module.run = measure
    module.table = lambda result: f"table of {result.case}"
    if short is not None:
        module.SHORT = short
    return module


@pytest.fixture
def cases(monkeypatch) -> None:
    """Four cases: fine, without a short form, failing, and fine."""
    modules = {
        "first": made_up("first", {"steps": 3}),
        "long": made_up("long", None),
        "broken": made_up("broken", {}, "tokens differ from stock vLLM's"),
        "last": made_up("last", {"steps": 4}),
    }
    for module in modules.values():
        monkeypatch.setitem(sys.modules, module.__name__, module)
    infos = {name: CaseInfo(f"summary of {name}", "none", {"cpu": name, "cuda": name}) for name in modules}
    monkeypatch.setattr(running, "CASES", infos)
    monkeypatch.setattr("benchmarks.registry.CASES", infos)


@pytest.mark.usefixtures("cases")
def test_the_short_set_runs_on_after_a_case_that_cannot_measure_and_says_so(tmp_path, capsys):
    with pytest.raises(BenchmarkError, match="1 of the short set could not measure: broken"):
        run(["--short", "--out", str(tmp_path)])
    out, err = capsys.readouterr()
    results = {result.case: result for result in map(read, tmp_path.iterdir())}
    assert {name: result.arguments["steps"] for name, result in results.items()} == {"first": 3, "last": 4}
    assert "table of first" in out
    assert f"-m benchmarks report --results {tmp_path}" in out
    assert "broken: tokens differ from stock vLLM's" in err
    assert "3/3" in err


@pytest.mark.usefixtures("cases")
def test_one_case_in_short_form_and_an_option_that_wins(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run(["first", "--short"])
    run(["last", "--short", "--steps", "9", "--out", "mine"])
    (short,), (mine,) = (tmp_path / "runs" / "bench").iterdir(), (tmp_path / "mine").iterdir()
    assert (read(short).arguments["steps"], read(mine).arguments["steps"]) == (3, 9)
    with pytest.raises(BenchmarkError, match="long has no short form here"):
        run(["long", "--short"])


@pytest.mark.usefixtures("cases")
def test_a_case_that_cannot_measure_writes_nothing(tmp_path):
    with pytest.raises(BenchmarkError, match="tokens differ"):
        run(["broken", "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("asked", "modules", "has_cuda", "device"),
    [
        pytest.param("auto", BOTH, False, "cpu", id="auto without GPU"),
        pytest.param("auto", BOTH, True, "cuda", id="auto with GPU"),
        pytest.param("cuda", BOTH, True, "cuda", id="GPU asked for"),
        pytest.param("cuda", BOTH, False, NoCudaDevice, id="GPU asked for, none there"),
        pytest.param("auto", {"cuda": "there"}, False, NoCudaDevice, id="GPU case without GPU"),
        pytest.param("cpu", BOTH, True, BenchmarkError, id="CPU where vLLM takes the GPU"),
    ],
)
def test_device(asked, modules, has_cuda, device, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: has_cuda)
    if isinstance(device, str):
        assert device_for(asked, modules) == device
    else:
        with pytest.raises(device):
            device_for(asked, modules)
