"""Every metric, in one place: kind, unit and meaning. Updated once a batch; no ids in labels."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0)
_LATENCIES = (*_SECONDS, 600.0, 3600.0)  # what waited while no worker was there is told apart too
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)

STAGES = (
    *("consume", "labels", "decode", "features", "score", "shadow"),
    *("explain", "produce", "commit", "snapshot"),
)
# Lower bounds of the shifts that are counted: challenger's risk points less the champion's; the first has none.
SHIFTS = (-1000, -200, -100, -50, -20, -5, -1, 0, 1, 2, 6, 21, 51, 101, 201)


class BatchHistogram(Histogram):
    """A histogram that takes a batch at once."""

    def observe_each(self, amounts: Sequence[float], times: Sequence[int]) -> None:
        """Observe each of the amounts as many times as its place in `times` says."""
        counts: Counts[int] = Counts()
        for amount, number in zip(amounts, times, strict=True):
            counts[bisect_left(self._upper_bounds, amount)] += number
            self._sum.inc(amount * number)
        for place, number in counts.items():
            self._buckets[place].inc(number)


class WorkerMetrics:
    """The metrics of one worker process, in a registry of their own; with those of the process, `process_*`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        ProcessCollector(registry=r)
        # Transactions that got a decision.
        self.transactions = Counter("fraudstream_transactions", "Transactions decided", registry=r)
        # Decisions by outcome; their sum is fraudstream_transactions_total.
        self.decisions = Counter("fraudstream_decisions", "Decisions by outcome", ["outcome"], registry=r)
        # Decisions whose outcome alerts, by outcome and the model that decided.
        self.alerts = Counter("fraudstream_alerts", "Alerts sent", ["outcome", "model"], registry=r)
        # Alerts by how they were explained: treeshap or lightgbm (exact), path (no time for more), none (no reasons).
        self.alerts_explained = Counter(
            "fraudstream_alerts_explained", "Alerts by method", ["method"], registry=r
        )
        # Messages that went to the dead letters, by the stage that refused them and the kind of reason.
        self.dead_letters = Counter(
            "fraudstream_dead_letters", "Dead letters", ["stage", "reason"], registry=r
        )
        # Decisions flagged late, rows_capped, untracked, cold or repeated.
        self.flagged = Counter("fraudstream_flagged", "Decisions flagged", ["flag"], registry=r)
        # Labels read: learned in time, learned too late for a replay to see the same, or bad.
        self.labels = Counter("fraudstream_labels", "Labels read", ["result"], registry=r)
        # Messages read again only to rebuild state.
        self.replayed = Counter("fraudstream_replayed", "Transactions read silently", registry=r)
        # Rows of one turn of the loop.
        self.batch_rows = Histogram("fraudstream_batch_rows", "Rows a batch", buckets=_ROWS, registry=r)
        # Time spent in each stage of the loop.
        self.stage_seconds = Counter("fraudstream_stage_seconds", "Time by stage", ["stage"], registry=r)
        # From the first message of a batch in hand to the last of its decisions handed to the producer.
        self.batch_seconds = Histogram(
            "fraudstream_batch_seconds", "Time a batch takes", buckets=_SECONDS, registry=r
        )
        # From a transaction's stamp in Kafka to its decision handed to the producer; of 32 a batch, evenly spaced.
        self.latency = BatchHistogram(
            "fraudstream_latency_seconds", "Time to a decision", buckets=_LATENCIES, registry=r
        )
        # From the beginning of a commit until it is through.
        self.commit_seconds = Histogram(
            "fraudstream_commit_seconds", "Time a commit takes", buckets=_SECONDS, registry=r
        )
        # Messages known to wait in the assigned partitions.
        self.lag = Gauge("fraudstream_lag_messages", "Messages waiting", registry=r)
        # How long ago the message read last was put into its topic; 0 while none waits.
        self.lag_seconds = Gauge("fraudstream_lag_seconds", "Age of what is read", registry=r)
        # Event time of the newest transaction taken in, Unix seconds.
        self.watermark = Gauge("fraudstream_watermark_seconds", "Newest event time", registry=r)
        # Bytes of all feature state, room for growth included.
        self.state_bytes = Gauge("fraudstream_state_bytes", "Bytes of feature state", registry=r)
        # Entities kept, by kind.
        self.entities = Gauge("fraudstream_entities", "Entities kept", ["entity"], registry=r)
        # Features whose windows reach back before the known history.
        self.features_cold = Gauge("fraudstream_features_cold", "Features not warm yet", registry=r)
        # 1 while a step of the ladder is taken: explanations, shadow or batches.
        self.degraded = Gauge("fraudstream_degraded", "1 while left out", ["step"], registry=r)
        # Transactions that were decided without a score, by what was done: open or closed.
        self.unscored = Counter("fraudstream_unscored", "Decided without a score", ["failed"], registry=r)
        # Snapshots of the state, by how they ended: taken, or failed (the log says why).
        self.snapshots = Counter("fraudstream_snapshots", "Snapshots", ["result"], registry=r)
        # When the last snapshot was complete, Unix seconds; 0 before the first.
        self.snapshot_made = Gauge(
            "fraudstream_snapshot_made_seconds", "Time of the last snapshot", registry=r
        )
        # How long the last snapshot took to write.
        self.snapshot_seconds = Gauge("fraudstream_snapshot_seconds", "Time a snapshot took", registry=r)
        # How long the loop stood still for the last snapshot.
        self.snapshot_stall_seconds = Gauge(
            "fraudstream_snapshot_stall_seconds", "Stall by a snapshot", registry=r
        )
        # Turns in which a commit could not be completed: the broker is away, slow, or refuses it.
        self.commits_waiting = Counter("fraudstream_commits_waiting", "Commits retried", registry=r)
        # 1 once the worker serves, 0 while it rebuilds state.
        self.ready = Gauge("fraudstream_ready", "1 when serving", registry=r)
        # 1 while the compiled forest scores, 0 while LightGBM itself does.
        self.model_compiled = Gauge("fraudstream_model_compiled", "1 when compiled", registry=r)
        # Other models by role and result: loaded, refused (the old one goes on), removed, dropped (it failed).
        self.model_reloads = Counter(
            "fraudstream_model_reloads", "Models reloaded", ["role", "result"], registry=r
        )
        # Always 1; its labels name the model that scores.
        self.model_info = Gauge("fraudstream_model_info", "The scoring model", ["model"], registry=r)
        # Always 1; its labels name the challenger, if there is one.
        self.challenger_info = Gauge("fraudstream_challenger_info", "The challenger", ["model"], registry=r)
        # Transactions by what was decided and what the challenger would have decided.
        self.agreement = Counter(
            "fraudstream_challenger_outcomes", "Outcomes of both", ["champion", "challenger"], registry=r
        )
        # Transactions by how many risk points the challenger gives more than the champion (fewer: negative).
        self.challenger_shift = Counter(
            "fraudstream_challenger_shift", "Shift of risk points", ["points"], registry=r
        )
        # Sum of the risk points of the transactions that both scored, by role: their difference is the mean shift.
        self.shadow_points = Counter("fraudstream_shadow_points", "Risk points", ["role"], registry=r)

        # Transactions of the newest 7 mature days (window `mature`) and of all younger ones (`provisional`).
        self.tracked_transactions = self._tracked("transactions", "Transactions")
        # Alerts among them.
        self.tracked_alerts = self._tracked("alerts", "Alerts")
        # Those of which anything is known, fraud or not.
        self.tracked_labelled = self._tracked("labelled", "Labelled ones")
        # Frauds among them, as far as reported.
        self.tracked_frauds = self._tracked("frauds", "Frauds reported")
        # Reported frauds that alerted; alerts less these are false positives.
        self.tracked_frauds_alerted = self._tracked("frauds_alerted", "Reported frauds that alerted")
        # Frauds reported and, by the delays of reports, still to come; an estimate unless mature.
        self.tracked_frauds_expected = self._tracked("frauds_expected", "Frauds in the end")
        # The same of those that alerted.
        self.tracked_frauds_alerted_expected = self._tracked(
            "frauds_alerted_expected", "Frauds that alerted, in the end"
        )

        # PSI of the last 7 days of event time against the training window, by feature; `(score)`: the raw score.
        self.drift_psi = Gauge("fraudstream_drift_psi", "PSI", ["feature"], registry=r)
        # Largest difference of the two distributions at a bin's edge.
        self.drift_ks = Gauge("fraudstream_drift_ks", "KS", ["feature"], registry=r)
        # Share of the model's gain that is the feature's; 1 for the score.
        self.drift_gain = Gauge("fraudstream_drift_gain", "Weight in the model", ["feature"], registry=r)
        # Sampled rows that the drift is of; below 400 nothing is told.
        self.drift_rows = Gauge("fraudstream_drift_rows", "Rows counted", registry=r)

    def _tracked(self, what: str, meaning: str) -> Gauge:
        labels = ["window", "model", "segment"]
        return Gauge(f"fraudstream_tracked_{what}", meaning, labels, registry=self.registry)

    def exposition(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        return generate_latest(self.registry)


class RetrainMetrics:
    """The metrics of `fraudstream retrain`, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        # Rounds by how they ended: trained, or failed (the log says why).
        self.rounds = Counter("fraudstream_retrains", "Rounds of retraining", ["result"], registry=r)
        # 1 where the last round failed.
        self.failed = Gauge("fraudstream_retrain_failed", "1 after a failure", registry=r)
        # When the last round ended, Unix seconds; 0 before the first.
        self.ended_at = Gauge("fraudstream_retrain_ended_seconds", "End of the last round", registry=r)
        # How long the last round took.
        self.seconds = Gauge("fraudstream_retrain_seconds", "Time the last round took", registry=r)

    def ended(self, failed: bool, took_s: float, at_ms: int) -> None:
        """Count a round."""
        self.rounds.labels("failed" if failed else "trained").inc()
        self.failed.set(failed)
        self.seconds.set(took_s)
        self.ended_at.set(at_ms / 1000)

    def exposition(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        return generate_latest(self.registry)
