"""A node that runs: objects come in, are answered one at a time, and reports go out."""

import logging
import threading
from collections.abc import Callable

from kneeedge.errors import MissingExtraError
from kneeedge.inference.predictor import Predictor
from kneeedge.inference.side_files import SideOptions
from kneeedge.node.answering import Answerer
from kneeedge.node.options import NodeOptions
from kneeedge.node.spool import Spool
from kneeedge.system.outputs import DRIFT, ROWS, check_output
from kneeedge.system.plural import counted

IDLE_SECONDS = 1.0
"after which rows that wait are put in place, and a sender that failed is noticed"


class Node:
    """A DICOM node. It listens once made, and answers in `run`.

    Raises MissingExtraError without pynetdicom, what `Answerer` and `Receiver` raise, and
    OutputExistsError where the folder holds another file in the place of the rows.
    """

    def __init__(
        self, predictor: Predictor, options: NodeOptions, say: Callable[[str], None]
    ) -> None:
        require_pynetdicom()
        from kneeedge.node.receiver import Receiver
        from kneeedge.node.sender import Sender

        self.options = options
        self._say = say
        self._wake = threading.Event()
        self.spool = Spool(options.folder, bool(options.destination), options.limits.max_queue)
        check_output(self.spool.rows, ROWS)
        self.sender = None
        if options.destination:
            self.sender = Sender(options.destination, options, self.spool, say)
        beside = SideOptions(
            dicom_sr=self.spool.made,
            captures=self.spool.made if options.captures else None,
            with_patient_id=options.with_patient_id,
        )
        if options.drift:
            check_output(options.drift.path, DRIFT)
        self.answerer = Answerer(predictor, self.spool, beside, say, options.drift)
        try:
            done = self.answerer.is_done
            self.receiver = Receiver(options, self.spool, done, self._wake.set, say)
        except BaseException:
            self.answerer.close()
            raise

    def __str__(self) -> str:
        options = self.options
        place = f"{options.ae_title}@{options.host}:{self.receiver.port}"
        where = f"reports go to {options.destination or self.spool.done}"
        n_waiting = self.spool.n_waiting()
        so_far = f"{counted(self.answerer.n_done, 'object')} answered, {n_waiting:,} waiting"
        return f"listening as {place}; {so_far}; {where}"

    def run(self) -> None:
        """Answer what comes, until KeyboardInterrupt; then all that came is on the disk."""
        self.receiver.start()
        if self.sender:
            self.sender.start()
        try:
            while True:
                self._wake.clear()
                n_answered = self.answerer.step()
                if n_answered:
                    self._tell(n_answered)
                else:
                    self._idle()
        finally:
            self._stop()

    def _tell(self, n_answered: int) -> None:
        """Say what was answered, and wake the sender."""
        answered = counted(n_answered, "object")
        self._say(f"answered {answered}; {self.answerer.n_done:,} in {self.spool.rows}")
        if self.sender:
            self.sender.wake()

    def _idle(self) -> None:
        self.answerer.publish()
        if self.sender and self.sender.failure:
            raise self.sender.failure
        self._wake.wait(IDLE_SECONDS)

    def _stop(self) -> None:
        try:
            self.receiver.stop()
        finally:
            try:
                if self.sender:
                    self.sender.stop()
            finally:
                self.answerer.publish()
                self.answerer.close()


def require_pynetdicom() -> None:
    """Raise MissingExtraError without pynetdicom; with it, let it print nothing of its own.

    What it logs may hold what peers send, and so what names patients.
    """
    try:
        from pynetdicom import _config
    except ModuleNotFoundError as error:
        install = "pip install 'kneeedge[node,cpu]'"
        raise MissingExtraError("`kneeedge serve --dicom`", "pynetdicom", install) from error
    _config.LOG_HANDLER_LEVEL = "none"
    logger = logging.getLogger("pynetdicom")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
