"""Batch -> X: behavioural features over exact windows. Pure: no I/O, no clock, no log.

What a window means, each a property test against the slow twin in `tests/oracles/`:

1. A row at event time t, with a window W and a lag G, sees the rows of the same entity that stand earlier in the log
   with event time in (t - G - W, t - G], and of those the ones that fulfil the filter; never itself. With a
   resolution R it sees whole tiles: those from the one that t - G - W falls in to the one of t - G.
2. Any split of a stream into micro-batches gives the same features, bit for bit. Sums are integers, ratios
   are taken last.
3. Empty is not zero: counts and sums are 0; means, ratios and "time since" are NaN. A row that names no such
   entity (no device) has NaN for all of that entity's features. So has one whose window reaches back before the
   history that is known: not known is not zero.
4. State does not depend on arrival order inside the lateness, as far as rows in time can see it: a late row
   is put in its place by event time and reads the window at its own time. Later than that behind its entity's
   newest row, it is scored, flagged and leaves no state. Of a tile, all rows are in time or none: those of the
   tile that the lateness reaches into are.
5. Every entity keeps at most `rows_max` rows: beyond it the oldest go, and a row whose window reaches into
   what went is flagged. An entity whose newest row is further behind the stream's newest than its longest
   window and the lateness is forgotten at that moment, since no row in time can see it; a row that is itself
   that far behind is late. Beyond `entities_max` of a kind a new entity is untracked until idle ones have
   been swept out: only there may a flag depend on where the batches are cut.
6. A label is seen from known_at + grace on, in stream time (the newest event time of all rows up to this one), if it
   has been learned by then. The one with the latest known_at counts, so that a later one can take a mark back. A
   label that is first seen more than the longest labelled window and the lateness after its transaction changes
   nothing.
7. A row whose transaction id was seen within the repeat horizon, in stream time, changes nothing.
8. Ids are told apart inside an entity by 48 bits of their hash: two of an entity's values are taken for one with
   probability 2**-48 a pair. Categories are told apart exactly, up to 65,535 values of a field.
"""

from fraudstream.features.catalog import Catalog, Feature, partial_features
from fraudstream.features.declare import build_catalog
from fraudstream.features.engine import FeatureEngine, Observed, new_engine
from fraudstream.features.plan import check_catalog

__all__ = [
    "Catalog",
    "Feature",
    "FeatureEngine",
    "Observed",
    "build_catalog",
    "check_catalog",
    "new_engine",
    "partial_features",
]
