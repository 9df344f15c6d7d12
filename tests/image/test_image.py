"""The image, built on a base that holds Debian, Python and the names and versions of what vLLM's image has."""

import subprocess
import sys
import tomllib
import zipfile

import pytest

from tests.image.builder import ARBITRARY_UID, REPOSITORY
from tests.image.conftest import SITE_PACKAGES

# The first test makes Debian and builds.
pytestmark = pytest.mark.timeout(1800)

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(builder, tmp_path_factory) -> zipfile.ZipFile:
    """The wheel of this tree, made without an image."""
    folder = tmp_path_factory.mktemp("wheel")
    source = ["--no-deps", "--no-index", f"--find-links={builder.wheels}"]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", *source, f"--wheel-dir={folder}", REPOSITORY], check=True
    )
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_image_holds_the_whole_wheel_of_this_tree(builder, container, wheel):
    (record,) = (name for name in wheel.namelist() if name.endswith(".dist-info/RECORD"))
    expected = set(wheel.read(record).decode().splitlines())
    installed = builder.run(container, "cat", f"{SITE_PACKAGES}/{record}").stdout.splitlines()
    assert expected - set(installed) == set()


def test_it_says_what_it_is(builder, image, base):
    labels = builder.configuration(image)["Labels"]
    prefix = "org.opencontainers.image."
    assert labels[f"{prefix}title"] == "Winnow"
    assert labels[f"{prefix}version"] == PROJECT["version"]
    assert labels[f"{prefix}licenses"] == PROJECT["license"]
    assert labels[f"{prefix}revision"] == "0123abc"
    assert labels[f"{prefix}base.name"] == base


def test_it_starts_the_server_as_a_user_without_rights(builder, image):
    configuration = builder.configuration(image)
    assert configuration["User"] == "2000:0"
    assert configuration["Entrypoint"] == ["python3", "-m", "server", "--host", "0.0.0.0"]
    assert configuration["Cmd"] == ["--model", "demo"]
    assert configuration["ExposedPorts"] == {"8000/tcp": {}}
    assert configuration["WorkingDir"] == "/home/vllm"


def test_its_health_check_fails_where_no_server_runs(builder, image, container):
    kind, *command = builder.configuration(image)["Healthcheck"]["Test"]
    result = builder.run(container, *command)
    assert kind == "CMD"
    assert result.returncode == 1
    assert "The server does not answer" in result.stderr


@pytest.mark.parametrize("uid", [2000, ARBITRARY_UID])
def test_any_user_of_group_0_writes_to_the_home_folder_only(builder, container, uid):
    script = (
        'cd "$HOME" && touch .cache/huggingface/mine && rm .cache/huggingface/mine && id -u && id -g && '
        "python3 -c 'import getpass, pathlib; print(getpass.getuser(), pathlib.Path.home())' && "
        "find / -xdev -writable -not -type l -not -path '/proc/*' -not -path '/sys/*' -not -path '/dev/*'"
    )
    result = builder.run(container, "sh", "-c", script, user=f"{uid}:0")
    user_id, group_id, who, *writable = result.stdout.splitlines()
    assert (user_id, group_id, who) == (str(uid), "0", "vllm /home/vllm")
    own = ("/home/vllm", "/tmp", "/var/tmp", "/run/lock")
    assert [path for path in writable if not path.startswith(own)] == []


def test_nothing_of_the_build_stays(builder, container):
    script = "ls -d /source /wheel /tmp/* /root/.cache /etc/pip.conf 2>/dev/null; true"
    assert builder.run(container, "sh", "-c", script, user="0:0").stdout.split() == []


def test_the_start_up_hook_is_installed(builder, container):
    result = builder.run(container, "python3", "-c", "import sys; print('winnow_torchvision' in sys.modules)")
    assert result.stdout.strip() == "True"


def test_a_user_that_the_base_brings_is_kept(builder, make_base):
    command = "RUN useradd --uid 2000 --gid 0 --create-home --home-dir /home/vllm --shell /bin/bash vllm\n"
    base = make_base("vllm-openai:with-user", commands=command)
    container = builder.container(builder.build(REPOSITORY / "Dockerfile", "winnow:with-user", BASE=base))
    lines = builder.run(container, "sh", "-c", "getent passwd 2000; stat -c '%u %g %a' /home/vllm").stdout.splitlines()
    assert lines == ["vllm:x:2000:0::/home/vllm:/bin/bash", "2000 0 775"]


def test_a_base_with_other_versions_is_refused(builder, make_base):
    base = make_base("vllm-openai:other", vllm="0.31.1", torch="2.12.0+cu129", transformers="4.57.0")
    result = builder.try_build(REPOSITORY / "Dockerfile", "winnow:refused", BASE=base)
    assert result.returncode != 0
    for fault in (
        "vllm is 0.31.1, but 0.32.0 is needed.",
        "torch is 2.12.0+cu129, but 2.13.0 is needed.",
        "winnow-serve 0.1.0 has requirement transformers",
    ):
        assert f"This image does not fit: {fault}" in result.stdout
