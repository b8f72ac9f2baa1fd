"""The slow, obvious twins: pure Python, written from the contract and not from the kernels."""

from tests.oracles.features import FeatureTwin
from tests.oracles.siphash import siphash_1_3, text_hash

__all__ = ["FeatureTwin", "siphash_1_3", "text_hash"]
