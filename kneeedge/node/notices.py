"""What is said of peers: each notice at once, and no more than once a minute."""

import threading
import time
from collections.abc import Callable

AGAIN_SECONDS = 60.0
MOST = 256
"notices that are remembered; hostile peers may cause many different ones"


class Notices:
    """Says notices for several threads."""

    def __init__(
        self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say = say
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[float, int]] = {}
        "when each was said last, and how often it came since"

    def say(self, notice: str) -> None:
        """Say it, with how often it came since it was said last."""
        with self._lock:
            now = self._clock()
            said, n_since = self._seen.pop(notice, (None, 0))
            if said is not None and now - said < AGAIN_SECONDS:
                self._seen[notice] = (said, n_since + 1)
                return
            self._seen[notice] = (now, 0)
            if len(self._seen) > MOST:
                del self._seen[next(iter(self._seen))]
        self._say(f"{notice} ({n_since:,} times more since)" if n_since else notice)
