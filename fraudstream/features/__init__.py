"""Batch -> X: behavioural features over exact windows. Pure: no I/O, no clock, no log.

What a window means, each a property test against the slow twin in `tests/oracles.py`:

1. A row at event time t sees the rows of the same entity that stand earlier in the log with event time in
   (t - W, t]; never itself.
2. Any split of a stream into micro-batches gives the same features, bit for bit. Sums are integers, ratios
   are taken last.
3. Empty is not zero: counts and sums are 0; means, ratios and "time since" are NaN. A row that names no such
   entity (no device) has NaN for all of that entity's features.
4. State does not depend on arrival order inside the lateness, as far as rows in time can see it: a late row
   is put in its place by event time and reads the window at its own time. Later than that behind its entity's
   newest row, it is scored, flagged and leaves no state.
5. Every entity keeps at most `rows_max` rows: beyond it the oldest go, and a row whose window reaches into
   what went is flagged. An entity whose newest row is further behind the stream's newest than its longest
   window and the lateness is forgotten at that moment, since no row in time can see it; a row that is itself
   that far behind is late. Beyond `entities_max` of a kind a new entity is untracked until idle ones have
   been swept out: only there may a flag depend on where the batches are cut.
"""

from fraudstream.features.catalog import Catalog, Feature, check_catalog
from fraudstream.features.declare import build_catalog
from fraudstream.features.engine import FeatureEngine, Observed

__all__ = ["Catalog", "Feature", "FeatureEngine", "Observed", "build_catalog", "check_catalog"]
