"""A driver in a process of its own, to be killed: `python -m tests.faults.mlflow.driver ROOT URI MS_BETWEEN_CALLS`.

It goes on where the journal of an earlier one ends, as a resumed search does.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from sersearch.study import Study
from sersearch.tracking import tracker as module
from tests.faults.mlflow.streams import Call, Teller, begin, calls, study


def left(of: Study) -> Iterator[Call]:
    """What the journal does not tell of yet; a trial that is not over starts again, and trains its last epoch again."""
    records = of.records()
    for kind, (number, *rest) in calls(of):
        record = records.get(number)
        known = 0 if record is None else len(record.epochs)
        if kind == "epoch" and rest[0] == known:  # half a second later than the first time
            rest[2] += 500
        if record is None or (record.unfinished and (kind != "epoch" or rest[0] >= known)):
            yield kind, (number, *rest)


def main(root: str, uri: str, pause_ms: str) -> None:
    module._FIRST_WAIT, module._LONGEST_WAIT = 0.01, 0.6
    of = study(Path(root))
    subject = begin(of, uri)
    Teller(of, subject, pause=int(pause_ms) / 1000).tell(left(of))
    subject.finish("finished")
    subject.close(60)
    of.write_meta(state="finished")
    print(subject.warnings)


if __name__ == "__main__":
    main(*sys.argv[1:])
