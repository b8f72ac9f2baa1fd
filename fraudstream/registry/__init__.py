"""Models on disk: bundles and the aliases that name the one in use.

`models/<name>/<version>/` is a bundle, `models/<name>/aliases.json` maps `champion` (and others) to versions.
"""

from fraudstream.registry.bundle import read_bundle, write_bundle
from fraudstream.registry.registry import CHALLENGER, CHAMPION, Registry
from fraudstream.registry.signing import Trust
from fraudstream.registry.verify import BundleReport, verify_bundle

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "BundleReport",
    "Registry",
    "Trust",
    "read_bundle",
    "verify_bundle",
    "write_bundle",
]
