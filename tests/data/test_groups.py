"""Groups: who belongs together, and the way there and back through a file."""

import subprocess
import sys

import pytest

from kneeedge.data.groups import NEAR, Pair, groups, read_groups, write_groups
from kneeedge.errors import DataError


def test_groups_are_the_connected_components() -> None:
    pairs = [
        Pair(first=first, second=second, kind=NEAR, similarity=0.9, how="re-encoded")
        for first, second in (("b", "d"), ("a", "d"), ("e", "f"))
    ]
    group_of = groups(["f", "e", "d", "c", "b", "a"], pairs)
    assert group_of == {"a": "a", "b": "a", "d": "a", "c": "c", "e": "e", "f": "e"}


def test_groups_survive_the_way_through_the_file(tmp_path):
    group_of = {"a,b.png": "x", 'Ö "q"/\udce9.png': "x", "c.png": "c.png"}
    write_groups(group_of, tmp_path / "groups.csv")
    assert read_groups(tmp_path / "groups.csv") == group_of


@pytest.mark.parametrize(
    "text", ["path,patient\na,b\n", "path,group\na,\n", "path,group\na,b\na,c\n"]
)
def test_a_file_that_is_no_table_of_groups_is_refused(text, tmp_path):
    (tmp_path / "groups.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError):
        read_groups(tmp_path / "groups.csv")


def test_groups_are_read_without_the_extra():
    code = (
        "import sys\nsys.modules['scipy'] = sys.modules['sklearn'] = sys.modules['torch'] = None\n"
        "from kneeedge.data.groups import read_groups"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
