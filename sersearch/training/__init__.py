"""The engine: trains one configuration, or several as lanes of one model. Knows no orchestrator."""

from sersearch.training.engine import Engine, EpochResult, fit, pretrain, pretraining_config
from sersearch.training.environment import CPU_ENVIRONMENT
from sersearch.training.lane import LaneState, Predictions
from sersearch.training.members import Members, MembersState
from sersearch.training.precision import Precision

__all__ = [
    "CPU_ENVIRONMENT",
    "Engine",
    "EpochResult",
    "LaneState",
    "Members",
    "MembersState",
    "Precision",
    "Predictions",
    "fit",
    "pretrain",
    "pretraining_config",
]
