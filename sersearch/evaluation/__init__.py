"""Protocols run to the end: the only part of sersearch that sees test utterances."""

from sersearch.evaluation.evaluate import evaluate

__all__ = ["evaluate"]
