"""Ladder networks for emotional attributes, Parthasarathy & Busso, TASLP 2020, and their baselines."""
