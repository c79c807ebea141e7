"""`make audit` names all that the wheel brings, and fails on a licence that is not allowed."""

import pytest

from benchmarks.licences import ALLOWED, audit, is_allowed

pytestmark = pytest.mark.torch


def test_all_that_is_installed_for_the_wheel_may_be_used():
    rows = audit()
    installed = {row.name for row in rows if row.version}
    assert [row for row in rows if not row.allowed] == []
    assert {"numpy", "pillow", "rich", "typer", "onnxruntime"} <= installed
    assert {"torch", "pydicom", "cryptography"} <= installed


def test_what_a_dependency_brings_is_listed_as_well():
    rows = {row.name: row for row in audit()}
    of_rich = rows["markdown-it-py"]
    of_torch = rows["sympy"]
    assert (of_rich.brought_by, of_torch.brought_by) == ("base", "train")


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT", True),
        ("Apache-2.0 OR BSD-3-Clause", True),
        ("GPL-3.0-only OR MIT", True),
        ("MIT AND GPL-3.0-only", False),
        ("(MIT OR Apache-2.0) AND BSD-3-Clause", True),
        ("AGPL-3.0-or-later", False),
        ("none stated", False),
        ("Apache-2.0 WITH LLVM-exception", True),
    ],
)
def test_a_licence_that_is_not_allowed_fails(licence, allowed):
    assert is_allowed("some-package", licence) == allowed


def test_no_licence_that_binds_the_whole_work_is_allowed():
    assert not [name for name in ALLOWED if "GPL" in name]
