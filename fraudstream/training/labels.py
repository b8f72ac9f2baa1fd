"""The label ledger as a person sees it: what stands in it, what contradicts itself, and more of it.

Nothing is dropped: a label that contradicts another, or that no transaction is known of, is counted and shown.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fraudstream.batch import Int64
from fraudstream.bus.archive import archived_files
from fraudstream.bus.files import count_rows, read_transactions
from fraudstream.bus.place import Place
from fraudstream.bus.store import Store
from fraudstream.clock import iso
from fraudstream.decode import Decoder
from fraudstream.errors import ConfigError
from fraudstream.ledger import Labels, read_labels, read_ledger, silences
from fraudstream.sections import Settings
from fraudstream.training.replay import Advance

EXAMPLES = 5
_NAME = "labels-{:06d}.parquet"


def report_labels(
    settings: Settings, labels: Place, transactions: Place | None, as_of_ms: int | None, advance: Advance
) -> dict[str, Any]:
    """Return what the ledger holds: by source, reversals, conflicts; with transactions also orphans and silences.

    Args:
        as_of_ms: nothing known later is looked at; None: all is.

    Raises:
        ConfigError: a file is unreadable, or a label is of an entity that the event type has not.
    """
    table = read_ledger(labels)
    known = read_labels(labels, settings.labels.ranks)
    if as_of_ms is not None:
        table = table.filter(pc.less_equal(table["known_at"], as_of_ms))
        known = known.as_of(as_of_ms)
    kinds = Counter(zip(_sources(table), table["label"].to_pylist(), strict=True))
    found: dict[str, Any] = {
        "labels": len(table),
        "of_entities": len(known.of_entities),
        "transactions": len(pc.unique(known.ids)),
        "sources": [
            {"source": source, "label": label, "labels": number}
            for (source, label), number in sorted(kinds.items())
        ],
        **_contradictions(table),
    }
    return found | (_against(settings, known, transactions, advance) if transactions is not None else {})


def import_labels(files: Place, ledger: Path) -> dict[str, Any]:
    """Append to a ledger what it does not hold yet, as one more Parquet file; the same files twice add nothing.

    Returns:
        How many labels were added, how many it held already, and how many of the added were known before the newest
        that it held: a training set of an instant in between changes by them.

    Raises:
        ConfigError: a file is unreadable or holds what is no label, or the folder is an archive's, of which nobody
            reads what its manifest does not name; nothing is written then.
        BusError: another import is under way, or the folder cannot be written.
    """
    new = read_ledger(files)
    if ledger.is_file():
        raise ConfigError(f"--to {ledger}: is a file; give the ledger's folder")
    if archived_files(ledger) is not None:
        raise ConfigError(
            f"--to {ledger}: is written by `fraudstream archive` alone; give a folder of its own, and import "
            "the archive's labels into it too"
        )
    store = Store(ledger)
    with store.lock():
        return _append(new, ledger, store)


def _append(new: pa.Table, ledger: Path, store: Store) -> dict[str, Any]:
    files = [name for name in store.names() if not Path(name).name.startswith((".", "_"))]
    held = read_ledger(ledger) if files else new.slice(0, 0)
    seen = set(map(tuple, (row.values() for row in held.to_pylist())))
    fresh = []
    for place, row in enumerate(new.to_pylist()):
        if (told := tuple(row.values())) not in seen:
            seen.add(told)
            fresh.append(place)
    added = new.take(pa.array(fresh, pa.int64()))
    newest_ms = pc.max(held["known_at"]).as_py()
    backdated = 0 if newest_ms is None else int((added["known_at"].to_numpy() < newest_ms).sum())
    path = None
    if fresh:
        numbers = [int(p.stem.removeprefix("labels-")) for p in ledger.glob("labels-[0-9]*.parquet")]
        path = ledger / _NAME.format(max(numbers, default=0) + 1)
        octets = pa.BufferOutputStream()
        pq.write_table(added, octets, compression="zstd")
        store.replace(path.name, octets.getvalue())
    return {
        "added": len(fresh),
        "held": len(new) - len(fresh),
        "backdated": backdated,
        "path": None if path is None else str(path),
    }


def _sources(table: pa.Table) -> list[str]:
    return [source or "" for source in table["source"].to_pylist()]


def _contradictions(table: pa.Table) -> dict[str, Any]:
    """Count the transactions whose labels differ: those of one source (reversed), or of several (in conflict)."""
    by_id: dict[str, dict[str, list[str]]] = {}
    columns = (table["transaction_id"].to_pylist(), _sources(table), table["label"].to_pylist())
    order = np.argsort(table["known_at"].to_numpy(), kind="stable").tolist()
    for one, source, label in ((columns[0][i], columns[1][i], columns[2][i]) for i in order):
        if one is not None:
            by_id.setdefault(one, {}).setdefault(source, []).append(label)
    reversed_ids = [one for one, said in by_id.items() if any(len(set(each)) > 1 for each in said.values())]
    conflicts = [one for one, said in by_id.items() if len({each[-1] for each in said.values()}) > 1]
    return {
        "reversed": len(reversed_ids),
        "conflicts": len(conflicts),
        "conflict_examples": [
            {"transaction_id": one, **{source or "(none)": each[-1] for source, each in by_id[one].items()}}
            for one in conflicts[:EXAMPLES]
        ],
    }


def _against(settings: Settings, known: Labels, transactions: Place, advance: Advance) -> dict[str, Any]:
    """Return what the labels say of files of transactions, and which say something of none."""
    event, outcomes = settings.event, known.outcomes()
    decoder, total = Decoder(event, set(known.fields(event))), count_rows(transactions)
    orphans = set(outcomes.own)
    reached = {(name, key): False for name, keys in outcomes.wide.items() for key in keys}
    times: list[Int64] = []
    labelled_times: list[Int64] = []
    frauds = 0
    for batch, rejected in read_transactions(transactions, decoder):
        advance("reading transactions", len(batch) + len(rejected), total)
        orphans.difference_update(batch.ids)
        for name, key in reached:
            field = event.entity_fields(name)[0]
            reached[name, key] |= key in batch.texts[field]
        fraud, labelled = outcomes.of_batch(batch, event)
        frauds += int(fraud.sum())
        times.append(batch.time_ms)
        labelled_times.append(batch.time_ms[labelled])
    time_ms = np.concatenate(times) if times else np.empty(0, np.int64)
    labelled_ms = np.concatenate(labelled_times) if times else time_ms
    window = (int(time_ms.min()), int(time_ms.max()) + 1) if len(time_ms) else (0, 0)
    quiet = silences(labelled_ms, window, settings.labels.silence_ms)
    return {
        "seen": len(time_ms),
        "labelled": len(labelled_ms),
        "frauds": frauds,
        "orphans": len(orphans),
        "orphan_examples": sorted(orphans)[:EXAMPLES],
        "orphan_entities": [f"{name} {key}" for (name, key), known in reached.items() if not known][
            :EXAMPLES
        ],
        "silences": [{"from": iso(start), "to": iso(end)} for start, end in quiet],
    }
