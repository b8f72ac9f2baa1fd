"""X -> score -> decision -> explanation. Pure: no I/O, no clock, no log."""

from fraudstream.scoring.decide import Policy, build_policy
from fraudstream.scoring.model import Model, ModelParts
from fraudstream.scoring.pipeline import Pipeline, Scored

__all__ = ["Model", "ModelParts", "Pipeline", "Policy", "Scored", "build_policy"]
