"""What makes a run depend on its own seed and settings alone, and use the machine well."""

import ctypes
import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch


def derive(seed: int, *labels: str | int) -> int:
    """A seed for one purpose of a run: independent of the seeds for its other purposes."""
    text = ":".join(map(str, (seed, *labels)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def generator(device: torch.device | str, seed: int, *labels: str | int) -> torch.Generator:
    """A generator on a device, seeded for one purpose of a run."""
    return torch.Generator(device).manual_seed(derive(seed, *labels))


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with `count` threads. The number of threads changes sums in their last bits, so a run fixes it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@cache
def keep_freed_memory() -> None:
    """Let glibc keep what a step frees.

    By default it hands large blocks back to the kernel, and each step faults its activations in anew: a third to a
    half of a small model's training time on a CPU.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "gnu_get_libc_version"):
            trim_threshold, mmap_threshold = -1, -3
            libc.mallopt(mmap_threshold, 1 << 30)
            libc.mallopt(trim_threshold, (1 << 31) - 1)
