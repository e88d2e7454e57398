"""Figures, tables and a static page of a study, from its folder alone."""

from sersearch.report.write import write_report

__all__ = ["write_report"]
