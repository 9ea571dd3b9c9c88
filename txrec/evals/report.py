"""Evaluation report `report.html`: one self-contained page without scripts or external resources."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from txrec.config import Config
from txrec.evals import metrics, plots
from txrec.evals.evaluation import Evaluation, best_of, query_texts
from txrec.evals.judged import HEAD, lines
from txrec.evals.plots import label
from txrec.schema import PAD, EventKind

NUM_SAMPLES = 6
SHOWN = 10
LAST_EVENTS = 8
_COLUMNS = ("ndcg@10", "recall@10", "precision@10", "hit_rate@1", "mrr", "map")

_STYLE = """
:root { --own: #1f5fa8; --line: #d9dee4; --faint: #66717d; --hit: #dff2e1; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1b232c; margin: 0 auto; max-width: 1060px; padding: 2rem 1.2rem }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.2rem; margin: 2.6rem 0 .4rem } h3 { font-size: 1rem; margin: 0 }
p, figcaption { color: var(--faint); max-width: 46rem; margin: .2rem 0 .8rem } figure { margin: 0 }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0 }
.tile { border: 1px solid var(--line); border-radius: 8px; padding: .6rem 1rem; min-width: 9rem }
.tile b { display: block; font-size: 1.5rem; color: var(--own) } .tile span { color: var(--faint); font-size: .85rem }
.scroll { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }
th { color: var(--faint); font-weight: 500 } th:first-child, td:first-child { text-align: left }
tr.own { font-weight: 600; color: var(--own) } svg { max-width: 100%; height: auto }
.plots { display: flex; flex-wrap: wrap; gap: 1.5rem }
.sample { border: 1px solid var(--line); border-radius: 8px; padding: .8rem 1rem; margin: .9rem 0 }
.lists { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: 1.2rem; font-size: .88rem }
.lists h4 { margin: .5rem 0 .2rem; font-size: .8rem; color: var(--faint); font-weight: 500 }
ol, ul { margin: 0; padding-left: 1.6rem } li.hit { background: var(--hit); font-weight: 600 }
small { color: var(--faint) }
"""


def page(config: Config, found: Evaluation) -> str:
    """The whole report as HTML text."""
    return _document(
        f"{config.name}: evaluation",
        [
            _head(config, found),
            _tiles(found),
            _section("Judged pairs", _JUDGED + _DECIDES * found.data.judged_only, _judged(found)),
            _section("Beside the baselines", _BASELINES, _svg(plots.system_bars(found)), _systems(found)),
            _section("Where it is good and where not", _SLICES, _svg(plots.slice_bars(found)), _slices(found)),
            _section("Telling right from wrong", _CURVES, _curves(found)),
            _section("Popular and rare products", _POPULARITY, _svg(plots.recall_by_popularity(found))),
            _learning(config),
            _section("What was recommended, and what they did next", _SAMPLES, *_users(found)),
            _section("What was searched, and what they clicked", _SEARCHES, *_searches(found)),
            _section("Every figure", "", _every_figure(found)),
        ],
    )


_BASELINES = (
    "Every system answered the same requests from the whole catalogue. Lines are 95 % bootstrap intervals over users;"
    " p is the chance of so large a difference to txrec by luck alone."
)
_JUDGED = (
    "The products that people graded for a query, ranked among themselves. Below, the whole catalogue is ranked,"
    " and a product that nobody graded counts as wrong, although it may be as good as a graded one."
)
_DECIDES = " NDCG@10 within the judged pairs decides whether a bundle is promoted."
_SLICES = (
    "Slices by request keep some requests. Slices by product (head, tail, cold) count only right products of that kind:"
    " the head is the most popular fifth, cold products have no training event, in all requests and in searches alone."
)
_CURVES = "Over all pairs of a request and a product. Products that were not listed share the lowest score."
_POPULARITY = "A recommender that only pushes what sells anyway finds nothing on the left."
_SAMPLES = "Requests drawn at random, not chosen. A product that the user really went on to is marked."
_SEARCHES = "Searches drawn at random; half of them, where there are any, were never seen in training."


def _document(title: str, parts: Iterable[str]) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>"
    )


def _head(config: Config, found: Evaluation) -> str:
    requests = found.figures["requests"]
    rule = found.data.meta.split_kind.replace("_", " ")
    sampled = " (a sample)" if requests["sampled"] else ""
    seen = "; products of the history are left out" if requests["filter_seen"] else ""
    return (
        f"<h1>{escape(config.name)}</h1><p>Bundle {escape(requests['bundle'])} on {requests['num_cases']:,} test"
        f" requests{sampled} of {requests['num_users']:,} users, {requests['with_query']:,} of them searches;"
        f" split: {rule}{seen}. {found.data.meta.num_items:,} products,"
        f" {'with' if requests['ranker'] else 'without'} ranker.</p>"
    )


def _tiles(found: Evaluation) -> str:
    figures, metric = found.figures, found.metric
    interval = figures["intervals"].get("test", {}).get(metric)
    best = best_of(figures["baselines"], metric)
    tiles = [
        (metric, f"{figures['test'][metric]:.4f}", _range(interval)),
        (f"best baseline: {label(best)}", f"{figures['baselines'][best][metric]:.4f}", metric),
        ("coverage@10", _percent(figures["test"].get("coverage@10")), "of the catalogue shown"),
        ("AUC per user", f"{figures['test']['auc_per_user']:.4f}", "whole catalogue"),
    ]
    oracle = figures.get("oracle", {}).get("all")
    if oracle:
        tiles.insert(
            1, ("of what can be known", f"{oracle['share']:.0%}", f"the truth itself: {oracle['ndcg@10']:.4f}")
        )
    judged = figures.get("judged")
    if judged:
        sure = _range(judged["intervals"].get("test", {}).get("ndcg@10"))
        against = f"bm25 {judged['baselines']['bm25']['ndcg@10']:.4f}"
        tiles.insert(
            0, ("judged pairs: ndcg@10", f"{judged['test']['ndcg@10']:.4f}", " | ".join(filter(None, (sure, against))))
        )
    cells = (f'<div class="tile">{escape(n)}<b>{v}</b><span>{escape(s)}</span></div>' for n, v, s in tiles)
    return f'<div class="tiles">{"".join(cells)}</div>'


def _judged(found: Evaluation) -> str:
    figures = found.figures.get("judged")
    if not figures:
        return ""
    pairs = f"{figures['num_pairs']:,} pairs of {figures['num_queries']:,} queries"
    rows = [(name == "test", [label(name), *cells]) for name, cells in lines(figures).items()]
    return _table([pairs, *HEAD], rows)


def _range(interval: Mapping[str, float] | None) -> str:
    return f"{interval['low']:.4f} to {interval['high']:.4f}" if interval else ""


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _section(title: str, text: str, *parts: str) -> str:
    body = "".join(part for part in parts if part)
    return f"<section><h2>{escape(title)}</h2><p>{escape(text)}</p>{body}</section>" if body else ""


def _svg(svg: str) -> str:
    return f"<figure>{svg}</figure>" if svg else ""


def _table(head: Sequence[str], rows: Iterable[tuple[bool, Sequence[str]]]) -> str:
    """Rows are (is txrec's own, cells)."""
    body = "".join(_row(own, cells) for own, cells in rows)
    header = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    return f'<div class="scroll"><table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table></div>'


def _row(own: bool, cells: Sequence[str]) -> str:
    mark = ' class="own"' if own else ""
    return f"<tr{mark}>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def _systems(found: Evaluation) -> str:
    columns = tuple(dict.fromkeys([found.metric, *(c for c in _COLUMNS if c in found.per_case["test"])]))
    means = {name: metrics.means(figures) for name, figures in found.per_case.items()}
    names = sorted(means, key=lambda name: (name != "test", -means[name][found.metric]))
    compared = found.figures["comparisons"]
    rows = []
    for name in names:
        luck = f"{compared[name]['p_value']:.3f}" if name in compared else ""
        rows.append((name == "test", [label(name), *(f"{means[name][column]:.4f}" for column in columns), luck]))
    return _table(["", *columns, "p"], rows)


def _slices(found: Evaluation) -> str:
    rows = []
    for name, part in found.figures["slices"].items():
        best = best_of(part["baselines"], found.metric)
        figures = [part["test"][found.metric], part["retrieval"][found.metric], part["baselines"][best][found.metric]]
        cells = [label(name), f"{part['num_cases']:,}", *(f"{value:.4f}" for value in figures), label(best)]
        rows.append((False, cells))
    return _table([found.metric, "requests", "txrec", "retrieval only", "best baseline", ""], rows)


def _curves(found: Evaluation) -> str:
    if not len(found.cases):
        return ""
    return f'<div class="plots">{_svg(plots.roc_and_precision(found))}{_svg(plots.reliability(found))}</div>'


def _learning(config: Config) -> str:
    curves = plots.learning_curves(config.checkpoints_dir / "history" / "training.json")
    return _section("How it learned", "The history model, by epoch.", _svg(curves))


def _users(found: Evaluation) -> list[str]:
    length = found.cases.end - found.cases.start
    rows = np.flatnonzero((found.cases.query_idx == PAD) & (length > 0))
    return [_sample(found, int(row)) for row in _drawn(rows, NUM_SAMPLES)]


def _searches(found: Evaluation) -> list[str]:
    searched = found.cases.query_idx != PAD
    known = np.append(0, np.asarray(found.data.queries.column("train_count")))[found.cases.query_idx] > 0
    rows = [_drawn(np.flatnonzero(searched & part), NUM_SAMPLES // 2) for part in (known, ~known)]
    return [_sample(found, int(row)) for row in np.concatenate(rows)]


def _drawn(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    return np.random.default_rng(0).permutation(rows)[:count]


def _sample(found: Evaluation, case: int) -> str:
    cases, texts, titles = found.cases, query_texts(found.data), _titles(found)
    query, user = texts[cases.query_idx[case]], cases.user[case]
    right = cases.truth.of(case)
    top = [int(item) for item in found.lists.ranked[case, :SHOWN] if item != PAD]
    place = {int(item): rank for rank, item in enumerate(found.lists.ranked[case], start=1) if item != PAD}
    who = f"user {escape(str(found.data.sequences.user_id[user]))}" if user >= 0 else "anybody"
    heading = f"“{escape(query)}” <small>{who}</small>" if query else who
    listed = "".join(f"<li{_hit(item in right)}>{titles[item]}</li>" for item in top)
    did = "".join(
        f"<li{_hit(int(item) in top)}>{titles[item]} <small>{_place(place.get(int(item)))}</small></li>"
        for item in right
    )
    before = "".join(f"<li>{line}</li>" for line in _last_events(found, case, texts, titles))
    columns = [("recommended", f"<ol>{listed}</ol>"), ("what really followed", f"<ul>{did}</ul>")]
    if before:
        columns.insert(0, ("before, latest first", f"<ul>{before}</ul>"))
    body = "".join(f"<div><h4>{name}</h4>{content}</div>" for name, content in columns)
    return f'<div class="sample"><h3>{heading}</h3><div class="lists">{body}</div></div>'


def _hit(is_hit: bool) -> str:
    return ' class="hit"' if is_hit else ""


def _place(rank: int | None) -> str:
    return f"place {rank}" if rank else "not listed"


def _last_events(found: Evaluation, case: int, texts: Sequence[str], titles: Sequence[str]) -> list[str]:
    history = found.cases.history(case)
    lines = []
    for place in range(len(history.item_idx) - 1, max(len(history.item_idx) - LAST_EVENTS, 0) - 1, -1):
        item, query = int(history.item_idx[place]), int(history.query_idx[place])
        what = titles[item] if item else f"“{escape(texts[query])}”"
        lines.append(f"<small>{EventKind(int(history.event[place])).label}</small> {what}")
    return lines


def _titles(found: Evaluation) -> list[str]:
    """Escaped title, or the raw id where there is none, by item_idx."""
    keys, titles = (found.data.items.column(name).to_pylist() for name in ("item_id", "title"))
    return ["", *(escape(title or key) for key, title in zip(keys, titles, strict=True))]


def _every_figure(found: Evaluation) -> str:
    own, retrieval = found.figures["test"], found.figures["retrieval"]
    intervals: Mapping[str, Any] = found.figures["intervals"].get("test", {})
    rows = []
    for name, value in own.items():
        other = f"{retrieval[name]:.4f}" if name in retrieval else ""
        rows.append((False, [name, f"{value:.4f}", _range(intervals.get(name)), other]))
    return _table(["figure", "txrec", "95 % interval", "retrieval only"], rows)
