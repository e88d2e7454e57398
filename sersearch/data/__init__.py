"""Utterances, their features, and how they are parted, normalised and batched."""
