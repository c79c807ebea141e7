"""`kneeedge` that draws no pictures, as one of several processes; test_devices.py starts them.

With KILLED=1 the second is killed when its second epoch begins.
"""

import os
import signal

from kneeedge.cli.start import main


def kill_the_second() -> None:
    from kneeedge.training import loop

    run_epoch = loop.Trainer.run_epoch

    def killed(trainer: loop.Trainer, epoch: int) -> loop.Epoch:
        if epoch == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return run_epoch(trainer, epoch)

    loop.Trainer.run_epoch = killed


if __name__ == "__main__":
    if "KILLED" in os.environ and os.environ["RANK"] == "1":
        kill_the_second()
    elif os.environ["RANK"] == "0":
        from kneeedge.training import score

        score.draw = lambda *_: None
    main()
