"""MLflow: where runs go (`uri`), what waits to be sent (`spool`), and who sends it (`tracker`, `store`)."""

from sersearch.tracking.tracker import Tracker
from sersearch.tracking.uri import check_uri, default_uri, page

__all__ = ["Tracker", "check_uri", "default_uri", "page"]
