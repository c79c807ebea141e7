"""What a terminal is shown: text that others wrote steers it nowhere."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.segment import Segment


def harmless(text: str, kept: str = "\n\t") -> str:
    r"""Text whose control characters, but for those `kept`, a terminal shows and does not obey.

    What a model file or a file name says was written by others. Bytes of a name that are no UTF-8
    appear as \udc80 to \udcff.
    """

    def shown(char: str) -> str:
        if char.isprintable() or char in kept:
            return char
        return char.encode("unicode_escape").decode("ascii")

    return "".join(map(shown, text))


class HarmlessConsole(Console):
    """A console whose tables and lines are `harmless`; its own styles are not touched."""

    def render(self, *arguments: Any, **options: Any) -> Iterable[Segment]:
        for segment in super().render(*arguments, **options):
            yield segment if segment.control else segment._replace(text=harmless(segment.text))
