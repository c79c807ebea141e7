"""The CPU as PyTorch is to use it: the cores that the process has, and memory that it keeps."""

import ctypes
import sys

import torch

from kneeedge.system import machine

M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4
"of mallopt(3)"
NEVER = 2**31 - 1


def use_cpu() -> None:
    """Give PyTorch the cores of a container's share, which it does not know of, and keep memory.

    For processes that compute on the CPU until they end: what they freed stays with them.
    """
    torch.set_num_threads(max(1, min(torch.get_num_threads(), machine.available_cpus())))
    keep_memory()


def keep_memory() -> None:
    """Let the C library keep what is freed, where it is glibc: the next layer asks for as much.

    Else each large activation is new pages, which the system clears one by one: a third of the time
    of frozen blocks in bf16.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, NEVER)
