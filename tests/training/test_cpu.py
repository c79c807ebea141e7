"""The CPU as PyTorch is to use it: memory that is freed is there for the next layer."""

import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.torch,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the C library's own way, as glibc has it"),
]

PAGES = """
import resource
import sys
import torch
from kneeedge.training.cpu import use_cpu

if sys.argv[1] == "kept":
    use_cpu()
for _ in range(30):  # the first few may each leave a gap that is too small for the next
    torch.ones(64 * 2**20, dtype=torch.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    torch.ones(64 * 2**20, dtype=torch.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def new_pages(how: str) -> int:
    """Pages that the system cleared for four times 64 MiB, as many of which had just been freed."""
    code = [sys.executable, "-c", PAGES, how]
    return int(subprocess.run(code, capture_output=True, text=True, check=True).stdout)


def test_freed_memory_is_taken_again_without_new_pages() -> None:
    assert new_pages("kept") < new_pages("given back") / 10
