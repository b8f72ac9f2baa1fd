"""What state costs, from the catalogue alone."""

from __future__ import annotations

from fraudstream.features.access import HEADER_WIDTH
from fraudstream.features.catalog import Catalog, stage_name
from fraudstream.features.plan import P_ROW_BYTES, plan_stage

# A header, and a word of the hash table, which is 56 % full on average.
ENTITY_BYTES = 8 * HEADER_WIDTH + 14


def row_bytes(catalog: Catalog) -> dict[str, int]:
    """Return what one row costs in each stage, in bytes; of a stage with tiles, what one tile does."""
    cost = {}
    for entity, resolution_ms in catalog.stages:
        shape = plan_stage(catalog, catalog.of_stage(entity, resolution_ms), resolution_ms).plan.shape
        cost[stage_name(entity, resolution_ms)] = int(shape[P_ROW_BYTES])
    return cost
