"""Hyperparameter search for semi-supervised speech emotion recognition."""

from importlib.metadata import version

__version__ = version("sersearch")
