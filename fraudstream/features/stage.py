"""One kind of entity: its plan, its state, and a batch's way through it.

Columns in, columns and state out: nothing here knows of other stages, so that one can later stand behind a topic of
its own.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fraudstream.batch import Float64, Int64, UInt64
from fraudstream.features import kernels, transfer
from fraudstream.features.access import (
    HEADER_WIDTH,
    SHARD_BITS,
    STORE_WORDS,
    block_of,
    plan_block,
    scratch_block,
)
from fraudstream.features.arena import BUMP, FREED, Region, new_allocator
from fraudstream.features.catalog import Catalog, stage_name
from fraudstream.features.columns import BatchColumns
from fraudstream.features.labels import Marking
from fraudstream.features.memory import address_of
from fraudstream.features.plan import P_REACH_MS, P_RESOLUTION_MS, P_ROW_BYTES, plan_stage
from fraudstream.features.rows import let_go, words_needed
from fraudstream.features.table import (
    C_ENTITIES,
    C_HEADERS,
    C_ROWS,
    H_COUNT,
    H_HASH,
    S_LENGTH,
    S_USED,
    SHARDS,
    find,
    find_or_add,
    grow_table,
)
from fraudstream.sections import StateSettings

_WORDS_MIN = 1 << 10
_ROOM_AHEAD = 8  # times what one row may need: addresses cost nothing, memory that is not touched neither
_FREED_SHARE_MAX = 8  # a shard's chunks move together once an eighth of its arena is freed ones
_HEADERS_MIN = 1 << 10
_SWEPT_A_ROW = 4  # headers looked at for each row that comes, so that idle entities go without a pause


class Stage:
    """The windows of one entity at one resolution.

    Attributes:
        name: the entity, for tiles with their length (`merchant@5m`).
    """

    def __init__(self, catalog: Catalog, entity: str, resolution_ms: int, settings: StateSettings) -> None:
        self.name = stage_name(entity, resolution_ms)
        self.key_fields = catalog.event.entity_fields(entity)
        self.planned = plan_stage(catalog, catalog.of_stage(entity, resolution_ms), resolution_ms)
        self.plan = self.planned.plan
        self._plan = plan_block(self.plan)
        self._silent = plan_block(self.plan._replace(ops=self.plan.ops[:0]))
        self._plan_at, self._silent_at = address_of(self._plan), address_of(self._silent)
        self.labelled = self.planned.labelled
        self._bounds = (settings.rows_max, settings.lateness_ms)
        self._entities_max = settings.entities_max
        values = settings.rows_max if self.plan.slots[:, 2].any() else 0
        self._scratch = scratch_block(
            len(self.plan.windows), len(self.plan.slots), len(self.plan.text_slots), len(self.plan.hour_slots),
            values,
        )  # fmt: skip
        self._scratch_at = address_of(self._scratch)
        self._swept = 0
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._headers = Region(_HEADERS_MIN * HEADER_WIDTH)
        self._arenas: dict[int, Region] = {}  # of the shards that have had an entity
        self._allocators = dict.fromkeys(range(SHARDS), _NO_ARENA)
        self._shards = np.zeros((SHARDS, 3), np.int64)
        self._shards[:, S_LENGTH], self._shards[:, S_USED] = len(_NO_TABLE), len(_NO_TABLE)  # empty, and full
        self._counts = np.array([0, 0, -1, 0], np.int64)
        self._stores = np.zeros((SHARDS, STORE_WORDS), np.int64)
        self._at = address_of(self._stores)
        for shard in range(SHARDS):
            self._locate(shard)

    def _locate(self, shard: int) -> None:
        """Note where a shard's memory is; called again whenever it has moved."""
        words = self._arenas[shard].words if shard in self._arenas else _NO_TABLE
        headers = self._headers.words
        self._stores[shard, : STORE_WORDS - 1] = block_of(
            [words, len(words), headers, len(headers) // HEADER_WIDTH, self._allocators[shard], self._shards,
             self._counts]
        )  # fmt: skip

    def _open(self, shard: int) -> None:
        """Give a shard its arena, and in it a table."""
        self._arenas[shard], self._allocators[shard] = Region(_WORDS_MIN), new_allocator()
        self._shards[shard] = 0
        self._locate(shard)
        grow_table(self._store(shard), shard)

    def _store(self, shard: int) -> int:
        return self._at + 8 * STORE_WORDS * shard

    @property
    def entities(self) -> int:
        """Return how many entities are kept."""
        return int(self._counts[C_ENTITIES])

    @property
    def rows_kept(self) -> int:
        """Return how many rows (or tiles) are kept."""
        return int(self._counts[C_ROWS])

    @property
    def bytes_used(self) -> int:
        """Return the bytes of headers, tables, rows and indexes, free chunks included."""
        arenas = sum(int(allocator[BUMP]) for allocator in self._allocators.values())
        return 8 * (arenas + int(self._counts[C_HEADERS]) * HEADER_WIDTH)

    @property
    def row_bytes(self) -> int:
        """Return the bytes of one row."""
        return int(self.plan.shape[P_ROW_BYTES])

    @property
    def reach_ms(self) -> int:
        """Return how far before a row its oldest visible row may lie."""
        return int(self.plan.shape[P_REACH_MS])

    def seen_after_ms(self, newest_ms: int) -> int:
        """Return the time at or before which no row can be seen by one that is in time behind the newest row."""
        tile_ms = int(self.plan.shape[P_RESOLUTION_MS]) or 1
        in_time_from_ms = (newest_ms // tile_ms * tile_ms - self._bounds[1]) // tile_ms * tile_ms
        return in_time_from_ms - self.reach_ms

    def advance(
        self,
        columns: BatchColumns,
        entities: UInt64,
        marks: list[tuple[Marking, int, int]],
        watermark_ms: int,
        out: tuple[Float64 | None, npt.NDArray[np.uint8]],
        keep: bool = True,
    ) -> npt.NDArray[np.uint8]:
        """Read a batch's rows into X (unless it is None) and keep them; return which left state, [n].

        Args:
            marks: fraud marks with the hash of their entity and their bits in this stage.
            keep: False only reads.
        """
        batch, n = columns.batch, len(columns.batch)
        X, flags = out
        known = self._known(entities) if not keep else None
        slots = self._slots(entities)
        stored = np.zeros(n, np.uint8)
        values = np.empty((n, len(self.planned.measures)), np.int64)
        for m, field in enumerate(self.planned.measures):
            values[:, m] = batch.measures[field]
        keys = np.empty((n, len(self.planned.texts)), np.int64)
        for k, field in enumerate(self.planned.texts):
            keys[:, k] = columns.keys(field)
        bits = columns.bits(self.planned.filters) if self.planned.masked else _NO_BITS
        width = 0 if X is None else X.shape[1]
        parts = [batch.time_ms, values, values.shape[1], keys, keys.shape[1], bits, flags if X is None else X,
                 width, flags, stored]  # fmt: skip
        block, plan = block_of(parts), self._silent_at if X is None else self._plan_at
        rows_max, lateness_ms = self._bounds
        bounds = (rows_max if keep else 0, lateness_ms, watermark_ms)
        done, (given, marked) = (0, 0), self._marks(marks)
        while True:
            done = kernels.observe(
                self._at, plan, self._scratch_at, slots, address_of(block), address_of(given),
                bounds, done,
            )  # fmt: skip
            if done[0] >= n and done[1] >= len(marks):
                break
            self._make_room(int(slots[done[0]]))
        del marked
        if known is None:
            self._sweep(max(watermark_ms, int(batch.time_ms.max())), _SWEPT_A_ROW * n)
        else:
            fresh = (known < 0) & (slots >= 0)
            shards = dict(zip(slots[fresh].tolist(), (entities[fresh] >> SHARD_BITS).tolist(), strict=True))
            for slot, shard in shards.items():
                let_go(self._store(shard), self._plan_at, slot)
        return stored

    def pack(self, shard: int) -> Int64:
        """Return a shard's entities as words."""
        words = np.empty(transfer.shard_words(self._store(shard), self._plan_at, shard), np.int64)
        transfer.pack(self._store(shard), self._plan_at, shard, address_of(words))
        return words

    def unpack(self, words: Int64, codes: dict[str, Int64]) -> None:
        """Take packed entities in, in the place of those that are here.

        Args:
            codes: for the category fields whose codes differ there, what each code is here.
        """
        hashes = np.empty(len(words) // transfer.ENTITY_WORDS, np.uint64)
        hashes = hashes[: transfer.hashes_in(self._plan_at, address_of(words), len(words), hashes)]
        slots = self._slots(hashes)
        kept = np.flatnonzero(slots >= 0)
        assert len(kept) == len(slots), "more entities than state.entities_max"
        longest = max((len(column) for column in codes.values()), default=1)
        table = np.full((max(1, len(self.planned.texts)), longest), -1, np.int64)
        for text, field in enumerate(self.planned.texts):
            if field in codes:
                table[text, : len(codes[field])] = codes[field]
        if len(slots):
            shard = int(hashes[0] >> SHARD_BITS)
            self._grow(shard, 2 * len(words) + 16 * len(slots))
            transfer.unpack(self._store(shard), self._plan_at, address_of(words), slots, table)

    def drop(self, shard: int) -> None:
        """Let go of a shard's entities."""
        transfer.drop(self._store(shard), self._plan_at, shard)

    def _make_room(self, slot: int) -> None:
        """Let the arena take one more row of an entity, whatever that makes of it."""
        rows = int(self._headers.words[HEADER_WIDTH * slot + H_COUNT])
        shard = int(np.int64(self._headers.words[HEADER_WIDTH * slot + H_HASH]).view(np.uint64) >> SHARD_BITS)
        self._grow(shard, words_needed(self._plan_at, rows))

    def _grow(self, shard: int, words: int) -> None:
        """Make room for so many words in a shard's arena; where much of it is freed chunks, by moving together."""
        used, freed = self._allocators[shard][[BUMP, FREED]].tolist()
        if freed * _FREED_SHARE_MAX > used + _WORDS_MIN:
            self._move_together(shard, used - freed + words)
        self._arenas[shard].grow(int(self._allocators[shard][BUMP]) + _ROOM_AHEAD * words)
        self._locate(shard)

    def _move_together(self, shard: int, words: int) -> None:
        """Copy a shard's chunks into a fresh arena, without the freed ones between them."""
        arena, allocator = Region(words), new_allocator()
        fresh = block_of([arena.words, len(arena.words), 0, 0, allocator, 0, 0, 0])
        transfer.evacuate(self._store(shard), address_of(fresh), self._plan_at, shard)
        self._arenas[shard], self._allocators[shard] = arena, allocator
        self._locate(shard)

    def _known(self, entities: UInt64) -> Int64:
        """Return the header of each entity, [n]; -1 where there is none."""
        slots = np.empty(len(entities), np.int64)
        find(self._at, entities, slots)
        return slots

    def _slots(self, entities: UInt64) -> Int64:
        """Return the header of each entity, [n], a new one if need be."""
        slots = np.empty(len(entities), np.int64)
        done = 0
        while True:
            done = find_or_add(self._at, entities, self._entities_max, slots, done)
            if done >= len(entities):
                return slots
            if (int(self._counts[C_HEADERS]) + 1) * HEADER_WIDTH > len(self._headers.words):
                self._headers.grow((int(self._counts[C_HEADERS]) + 1) * HEADER_WIDTH)
                for shard in range(SHARDS):
                    self._locate(shard)
            shard = int(entities[done] >> SHARD_BITS)
            if shard not in self._arenas:
                self._open(shard)
                continue
            length = int(self._shards[shard, S_LENGTH])
            if (self._shards[shard, S_USED] + 1) * 4 > length * 3:
                self._grow(shard, 4 * length)
                grow_table(self._store(shard), shard)

    def _marks(self, marks: list[tuple[Marking, int, int]]) -> tuple[Int64, list[Int64]]:
        """Return the block of the marks, and the arrays that it names."""
        if not marks:
            return _NO_MARKS, []
        numbers = np.array([(m.row, m.source, m.time_ms, m.sign, bits) for m, _, bits in marks], np.int64)
        rows, sources, times, signs, bits = np.ascontiguousarray(numbers.T)
        slots = self._known(np.array([entity for _, entity, _ in marks], np.int64).view(np.uint64))
        keys = np.array([mark.id_hash for mark, _, _ in marks], np.uint64).view(np.int64) >> 16
        keys[keys == 0] = 1
        arrays = [rows, sources, slots, times, keys, signs, bits]
        return block_of([len(marks), *arrays]), arrays

    def _sweep(self, watermark_ms: int, headers: int) -> None:
        """Look at some of the headers, in turn, and let go of idle entities."""
        used = int(self._counts[C_HEADERS])
        idle_ms = self.seen_after_ms(watermark_ms)
        kernels.sweep(self._at, self._plan_at, (self._swept, self._swept + headers), idle_ms)
        self._swept = 0 if self._swept + headers >= used else self._swept + headers


_NO_BITS = np.empty(0, np.uint16)
_NO_MARKS = np.zeros(8, np.int64)
_NO_TABLE = np.zeros(16, np.int64)  # what a shard without an arena shows: an empty table
_NO_ARENA = new_allocator()
