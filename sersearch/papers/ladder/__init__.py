"""Parthasarathy & Busso, "Semi-Supervised Speech Emotion Recognition With Ladder Networks", TASLP 2020."""
