"""What `fraudstream evaluate` found, as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from fraudstream.console.charts import chart, fpr_axis, share_axis
from fraudstream.console.evaluation import short, spelled

DRIFT_SHOWN = 15
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1060px;margin:2rem auto;padding:0 1rem;color:#1d2429}
h1,h2,h3{line-height:1.2}h2{margin-top:2.5rem;border-bottom:1px solid #d8dee2;padding-bottom:.3rem}
table{border-collapse:collapse;margin:1rem 0;display:block;overflow-x:auto}
th,td{padding:.25rem .7rem;text-align:right;border-bottom:1px solid #e6eaec;white-space:nowrap}
th:first-child,td:first-child{text-align:left}.charts{display:flex;flex-wrap:wrap;gap:1rem}
.charts>div{flex:1 1 440px}.chart{width:100%;font-size:11px;fill:#52606a}
.grid{stroke:#e1e6e9;fill:none}.line{fill:none;stroke-width:2}
.legend span{margin-right:1rem;white-space:nowrap}
.legend i{display:inline-block;width:.8em;height:.8em;margin-right:.3em}
.warn{background:#fff4d6;padding:.6rem 1rem}.quiet{color:#66727a}
"""


def report_of(found: dict[str, Any]) -> str:
    """Return the page for what `evaluate_files` found."""
    title = "Evaluation of " + ", ".join(found["cards"] or [found["compared_with"]])
    parts = [
        *_about(found),
        *_figures(found),
        *_curves(found),
        *_thresholds(found),
        *_calibration(found),
        *_parts(found),
        *_drift(found),
        *(part for card in found["cards"].values() for part in _card(card)),
    ]
    return page(title, parts)


def page(title: str, parts: Iterable[str]) -> str:
    """Return a page with its style."""
    head = (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{escape(title)}</title>"
        f"<style>{STYLE}</style></head><body><h1>{escape(title)}</h1>"
    )
    return "\n".join([head, *parts, "</body></html>"]) + "\n"


def _about(found: dict[str, Any]) -> Iterable[str]:
    counts = found["counts"]
    yield (
        f"<p>Transactions from {found['from']} to {found['to']}, judged by what was known at {found['as_of']}. "
        f"Mature after {found['maturity']}: by then silence means legitimate. 95 % intervals from "
        f"{found['resamples']} draws of whole {escape(found['clusters'])}s, the same for every model "
        f"(seed {found['seed']}).</p>"
    )
    for name in found["in_sample"]:
        yield (
            f'<p class="warn">{escape(name)} was made with some of these transactions: its figures flatter it.</p>'
        )
    coverage = counts["labelled"] / counts["mature"]
    yield "<h2>Data</h2>" + table_of(
        ["", "rows"],
        [
            *([name.replace("_", " "), f"{counts[name]:,}"] for name in counts if name != "newest_ms"),
            ["mature ones with a label", f"{coverage:.2%}"],
        ],
    )


def _figures(found: dict[str, Any]) -> Iterable[str]:
    models = found["models"]
    rows = [
        [short(name), *(spelled(model["figures"][name]) for model in models.values())]
        for name in next(iter(models.values()))["figures"]
    ]
    cards = [model["card_precision"] for model in models.values()]
    rows.append([f"card precision@{cards[0]['k']}", *(spelled(card) for card in cards)])
    rows.append(["its ceiling", *(f"{card['ceiling']:.3f}" for card in cards)])
    yield "<h2>Figures</h2>" + table_of(["", *models], rows)
    for name, each in found["differences"].items():
        yield f"<h3>{escape(name)}: more than {escape(found['compared_with'])}</h3>" + table_of(
            ["figure", "difference"], [[short(figure), spelled(value)] for figure, value in each.items()]
        )
    acted = {name: model["outcomes"] for name, model in models.items() if "outcomes" in model}
    if acted:
        keys = next(iter(acted.values()))
        yield "<h2>What the outcomes did</h2>" + table_of(
            ["", *acted],
            [[key.replace("_", " "), *(_number(told[key]) for told in acted.values())] for key in keys],
        )


def _curves(found: dict[str, Any]) -> Iterable[str]:
    curves = found["curves"]
    precise = {name: [(p["recall"], p["precision"]) for p in points] for name, points in curves.items()}
    caught = {name: [(p["fpr"], p["recall"]) for p in points] for name, points in curves.items()}
    yield '<h2>Curves</h2><div class="charts"><div>'
    yield chart(precise, share_axis("recall"), share_axis("precision"))
    yield "</div><div>"
    yield chart(caught, fpr_axis(), share_axis("recall"))
    yield "</div></div>"


def _thresholds(found: dict[str, Any]) -> Iterable[str]:
    for name, rows in found["thresholds"].items():
        if rows:
            yield f"<h2>Thresholds of {escape(name)}</h2>" + table_of(
                [key.replace("_", " ") for key in rows[0]],
                [[_number(v) for v in row.values()] for row in rows],
            )


def _calibration(found: dict[str, Any]) -> Iterable[str]:
    fits = {n: model["calibration"] for n, model in found["models"].items() if "calibration" in model}
    if not fits:
        return
    lines = {
        name: [(b["probability"], b["frauds"]["rate"]) for b in fit["bins"]] for name, fit in fits.items()
    }
    yield '<h2>Calibration</h2><div class="charts"><div>'
    yield chart(lines, share_axis("probability"), share_axis("share of fraud"), diagonal=True)
    yield "</div><div>"
    names = ("expected_frauds", "frauds", "brier", "brier_constant", "ece")
    yield table_of(
        ["", *fits],
        [[name.replace("_", " "), *(_number(fit[name]) for fit in fits.values())] for name in names],
    )
    yield "</div></div>"


def _parts(found: dict[str, Any]) -> Iterable[str]:
    names = list(found["models"])
    for title, parts in (
        ("Weeks", [(week["from"][:10], week) for week in found["weeks"]]),
        ("Segments", list(found["segments"].items())),
    ):
        if parts:
            rows = [
                [
                    name,
                    f"{part['transactions']:,}",
                    f"{part['frauds']:,}",
                    *(_number(part["models"][model]["average_precision"]) for model in names),
                    *(_number(part["models"][model]["recall_at_fpr_0.01"]) for model in names),
                ]
                for name, part in parts
            ]
            heads = [f"{figure} {m}" for figure in ("average precision", "recall at 1 % FPR") for m in names]
            yield f"<h2>{title}</h2>" + table_of(["", "mature", "frauds", *heads], rows)


def _drift(found: dict[str, Any]) -> Iterable[str]:
    for name, shifts in found["drift"].items():
        gains = {each["feature"]: each["share"] for each in found["cards"][name]["top_features"]}
        yield f"<h2>Drift since the training of {escape(name)}</h2>" + table_of(
            ["feature", "PSI", "KS", "missing in training", "missing now", "share of the model's gain"],
            [
                [
                    feature,
                    _number(shift["psi"]),
                    _number(shift["ks"]),
                    f"{shift['missing_before']:.1%}",
                    f"{shift['missing']:.1%}",
                    f"{gains[feature]:.1%}" if feature in gains else "-",
                ]
                for feature, shift in list(shifts.items())[:DRIFT_SHOWN]
            ],
        )
        yield '<p class="quiet">Population stability index: below 0.1 no shift, above 0.25 a large one.</p>'


def _card(card: dict[str, Any]) -> Iterable[str]:
    yield f"<h2>Model card: {escape(card['model'])}</h2>"
    windows = card["windows"]
    plain = ("created_at", "trained_as_of", "trees", "features")
    rows = [[name.replace("_", " "), str(card[name])] for name in plain]
    rows += [
        ["training window", f"{windows['train']} to {windows['gap']}"],
        ["validation window", f"{windows['validate']} to {windows['end']}"],
    ]
    for name in ("rows", "frauds", "validation", "parameters"):
        values = ", ".join(f"{key} {_number(value)}" for key, value in (card[name] or {}).items())
        rows.append([name, values])
    yield table_of(["", ""], rows)
    yield f"<h3>Intended use</h3><p>{escape(card['intended_use'])}</p><h3>Limits</h3><ul>"
    yield "".join(f"<li>{escape(limit)}</li>" for limit in card["limits"]) + "</ul><h3>Top features</h3>"
    yield table_of(
        ["feature", "share of gain"],
        [[each["feature"], f"{each['share']:.1%}"] for each in card["top_features"]],
    )


def table_of(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of texts."""
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _number(value: Any) -> str:
    if value is None or value != value:  # NaN
        return "-"
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) >= 100 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
