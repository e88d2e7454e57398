"""What happens, as plain records: gathered, fetched and written."""

from __future__ import annotations

import json
import logging
import os
import socket
import time
import warnings
from pathlib import Path

import pytest

from sersearch import logs
from sersearch.logs import gathered, log_file, plain, write

log = logging.getLogger("sersearch.tests")


def test_what_sersearch_logs_is_a_record_that_says_where_and_when() -> None:
    with gathered() as found:
        log.info("goes on after epoch %d", 3)
        log.debug("too much")
        logging.getLogger("ray").warning("another's")
        (record,) = found.fetch()
    assert abs(record.pop("time") - time.time()) < 60
    assert record == {
        "level": "INFO",
        "logger": "sersearch.tests",
        "message": "goes on after epoch 3",
        "host": socket.gethostname(),
        "pid": os.getpid(),
    }
    assert json.loads(json.dumps(record)) == record


def test_python_s_warnings_are_told() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with gathered() as found:
            warnings.warn("no pictures of the trial", stacklevel=1)
            (record,) = found.fetch()
    assert (record["level"], record["logger"]) == ("WARNING", "py.warnings")
    assert "no pictures of the trial" in record["message"]


def test_an_error_comes_with_its_traceback_and_its_causes() -> None:
    with gathered() as found:
        try:
            try:
                raise OSError("the disk")
            except OSError as error:
                raise RuntimeError("the checkpoint") from error
        except RuntimeError as error:
            log.error("epoch 2 failed", exc_info=error)
        (record,) = found.fetch()
    for piece in ("Traceback", "OSError: the disk", "RuntimeError: the checkpoint", "test_logs.py"):
        assert piece in record["traceback"]


def test_neither_message_nor_traceback_tells_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "Tr0ub4dor")
    with gathered() as found:
        log.error("Tr0ub4dor at http://me:x@host", exc_info=ValueError("Tr0ub4dor"))
        (record,) = found.fetch()
    assert "Tr0ub4dor" not in json.dumps(record)
    assert record["message"] == "*** at http://***@host"


def test_what_was_fetched_is_not_told_again() -> None:
    with gathered() as found:
        log.info("one")
        assert [record["message"] for record in found.fetch()] == ["one"]
        log.info("two")
        assert [record["message"] for record in found.fetch()] == ["two"]
        assert found.fetch() == []
    log.info("three")
    assert found.fetch() == [], "the block is over"


def test_a_flood_is_cut_off_and_its_beginning_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST", 3)
    with gathered() as found:
        for number in range(9):
            log.info("%d", number)
        assert [record["message"] for record in found.fetch()] == ["0", "1", "2"]
        log.info("again")
        assert len(found.fetch()) == 1


def test_loggers_are_left_as_they_were() -> None:
    logger = logging.getLogger("sersearch")
    before = logger.level, list(logger.handlers)
    with gathered():
        assert logger.level == logging.INFO
        assert list(logger.handlers) != before[1]
    assert (logger.level, list(logger.handlers)) == before


def test_each_trial_has_a_file_and_the_search_one(tmp_path: Path) -> None:
    record = plain(logging.LogRecord("sersearch", logging.INFO, "", 0, "begins\u2028\u00e9\n", (), None))
    write(tmp_path, None, [record])
    write(tmp_path, 4, [record, record])
    write(tmp_path, 4, [record])
    write(tmp_path, 5, [])
    assert {path.name for path in (tmp_path / "logs").iterdir()} == {"search.jsonl", "trial-0004.jsonl"}
    told = [json.loads(line) for line in log_file(tmp_path, 4).read_bytes().splitlines()]
    assert told == [record] * 3
    assert told[0]["message"] == "begins\u2028\u00e9"
