"""The published model families, one folder each; a folder with a `family.py` is found by its name."""
