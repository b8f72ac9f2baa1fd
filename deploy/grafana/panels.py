"""The dashboards in short: `python -m docs.generate` writes them as Grafana's JSON into `dashboards/`.

A panel is a title, a unit, what it tells, and its queries by legend. `$instance` is chosen above the dashboard.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

WIDE = 24  # columns of Grafana's grid
SCHEMA_VERSION = 39  # of Grafana 11
PROMETHEUS = {"type": "prometheus", "uid": "${source}"}


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Attributes:
        unit: one of Grafana's units.
        tells: its description.
        queries: PromQL by legend.
        kind: `timeseries`, `stat` or `bargauge`; the latter two show the last value.
        stacked: draws the lines on top of each other.
    """

    title: str
    unit: str
    tells: str
    queries: Mapping[str, str]
    kind: str = "timeseries"
    width: int = 8
    stacked: bool = False

    @property
    def height(self) -> int:
        """Return the rows of the grid that it takes."""
        return 4 if self.kind == "stat" else 8


def rate(metric: str, by: str = "", of: str = "") -> str:
    """Return the sum of a counter's rates over the chosen workers."""
    chosen = f"{of},$chosen" if of else "$chosen"
    return f"sum{f' by ({by})' if by else ''} (rate(fraudstream_{metric}{{{chosen}}}[$__rate_interval]))"


def quantile(q: float, histogram: str) -> str:
    """Return a quantile of a histogram over the chosen workers."""
    return f"histogram_quantile({q}, {rate(f'{histogram}_bucket', 'le')})"


def tracked(what: str, window: str, by: str = "model") -> str:
    """Return the sum of what was tracked over the chosen workers."""
    return f'sum by ({by}) (fraudstream_tracked_{what}{{window="{window}",$chosen}})'


def fpr(window: str, by: str = "model") -> str:
    """Return the false-positive rate of a window, what is to come included where it is not mature."""
    end = "" if window == "mature" else "_expected"
    positives = f"{tracked('alerts', window, by)} - {tracked(f'frauds_alerted{end}', window, by)}"
    return f"({positives}) / ({tracked('transactions', window, by)} - {tracked(f'frauds{end}', window, by)})"


def _alike(metric: str) -> str:
    """Return the sum of the rates of the series whose champion and challenger are the same outcome."""
    twins = f"group by (champion) (fraudstream_{metric})"
    same = f'label_replace({twins}, "challenger", "$1", "champion", "(.*)")'
    return (
        f"sum (rate(fraudstream_{metric}{{$chosen}}[$__rate_interval]) and on (champion, challenger) {same})"
    )


WORKER = [
    Panel("Ready", "short", "Workers that serve.", {"ready": "sum(fraudstream_ready{$chosen})"}, "stat", 4),
    Panel("Transactions", "reqps", "Decided a second.", {"now": rate("transactions_total")}, "stat", 4),
    Panel("Latency, p99", "s", "From Kafka's stamp to the decision handed over.",
          {"p99": quantile(0.99, "latency_seconds")}, "stat", 4),
    Panel("Lag", "s", "Age of what is read, while messages wait.",
          {"lag": "max(fraudstream_lag_seconds{$chosen})"}, "stat", 4),
    Panel("Dead letters", "percentunit", "Share of the messages.",
          {"share": f"{rate('dead_letters_total')} / ({rate('dead_letters_total')} + {rate('transactions_total')})"},
          "stat", 4),
    Panel("Snapshot", "s", "Age of the oldest worker's newest one.",
          {"age": "time() - min(fraudstream_snapshot_made_seconds{$chosen} > 0)"}, "stat", 4),
    Panel("Transactions", "reqps", "Decided a second, by worker; and read again to rebuild state.",
          {"{{instance}}": rate("transactions_total", "instance"),
           "{{instance}} again": rate("replayed_total", "instance")}),
    Panel("Latency", "s", "From Kafka's stamp to the decision handed to the producer.",
          {f"p{name}": quantile(q, "latency_seconds") for name, q in (("50", 0.5), ("99", 0.99), ("99.9", 0.999))}),
    Panel("Waiting messages", "short", "Known to wait in the assigned partitions, by worker.",
          {"{{instance}}": "fraudstream_lag_messages{$chosen}"}),
    Panel("Where the time goes", "percentunit", "Share of the loop's time by stage; consume includes waiting.",
          {"{{stage}}": rate("stage_seconds_total", "stage") + " / scalar(count(fraudstream_ready{$chosen}))"},
          stacked=True),
    Panel("Batches", "short", "Rows of a turn of the loop.",
          {"mean": f"{rate('batch_rows_sum')} / {rate('batch_rows_count')}", "p99": quantile(0.99, "batch_rows")}),
    Panel("Batches and commits", "s", "Time that one takes.",
          {"batch, p99": quantile(0.99, "batch_seconds"), "commit, p50": quantile(0.5, "commit_seconds"),
           "commit, p99": quantile(0.99, "commit_seconds")}),
    Panel("Dead letters", "cps", "A second, by stage and kind of reason.",
          {"{{stage}}: {{reason}}": rate("dead_letters_total", "stage, reason")}),
    Panel("Flags", "cps", "Decisions a second that are late, repeated, capped, cold, ...",
          {"{{flag}}": rate("flagged_total", "flag")}),
    Panel("Event time", "s", "How far the newest event time is behind the clock, by worker.",
          {"{{instance}}": "time() - fraudstream_watermark_seconds{$chosen}"}),
    Panel("Memory", "bytes", "Of the process, and of the feature state in it, by worker.",
          {"{{instance}} process": 'process_resident_memory_bytes{job="fraudstream-worker",$chosen}',
           "{{instance}} state": "fraudstream_state_bytes{$chosen}"}),
    Panel("Entities", "short", "Kept, by kind.", {"{{entity}}": "sum by (entity) (fraudstream_entities{$chosen})"}),
    Panel("Processor", "short", "Cores in use, by worker.",
          {"{{instance}}":
           'rate(process_cpu_seconds_total{job="fraudstream-worker",$chosen}[$__rate_interval])'}),
    Panel("Snapshots", "s", "How long the last one took, and how long the loop stood still for it.",
          {"{{instance}} took": "fraudstream_snapshot_seconds{$chosen}",
           "{{instance}} stood still": "fraudstream_snapshot_stall_seconds{$chosen}"}),
    Panel("Under load", "short", "Steps of the ladder taken; turns in which a commit waited, a second.",
          {"{{step}}": "max by (step) (fraudstream_degraded{$chosen})",
           "commits waiting": rate("commits_waiting_total")}),
    Panel("Cold features", "short", "Whose windows reach back before the known history, by worker.",
          {"{{instance}}": "fraudstream_features_cold{$chosen}"}),
]  # fmt: skip

MODEL = [
    Panel("Champion", "short", "The model that decides.",
          {"{{model}}": "count by (model) (fraudstream_model_info{$chosen})"}, "stat", 6),
    Panel("Alerts", "percentunit", "Share of the transactions.",
          {"share": f"{rate('alerts_total')} / {rate('transactions_total')}"}, "stat", 6),
    Panel("False-positive rate", "percentunit", "Of the newest seven mature days.",
          {"{{model}}": fpr("mature")}, "stat", 6),
    Panel("Fraud found", "percentunit", "Share of the frauds of the newest seven mature days that alerted.",
          {"{{model}}": f"{tracked('frauds_alerted', 'mature')} / {tracked('frauds', 'mature')}"}, "stat", 6),
    Panel("Decisions", "reqps", "A second, by outcome.", {"{{outcome}}": rate("decisions_total", "outcome")},
          stacked=True),
    Panel("Alerts", "cps", "A second, by outcome and model.",
          {"{{outcome}} {{model}}": rate("alerts_total", "outcome, model")}),
    Panel("Alert rate", "percentunit", "Share of the transactions, by outcome.",
          {"{{outcome}}": f"{rate('alerts_total', 'outcome')} / scalar({rate('transactions_total')})"}),
    Panel("False-positive rate", "percentunit",
          "Counted over the newest seven mature days; estimated for all younger ones.",
          {"{{model}} mature": fpr("mature"), "{{model}} estimated": fpr("provisional")}),
    Panel("False-positive rate by segment", "percentunit", "Of quality.segment; newest seven mature days.",
          {"{{segment}}": fpr("mature", "segment")}),
    Panel("Alerts that were right", "percentunit", "Frauds among the alerts, mature and estimated.",
          {"{{model}} mature": f"{tracked('frauds_alerted', 'mature')} / {tracked('alerts', 'mature')}",
           "{{model}} estimated":
           f"{tracked('frauds_alerted_expected', 'provisional')} / {tracked('alerts', 'provisional')}"}),
    Panel("Frauds", "short", "Reported and found of the newest seven mature days.",
          {"{{model}} reported": tracked("frauds", "mature"),
           "{{model}} found": tracked("frauds_alerted", "mature")}),
    Panel("Explanations", "cps", "Alerts a second by how they were explained.",
          {"{{method}}": rate("alerts_explained_total", "method")}),
    Panel("Compiled", "short", "1 while the compiled forest scores, 0 while LightGBM itself does.",
          {"{{instance}}": "fraudstream_model_compiled{$chosen}"}),
]  # fmt: skip

LEARNING = [
    Panel("Last retraining", "s", "How long ago the last round ended.",
          {"ago": "time() - max(fraudstream_retrain_ended_seconds > 0)"}, "stat", 4),
    Panel("Failed", "short", "1 where the last round failed.", {"failed": "max(fraudstream_retrain_failed)"},
          "stat", 4),
    Panel("It took", "s", "The last round of retraining.", {"took": "max(fraudstream_retrain_seconds)"}, "stat", 4),
    Panel("Rounds", "short", "Of retraining, by how they ended.",
          {"{{result}}": "sum by (result) (fraudstream_retrains_total)"}, "stat", 4),
    Panel("Challenger", "short", "The model that is tried beside the champion.",
          {"{{model}}": "count by (model) (fraudstream_challenger_info{$chosen})"}, "stat", 4),
    Panel("Labels known", "percentunit", "Share of the newest seven mature days of which anything is reported.",
          {"share": f"sum({tracked('labelled', 'mature')}) / sum({tracked('transactions', 'mature')})"}, "stat", 4),
    Panel("Labels", "cps", "Read a second, by result.", {"{{result}}": rate("labels_total", "result")}),
    Panel("Frauds still to come", "short", "Of days that are not mature: reported, and expected in the end.",
          {"{{model}} reported": tracked("frauds", "provisional"),
           "{{model}} expected": tracked("frauds_expected", "provisional")}),
    Panel("Drift", "short", "PSI of the ten features (and the score) that moved most since training.",
          {"{{feature}}": "topk(10, max by (feature) (fraudstream_drift_psi{$chosen}))"}, "bargauge"),
    Panel("Drift that matters", "short", "PSI of features with 1 % of the model's gain or more.",
          {"{{feature}}": "max by (feature) (fraudstream_drift_psi{$chosen} and fraudstream_drift_gain >= 0.01)"},
          width=16),
    Panel("Champion and challenger agree", "percentunit", "Share of the transactions decided alike.",
          {"alike": f"{_alike('challenger_outcomes_total')} / {rate('challenger_outcomes_total')}"}),
    Panel("Risk points", "short", "Mean of both, of what both scored.",
          {"{{role}}": rate("shadow_points_total", "role") + " / scalar(" + rate("challenger_outcomes_total") + ")"}),
    Panel("Shift of risk points", "short", "Transactions by how many points more the challenger gives.",
          {"{{points}}": "sum by (points) (increase(fraudstream_challenger_shift_total{$chosen}[$__range]))"},
          "bargauge"),
    Panel("Models taken", "short", "And refused, removed or dropped, by role.",
          {"{{role}} {{result}}":
           "sum by (role, result) (increase(fraudstream_model_reloads_total{$chosen}[$__range]))"}),
]  # fmt: skip

DASHBOARDS = {
    "worker": ("fraudstream: worker", WORKER),
    "model": ("fraudstream: model and false positives", MODEL),
    "learning": ("fraudstream: learning loop", LEARNING),
}


def dashboard(name: str) -> dict[str, Any]:
    """Return a dashboard as Grafana's JSON model."""
    title, panels = DASHBOARDS[name]
    return {
        "uid": f"fraudstream-{name}",
        "title": title,
        "tags": ["fraudstream"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": False,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "links": [
            {"type": "dashboards", "tags": ["fraudstream"], "title": "fraudstream", "asDropdown": False}
        ],
        "templating": {"list": [_source(), _instance()]},
        "panels": _placed(panels),
    }


def _placed(panels: list[Panel]) -> list[dict[str, Any]]:
    """Return the panels from left to right, and from top to bottom."""
    placed: list[dict[str, Any]] = []
    x = y = 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > WIDE:
            x, y = 0, y + panels[number - 2].height
        placed.append(_panel(panel, number, {"x": x, "y": y, "w": panel.width, "h": panel.height}))
        x += panel.width
    return placed


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    last = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}
    stacking = {"custom": {"stacking": {"mode": "normal"}, "fillOpacity": 40}} if panel.stacked else {}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.tells,
        "gridPos": place,
        "datasource": PROMETHEUS,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0} | stacking, "overrides": []},
        "options": {} if panel.kind == "timeseries" else last,
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": PROMETHEUS,
                "expr": expr.replace("$chosen", 'instance=~"$instance"'),
                "legendFormat": legend,
                "instant": panel.kind == "bargauge",
                "range": panel.kind != "bargauge",
            }
            for place, (legend, expr) in enumerate(panel.queries.items())
        ],
    }


def _source() -> dict[str, Any]:
    return {
        "name": "source",
        "type": "datasource",
        "query": "prometheus",
        "label": "Prometheus",
        "current": {},
    }


def _instance() -> dict[str, Any]:
    return {
        "name": "instance",
        "type": "query",
        "label": "Worker",
        "datasource": PROMETHEUS,
        "query": {"query": "label_values(fraudstream_ready, instance)", "refId": "instance"},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "current": {"text": "All", "value": "$__all"},
    }
