"""Runs a command that ends when the process that started it ends, however that ends.

`python -m kneeedge.system.leash COMMAND ARGUMENTS…` becomes that command.
"""

import os
import sys

from kneeedge.system.processes import end_with_parent


def main() -> None:
    end_with_parent()
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - a shell is what it is not to be


if __name__ == "__main__":
    main()
