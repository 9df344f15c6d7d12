"""A root file system started as Kubernetes starts a restricted pod, with nothing but Linux's own tools.

Own mount and process namespaces, a root that cannot be written, fresh /tmp and home, an unknown user id in group 0, no
capability and no way to one. What is missing: the seccomp filter, resource limits and an own network.
"""

import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.image.builder import ARBITRARY_UID, AS_ROOT
from tests.server.harness import START_TIMEOUT_S, STOP_TIMEOUT_S, wait_until

# What runtimes set where an image says nothing.
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEVICES = ("null", "zero", "full", "random", "urandom")

# Runs as root in the new namespaces; the process that it becomes is the container's first.
START = """
set -eu
mount --bind {root} {root}
mount -t proc proc {root}/proc
mount --rbind /sys {root}/sys
mount -o remount,bind,ro {root}/sys
touch {root}/etc/hosts
mount --bind /etc/hosts {root}/etc/hosts
mount -t tmpfs -o mode=755 tmpfs {root}/dev
for device in {devices}; do touch {root}/dev/$device; mount --bind /dev/$device {root}/dev/$device; done
mkdir {root}/dev/shm
mount -t tmpfs -o mode=1777 tmpfs {root}/dev/shm
mount -t tmpfs -o mode=1777 tmpfs {root}/tmp
mount -t tmpfs -o mode=2775,gid=0 tmpfs {root}{home}
mount -o remount,bind,ro {root}
exec chroot {root} {command}
"""

# Becomes the user of a restricted pod.
RESTRICTED = (
    f"setpriv --reuid={ARBITRARY_UID} --regid=0 --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs"
)


@dataclass(frozen=True)
class Pod:
    """A running container without a container runtime.

    Attributes:
        process: what started it.
        pid: its first process, as seen from outside.
        log: its output.
    """

    process: subprocess.Popen
    pid: int
    log: Path
    environment: tuple[str, ...]

    def execute(self, *command: str) -> subprocess.CompletedProcess:
        """Run a command beside the first process, as `kubectl exec` and a health check do."""
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--root", "--wd"]
        return subprocess.run(
            [*AS_ROOT, *enter, *RESTRICTED.split(), "env", "-i", *self.environment, *command],
            capture_output=True,
            text=True,
            check=False,
        )

    def terminate(self, drain_s: float) -> int:
        """Send the container's first process the signal that the kubelet sends, and wait for its exit status.

        Args:
            drain_s: what the server gives to requests in flight.
        """
        subprocess.run([*AS_ROOT, "kill", f"-{signal.SIGTERM.value}", str(self.pid)], check=True)
        return self.process.wait(drain_s + STOP_TIMEOUT_S)


@contextmanager
def running_pod(root: Path, configuration: dict, arguments: list[str], log: Path) -> Iterator[Pod]:
    """Start an image's entry point.

    Args:
        root: its root file system.
        configuration: the image's.
        arguments: instead of its command.
        log: where its output goes.
    """
    environment = (PATH, *configuration["Env"])
    home = configuration["WorkingDir"]
    command = [
        *RESTRICTED.split(), "env", "-i", "-C", home, *environment, *configuration["Entrypoint"], *arguments,
    ]  # fmt: skip
    script = START.format(
        root=shlex.quote(str(root)), home=home, devices=" ".join(DEVICES), command=shlex.join(command)
    )
    launcher = [*AS_ROOT, "unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script]
    with log.open("w") as log_file:
        process = subprocess.Popen(launcher, stdout=log_file, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: _first_process(process.pid) or process.poll() is not None, START_TIMEOUT_S, "the start")
        assert process.poll() is None, log.read_text()
        yield Pod(process, _first_process(process.pid), log, environment)
    finally:
        if process.poll() is None:
            # All others of its namespace end with the first process.
            subprocess.run([*AS_ROOT, "kill", "-9", str(_first_process(process.pid) or process.pid)], check=True)
            process.wait(STOP_TIMEOUT_S)


def _first_process(pid: int) -> int | None:
    """The process below the launcher that is the first of its namespace."""
    try:
        for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
            # Its id in every namespace that it is in, this one first.
            _, *pids = re.search(r"^NSpid:.*$", Path(f"/proc/{child}/status").read_text(), re.MULTILINE)[0].split()
            return child if len(pids) > 1 and pids[-1] == "1" else _first_process(child)
    except FileNotFoundError:  # it just ended
        return None
    return None
