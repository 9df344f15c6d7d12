"""Options that the CPU cases share, and the rules for their values."""

import argparse
from collections.abc import Iterable, Sequence

from attention_backend.errors import InvalidSparsityP
from attention_backend.request import check_sparsity_p
from benchmarks.cpu.models import Model
from benchmarks.errors import BenchmarkError

SEED = 5


def add_models(parser: argparse.ArgumentParser, default: Sequence[str]) -> None:
    """`--models`."""
    parser.add_argument(
        "--models", nargs="+", default=list(default), help="bundled models or folders (default: %(default)s)"
    )


def add_sparsity_p(parser: argparse.ArgumentParser, default: Sequence[float]) -> None:
    """`--sparsity-p`."""
    parser.add_argument(
        "--sparsity-p", type=float, nargs="+", default=list(default), help="values of ours (default: %(default)s)"
    )


def add_scenes(parser: argparse.ArgumentParser, option: str, default: Sequence[str], choices: Iterable[str]) -> None:
    """Kinds of prompts, by their names in `benchmarks.engine.scenes`."""
    parser.add_argument(
        option,
        nargs="+",
        default=list(default),
        choices=choices,
        metavar="SCENES",
        help=f"of the prompts: {', '.join(choices)} (default: %(default)s)",
    )


def add_count(parser: argparse.ArgumentParser, option: str, default: int, what: str) -> None:
    """A whole number of at least 1."""
    parser.add_argument(option, type=int, default=default, help=f"{what} (default: %(default)s)")


def add_seed(parser: argparse.ArgumentParser) -> None:
    """`--seed`."""
    parser.add_argument("--seed", type=int, default=SEED, help="of the held-out questions (default: %(default)s)")


def check_counts(args: argparse.Namespace, *names: str) -> None:
    """Raises:
    BenchmarkError: one of these arguments is below 1.
    """
    for name in names:
        value = getattr(args, name)
        if min(value if isinstance(value, list) else [value]) < 1:
            raise BenchmarkError(f"--{name.replace('_', '-')} is {value}, but must be at least 1. Raise it.")


def checked_sparsity_p(values: Sequence[float]) -> list[float]:
    """The values once each, in their order.

    Raises:
        BenchmarkError: one of them is not in (0, 1].
    """
    try:
        return list(dict.fromkeys(check_sparsity_p(value) for value in values))
    except InvalidSparsityP as error:
        raise BenchmarkError(f"--sparsity-p: {error}") from error


def checked_models(names: Sequence[str]) -> list[Model]:
    """The models once each, in their order.

    Raises:
        BenchmarkError: there is no such model, or two folders would stand under one name.
    """
    models = list(dict.fromkeys(Model.find(name) for name in names))
    if len({model.name for model in models}) < len(models):
        raise BenchmarkError(f"--models is {list(names)}, but two of them have one name. Rename a folder.")
    return models
