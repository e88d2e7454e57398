"""Conditions of a corpus with noisy copies: their order, among metrics too, and how many utterances are in each."""

from __future__ import annotations

import numpy as np

from sersearch.data.conditions import by_noise, counted, metrics_by_noise, mixture


def test_conditions_from_clean_to_the_loudest_noise() -> None:
    conditions = ["snr0", "street", "snr10", "clean", "snr-5", "snr2.5"]
    assert by_noise(conditions) == ["clean", "snr10", "snr2.5", "snr0", "snr-5", "street"]


def test_metrics_of_conditions_follow_the_others_from_clean_to_the_loudest_noise() -> None:
    names = ["dev_ua_snr0", "dev_ua", "dev_wa_snr10", "dev_ua_snr10", "train_loss_clean_path", "dev_ua_clean", "dev_wa"]
    ordered = ["dev_ua", "train_loss_clean_path", "dev_wa", "dev_ua_clean", "dev_wa_snr10", "dev_ua_snr10"]
    assert metrics_by_noise(names) == [*ordered, "dev_ua_snr0"]


def test_utterances_are_counted_by_condition(memory_table) -> None:
    names = ["snr0", "clean", "clean", "snr10", "clean"]
    table = memory_table([{"speaker": "a", "emotion": "joy", "condition": name} for name in names])
    assert list(counted(table, np.array([0, 1, 2, 3])).items()) == [("clean", 2), ("snr10", 1), ("snr0", 1)]
    assert counted(memory_table([{"speaker": "a"}]), np.array([0])) == {}


def test_one_condition_is_no_mixture() -> None:
    assert mixture({}, {}) == mixture({"clean": 3}, {"clean": 1}) == []
    (note,) = mixture({"clean": 3, "snr5": 3}, {"clean": 1})
    assert "labels are learnt in clean, snr5, and the development set, which selects, holds clean." in note
