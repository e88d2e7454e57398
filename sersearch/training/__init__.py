"""The engine: trains one configuration, or several as lanes of one model. Knows no orchestrator."""

from sersearch.training.engine import Engine, EpochResult, fit, pretrain
from sersearch.training.environment import CPU_ENVIRONMENT
from sersearch.training.lane import LaneState, Predictions
from sersearch.training.precision import Precision

__all__ = ["CPU_ENVIRONMENT", "Engine", "EpochResult", "LaneState", "Precision", "Predictions", "fit", "pretrain"]
