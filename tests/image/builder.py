"""Debian's image tools, which need no daemon and no registry: mmdebstrap makes root file systems, buildah images."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
TOOLS = ("buildah", "mmdebstrap")

# Both tools need root: mmdebstrap for device files, buildah for a chroot.
AS_ROOT = () if os.geteuid() == 0 else ("sudo", "--non-interactive")
BUILD_TIMEOUT_S = 1800

# An id that no image knows, such as OpenShift gives to a pod.
ARBITRARY_UID = 1000650000


def missing_tools() -> str:
    """Why no image can be built here; empty when it can."""
    missing = [name for name in TOOLS if shutil.which(name) is None]
    if missing:
        return f"{' and '.join(missing)} not installed (Debian: apt install {' '.join(TOOLS)})"
    if AS_ROOT and subprocess.run([*AS_ROOT, "true"], capture_output=True, check=False).returncode != 0:
        return "images are built as root, and sudo asks for a password"
    return ""


@dataclass(frozen=True)
class Builder:
    """buildah with a storage of its own.

    Args:
        storage: where images and containers lie.
        driver: overlay, or vfs where the kernel lets nobody mount overlays; it copies whole images.
        wheels: a folder of wheels; the only packages that pip finds during a build.
    """

    storage: Path
    wheels: Path
    driver: str = "overlay"

    def works(self) -> bool:
        """Whether containers can be made and mounted with this driver."""
        created = self._buildah("from", "--name", "probe", "scratch")
        return created.returncode == 0 and self._buildah("mount", "probe").returncode == 0

    def build(self, dockerfile: Path, tag: str, *, context: Path = REPOSITORY, **arguments: str) -> str:
        """Build an image; a failed build is an AssertionError with the end of its output.

        Args:
            dockerfile: also says what to build.
            tag: the image's name.
            context: the folder that the Dockerfile copies from.
            arguments: build arguments.

        Returns:
            The tag.
        """
        result = self.try_build(dockerfile, tag, context=context, **arguments)
        assert result.returncode == 0, result.stdout[-6000:]
        return tag

    def try_build(
        self, dockerfile: Path, tag: str, *, context: Path = REPOSITORY, **arguments: str
    ) -> subprocess.CompletedProcess:
        """Build an image that may fail to build; its output is one text."""
        return self._buildah(
            "build", "--pull-never", "--isolation", "chroot", "--format", "docker", "--quiet",
            "--volume", f"{self.wheels}:/wheels:ro", "--secret", f"id=pip,src={self._pip_configuration()}",
            *(word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")),
            "--file", dockerfile, "--tag", tag, context, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def _pip_configuration(self) -> Path:
        path = self.storage.parent / "pip.conf"
        path.write_text("[global]\nno-index = true\nfind-links = /wheels\n")
        return path

    def configuration(self, image: str) -> dict:
        """What the image says about itself, in Docker's form."""
        description = json.loads(self._output("inspect", "--type", "image", image))
        return description["Docker"]["config"]

    def container(self, image: str) -> str:
        """A working container of the image."""
        return self._output("from", "--pull-never", "--isolation", "chroot", image)

    def run(self, container: str, *command: str, user: str | None = None) -> subprocess.CompletedProcess:
        """Run a command in a container, as the image's user unless another is given."""
        identity = () if user is None else ("--user", user)
        return self._buildah("run", "--isolation", "chroot", *identity, container, "--", *command)

    def mount(self, container: str) -> Path:
        """The container's root file system."""
        return Path(self._output("mount", container))

    def remove_everything(self) -> None:
        self._buildah("umount", "--all")
        self._buildah("rm", "--all")
        subprocess.run([*AS_ROOT, "rm", "--recursive", "--force", self.storage], check=True)

    def _output(self, *words: object) -> str:
        result = self._buildah(*words)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    def _buildah(self, *words: object, stderr: int = subprocess.PIPE) -> subprocess.CompletedProcess:
        command = [
            *AS_ROOT, "buildah", "--root", self.storage / "images", "--runroot", self.storage / "run",
            "--storage-driver", self.driver, *words,
        ]  # fmt: skip
        return subprocess.run(
            [str(word) for word in command],
            stdout=subprocess.PIPE, stderr=stderr, text=True, timeout=BUILD_TIMEOUT_S, check=False,
        )  # fmt: skip


def make_debian(archive: Path, *packages: str) -> None:
    """Write the root file system of Debian bookworm with a few packages to a tar archive."""
    command = [*AS_ROOT, "mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(packages)}", "bookworm"]
    subprocess.run([*command, str(archive)], check=True, timeout=BUILD_TIMEOUT_S)


def download_wheels(folder: Path, *requirements: str) -> None:
    """Fetch wheels as this machine's pip is configured to."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--dest", str(folder)]
    subprocess.run([*command, *requirements], check=True, timeout=BUILD_TIMEOUT_S)
