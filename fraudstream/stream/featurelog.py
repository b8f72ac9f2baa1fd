"""The feature log: what was scored, so that an audit can say which feature differs.

One message for what was served of a micro-batch (more where it is large): an Arrow IPC stream, compressed with zstd,
of the columns `partition`, `offset`, `sequence`, `transaction_id` and one for each feature.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from fraudstream.batch import Float64, TransactionBatch
from fraudstream.bus.base import Headers, Sink
from fraudstream.features import Catalog
from fraudstream.stream.publish import RUN_HEADER

OWN_COLUMNS = ("partition", "offset", "sequence", "transaction_id")
ARCHIVE_COLUMNS = ("log_timestamp_ms", "log_partition", "log_offset", "run")  # of the message, in the archive
CONTENT_TYPE = b"application/vnd.apache.arrow.stream"
RAW_BYTES_MAX = 4_000_000  # below what the topic takes, whatever the compression makes of it


def column_names(catalog: Catalog) -> list[str]:
    """Return the columns of the features; one that is named like an own column gets a prefix."""
    return [f"feature_{name}" if name in OWN_COLUMNS else name for name in catalog.names]


class FeatureLog:
    """Writes what was scored.

    Args:
        topic: where to.
        catalog: names the columns of X.

    Cost: 3.5 us a row for 65 features (measured), as much as everything else together; so it is off unless asked for.
    """

    def __init__(self, sink: Sink, topic: str, catalog: Catalog) -> None:
        self._sink = sink
        self._topic = topic
        kinds = (pa.int32(), pa.int64(), pa.int64(), pa.string(), *[pa.float64()] * len(catalog))
        self._schema = pa.schema(list(zip([*OWN_COLUMNS, *column_names(catalog)], kinds, strict=True)))
        self._options = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", 1))
        self._rows_max = max(1, RAW_BYTES_MAX // (8 * len(kinds) + 64))

    def write(self, batch: TransactionBatch, X: Float64, sequence: int, run: str) -> None:
        """Send rows that were served one after the other, the first as number `sequence` of its run."""
        headers: Headers = [("content-type", CONTENT_TYPE), (RUN_HEADER, run.encode())]
        for start in range(0, len(batch), self._rows_max):
            stop = min(start + self._rows_max, len(batch))
            numbers = np.arange(sequence + start, sequence + stop)
            own = (batch.partition[start:stop], batch.offset[start:stop], numbers, batch.ids[start:stop])
            columns = [*own, *np.ascontiguousarray(X[start:stop].T)]
            arrays = [
                pa.array(column, kind) for column, kind in zip(columns, self._schema.types, strict=True)
            ]
            octets = pa.BufferOutputStream()
            with pa.ipc.new_stream(octets, self._schema, options=self._options) as writer:
                writer.write_batch(pa.record_batch(arrays, schema=self._schema))
            self._sink.send(self._topic, [(octets.getvalue().to_pybytes(), run.encode(), headers)])
