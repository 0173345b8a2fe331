"""Children that are forked from a process which has imported PyTorch: that import takes a second or two."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

from proxy import Child

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["torchvision"])
os.environ["OMP_NUM_THREADS"] = "1"  # libgomp reads it when it is loaded, which is in the server


class ForkedChild(Child):
    """As :class:`Child`."""

    def _begin(self, environment: dict[str, str], theirs: socket.socket, folder: Path) -> Any:
        return _Process(environment, theirs, folder, self.stdout_file, self.stderr_file)


class _Process:
    """The part of `subprocess.Popen` that :class:`Child` uses."""

    def __init__(self, *arguments: Any) -> None:
        self._process = _SERVER.Process(target=_child, args=arguments, daemon=True)
        self._process.start()
        self.pid = self._process.pid

    def wait(self, timeout: float) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("FluidFaaS.child", timeout)
        return self._process.exitcode


def _child(environment: dict[str, str], link: socket.socket, folder: Path, out: Path, err: Path) -> None:
    os.setsid()
    os.chdir(folder)
    for number, file in ((1, out), (2, err)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(environment | {"FFS_CHILD_FD": str(link.detach())})
    from FluidFaaS import child

    child.main()
