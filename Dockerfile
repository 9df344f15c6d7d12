# Winnow on an image that already has Python, vLLM and torch. `docs/deploy.md` has the commands.
# - With a GPU: the default base is vLLM's own CUDA image.
# - Without one: BASE is the image that docker/cpu-base.Dockerfile makes.
# A private package index is given as `--secret id=pip,src=pip.conf`, and leaves no trace in the image.
ARG BASE=vllm/vllm-openai:v0.32.0

FROM ${BASE} AS wheel
# hadolint ignore=DL3002
USER 0
WORKDIR /source
COPY . .
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

FROM ${BASE}
ARG VERSION=0.1.0
ARG VLLM_VERSION=0.32.0
ARG TORCH_VERSION=2.13.0
# Set it for one model on several nodes: vLLM's image brings no Ray.
ARG RAY_VERSION=

USER 0
RUN --mount=type=bind,from=wheel,source=/wheel,target=/tmp/wheel \
    --mount=type=bind,source=docker/check_packages.py,target=/tmp/check_packages.py \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    if [ -n "${RAY_VERSION}" ]; then \
        python3 -m pip install --no-cache-dir --break-system-packages "ray==${RAY_VERSION}"; \
    fi \
    && python3 -m pip install --no-cache-dir --no-deps --break-system-packages /tmp/wheel/*.whl \
    && python3 /tmp/check_packages.py --of winnow-serve \
        "winnow-serve==${VERSION}" "vllm==${VLLM_VERSION}" "torch==${TORCH_VERSION}"

# Group 0 may do what the user may: a cluster that chooses the user id puts it into that group.
# The server writes to its home and to /tmp only, so the rest of the file system can be read-only.
# Some builders leave the places of mounts behind in /tmp.
RUN { getent passwd 2000 || useradd --uid 2000 --gid 0 --no-create-home --home-dir /home/vllm vllm; } \
    && mkdir -p /home/vllm/.cache/huggingface \
    && chown -R 2000:0 /home/vllm \
    && chmod -R g=u /home/vllm \
    && rm -rf /tmp/*
# An id without an entry in /etc/passwd has no home and no name but these.
ENV HOME=/home/vllm \
    USER=vllm \
    LOGNAME=vllm

USER 2000:0
WORKDIR /home/vllm
EXPOSE 8000
# A model may be downloaded first: as long as the chart's startup probe waits.
HEALTHCHECK --start-period=30m --interval=30s --timeout=10s --retries=3 CMD ["python3", "-m", "server.health"]
# Reachable from outside the container; a --host of the command line comes later and wins.
ENTRYPOINT ["python3", "-m", "server", "--host", "0.0.0.0"]
CMD ["--model", "demo"]

ARG BASE
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Winnow" \
      org.opencontainers.image.description="OpenAI-compatible vision-language server with Top-p sparse attention, on vLLM" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}"
