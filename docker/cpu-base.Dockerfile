# The base of the image for machines without a GPU: vLLM's CPU build and the pinned packages the project is tested with.
# TORCH_INDEX is the address of PyTorch's index of CPU wheels; leave it out where pip finds them anyway.
# Models other than the demo need --enforce-eager: there is no compiler in it.
ARG BASE=debian:bookworm-slim
FROM ${BASE}
ARG TORCH_INDEX=
ARG TORCH_VERSION=2.13.0
ARG VLLM_VERSION=0.32.0

# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates libnuma1 python3 python3-pip \
    && rm -rf /var/lib/apt/lists/*

# Pinned too, but only for training, benchmarks and tests.
ARG NOT_SERVED="accelerate|contourpy|cycler|datasets|fonttools|graphql-core|harfile|hypothesis|hypothesis-graphql|importlib_resources|iniconfig|jsonschema_rs|kiwisolver|kubernetes-validate|matplotlib|multiprocess|pandas|pathspec|peft|pluggy|pyarrow|pyparsing|pyrate-limiter|pytest|pytest-timeout|python-dateutil|ruff|schemathesis|six|sortedcontainers|trl|tzdata|werkzeug|xxhash|yamllint"
# hadolint takes TORCH_INDEX for a package without a version.
# hadolint ignore=DL3013
RUN --mount=type=bind,source=constraints-cpu.txt,target=/tmp/constraints-cpu.txt \
    --mount=type=bind,source=docker/check_packages.py,target=/tmp/check_packages.py \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    grep -vE "^(${NOT_SERVED})==" /tmp/constraints-cpu.txt >/tmp/served.txt \
    && { python3 -m pip install --no-cache-dir --no-deps --break-system-packages \
            ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} "torch==${TORCH_VERSION}+cpu" \
        || { echo "No CPU build of torch ${TORCH_VERSION}: give the address of PyTorch's index of CPU wheels as" \
            "--build-arg TORCH_INDEX=ADDRESS." >&2; exit 1; }; } \
    && python3 -m pip install --no-cache-dir --no-deps --break-system-packages --requirement /tmp/served.txt \
    && python3 /tmp/check_packages.py --without torchaudio --without torchcodec \
        "vllm==${VLLM_VERSION}" "torch==${TORCH_VERSION}" \
    && rm /tmp/served.txt
