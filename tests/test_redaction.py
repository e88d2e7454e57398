"""No secret in what is written down."""

from __future__ import annotations

import pytest

from sersearch.redaction import redact


@pytest.fixture(autouse=True)
def _no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", {})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("https://me:hunter2@host/path", "https://***@host/path"),
        ("postgresql://me:p@ss@db:5432/x", "postgresql://***@db:5432/x"),
        ("http://token@host", "http://***@host"),
        ("no answer from http://a:b@one and http://c:d@two", "no answer from http://***@one and http://***@two"),
        ("https://host/x?token=abc&y=1", "https://host/x?token=***&y=1"),
        ("https://host/x?y=1&Password=abc", "https://host/x?y=1&Password=***"),
        ("postgresql://h/db?password=hush&sslmode=on", "postgresql://h/db?password=***&sslmode=on"),
        ("sqlite:////home/a@b/mlflow.db", "sqlite:////home/a@b/mlflow.db"),
        ("https://host/a@b/c", "https://host/a@b/c"),
        ("write to me@host", "write to me@host"),
        ("", ""),
    ],
)
def test_a_uri_s_secrets_are_hidden_and_the_rest_is_told(text: str, told: str) -> None:
    assert redact(text) == told
    assert redact(redact(text)) == told


@pytest.mark.parametrize(
    "name",
    [
        "MLFLOW_TRACKING_PASSWORD",
        "MLFLOW_TRACKING_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "ray_auth_token",
    ],
)
def test_what_the_environment_calls_a_secret_is_hidden(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("os.environ", {name: "Tr0ub4dor&3", "HOME": "/root"})
    text = "401: Tr0ub4dor&3 was refused for /root (Tr0ub4dor&3)"
    assert redact(text) == "401: *** was refused for /root (***)"


def test_a_secret_s_file_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", {"RAY_AUTH_TOKEN_PATH": "/root/.ray/auth_token"})
    assert redact("/root/.ray/auth_token: permission denied") == "/root/.ray/auth_token: permission denied"


def test_what_is_too_short_to_be_told_from_words_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", {"TOKENIZERS_PARALLELISM": "false", "A_TOKEN": "a", "NO_SECRET": ""})
    assert redact("a false alarm") == "a false alarm"


def test_settings_that_are_no_secrets_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", {"MLFLOW_TRACKING_URI": "https://host", "USER": "someone"})
    assert redact("https://host of someone") == "https://host of someone"
