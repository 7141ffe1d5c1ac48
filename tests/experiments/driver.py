"""`python -m experiments` for tests in processes of their own: the quickstart is small, and may kill itself.

Environment: `CALLS` names a file that grows by a byte with each call that trains. `KILL=<text>:<n>` ends the process by
SIGKILL at its n-th change of a file or directory whose path has the text. `HOLD=<path>`: the third call waits until
there is such a file. `SHARD`: each training runs over all devices.
"""

import dataclasses
import os
import signal
import sys
import time
from typing import Any

from experiments import data_parallel, sweep
from experiments.cli import main
from experiments.comparison import Stage, Training
from experiments.methods import METHODS
from experiments.studies import STUDIES
from experiments.studies.quickstart import CLASSES, PIXELS, STUDY, softmax_regression
from experiments.study import Picture
from experiments.tuning import Grid
from tests.experiments import made_up

TIER = Training(
    {"softmax regression": softmax_regression(PIXELS, CLASSES)}, epochs=8, seeds=2, batch_size=50, grid=Grid(-2, 0),
    tuning=Stage(epochs=6, seeds=2), mode="map", estimate="no time", train_size=200, methods=METHODS[1:3],
    defaults=True,
)  # fmt: skip
OVER_ALL = dataclasses.replace(  # for up to 8 devices
    TIER, mode="shard", batch_size=40, methods=METHODS[1:2], tuning=None
)
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "open"}


def kill_at(text: str, count: int) -> None:
    def watch(event: str, arguments: tuple) -> None:
        nonlocal count
        if event in CHANGES and any(isinstance(one, str | os.PathLike) and text in str(one) for one in arguments):
            count -= 1
            if not count:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def count_calls(path: str, hold: str | None) -> None:
    one, other = sweep._advance, data_parallel.advance
    sweep._advance, data_parallel.advance = counted(one, path, hold), counted(other, path, hold)


def counted(advance: Any, path: str, hold: str | None) -> Any:

    def call(*arguments):
        with open(path, "ab") as file:
            file.write(b".")
            number = file.tell()
        while hold and number == 3 and not os.path.exists(hold):
            time.sleep(0.01)
        return advance(*arguments)

    return call


if __name__ == "__main__":
    tier = OVER_ALL if "SHARD" in os.environ else TIER
    # A picture of one line: drawing the study's own is half of such a run.
    picture = Picture("line", "A line.", lambda results: made_up.draw(made_up.dataset()))
    STUDIES["quickstart"] = dataclasses.replace(STUDY, tiers={"smoke": tier}, pictures=[picture])
    sweep.SECONDS_BETWEEN_CHECKPOINTS = data_parallel.SECONDS_BETWEEN_CHECKPOINTS = -1.0
    if "CALLS" in os.environ:
        count_calls(os.environ["CALLS"], os.environ.get("HOLD"))
    if "KILL" in os.environ:
        text, _, number = os.environ["KILL"].rpartition(":")
        kill_at(text, int(number))
    sys.exit(main(sys.argv[1:]))
