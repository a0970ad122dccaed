"""What several training processes must agree on, how processes end, what they hold, whose a folder is.

Together they compute what one process with the whole batch would.

A loss is a sum over objects, cells or voxels divided by how many there are. DistributedDataParallel averages
the gradients of W processes, each of which sees a part of the batch: with every process dividing by its own
count, a part with few objects would weigh as much as one with many. Dividing by `shared_count` (all
processes' count over W) makes the average exact.
"""
from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor
from torch import distributed as dist


def process_count() -> int:
    """How many processes train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def summed(values: Tensor) -> Tensor:
    """Sum over all processes, without gradient; the same tensor where there is one process.

    Every process must call it.
    """
    if process_count() == 1:
        return values
    total = values.detach().clone()
    dist.all_reduce(total)
    return total


def shared_count(
    count: Tensor | float, minimum: float = 1.0, device: torch.device | str | None = None
) -> Tensor:
    """What a loss of this process divides its sum by.

    The count of all processes, at least `minimum`, over the number of processes.

    Args:
        count: of this process, any shape.
        minimum: keeps a batch without objects from dividing by zero.
        device: of a count that is a plain number (nccl reduces on GPUs only).
    """
    count = torch.as_tensor(count, dtype=torch.float32, device=device)
    return summed(count).clamp(min=minimum) / process_count()


def die_with_parent(parent: int) -> None:
    """End this process when its parent ends, however that one ends (Linux; elsewhere nothing happens).

    A worker that waits to hand on a batch would otherwise wait for ever after its parent was killed.

    Args:
        parent: process id of the parent, which may be gone by now.
    """
    if not sys.platform.startswith('linux'):
        return
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def terminate_as_interrupt() -> None:
    """Let SIGTERM raise KeyboardInterrupt, as SIGINT does: workers end and locks open on the way out."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def peak_memory_mb() -> float:
    """The most memory this process itself has held so far (resident)."""
    try:
        # getrusage also counts what the process was started from
        with open('/proc/self/status', encoding='ascii') as file:
            return next(int(line.split()[1]) for line in file if line.startswith('VmHWM:')) / 1024
    except (OSError, StopIteration):
        import resource  # not on every system

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


LOCK = '.lock'


class FolderInUseError(RuntimeError):
    """Another process works in the folder."""


class FolderLock:
    """Hold a folder for this process, until `release` or its end, however it ends.

    Args:
        folder: made where it does not exist.
        work: what is done there, for the message.

    Raises:
        FolderInUseError: another process holds it; names that one.
    """

    def __init__(self, folder: str | Path, work: str) -> None:
        self.path = Path(folder) / LOCK
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file: BinaryIO = self.path.open('a+b')
        if not _lock(file):
            file.seek(0)
            holder = file.read(1000).decode(errors='replace').strip() or 'an unknown process'
            file.close()
            raise FolderInUseError(f'{self.path.parent}: in use by {holder}; take another folder, or wait')

        file.truncate(0)
        began = datetime.now().isoformat(' ', 'seconds')
        file.write(f'{work}, process {os.getpid()} on {socket.gethostname()} since {began}\n'.encode())
        file.flush()
        self._file: BinaryIO | None = file

    def release(self) -> None:
        """Let others in; the file stays, empty."""
        if self._file is not None:
            self._file.truncate(0)
            # forked workers have the file open, too: closing it here would leave it locked
            _unlock(self._file)
            self._file.close()
            self._file = None


def _unlock(file: BinaryIO) -> None:
    try:
        import fcntl
    except ImportError:
        return
    fcntl.flock(file, fcntl.LOCK_UN)


def _lock(file: BinaryIO) -> bool:
    """Whether the lock was free; where the system has no locks of this kind every one is."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
