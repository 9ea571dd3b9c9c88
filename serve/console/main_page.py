"""Console: a page that shows slates, candidates and histories, with the reasons of each.

It is a client of the HTTP API and nothing more: a program can request everything that it shows. Gradio's queue is
off, so an action is one HTTP request and any replica of the ingress can answer it. Nothing is loaded from elsewhere:
fonts are the system's, and Gradio's analytics are off.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from fastapi import FastAPI

from txrec.client import ApiError, AsyncClient, Json

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported

import gradio as gr

from serve.console import experiments_page, judging_page

PATH = "/console"
CONFIGURED = "as configured"
GOALS: dict[str, Json | None] = {
    CONFIGURED: None,
    "relevance": {},
    "purchases": {"purchase": 1},
    "revenue": {"revenue": 1},
}
"""Objectives to try, as requests name them."""
SORTS = ["relevance", "popularity", "newness", "price", "-price"]
MAX_CANDIDATES = 100
MAX_HISTORY = 30
STYLE = Path(__file__).with_name("console.css")
_FONTS = ("system-ui", "sans-serif")
_ICON = (
    "<link rel='icon' href='data:image/svg+xml,<svg xmlns=%22http://www.w3.org/2000/svg%22 viewBox=%220 0 16 16%22>"
    "<rect width=%2216%22 height=%2216%22 rx=%223%22 fill=%22%230d9488%22/>"
    "<path d=%22M3 4h10M8 4v9%22 stroke=%22white%22 stroke-width=%222%22/></svg>'>"
)
_VERBS = {
    "search": "searched",
    "view": "viewed",
    "click": "clicked",
    "cart": "added to cart",
    "purchase": "bought",
    "rate": "rated",
    "impression": "was shown",
}


@dataclass(frozen=True)
class View:
    """Settings of the answer that the console shows.

    Attributes:
        diversity: of the slate, 0 to 1.
        unseen: whether the user's history is left out.
        whole: whether it shows a search page, with total and facets, instead of a slate.
        sort: order of the page.
        page: its number, from 1.
        goal: one of `GOALS`.
        where: filter expression, empty = none.
    """

    diversity: float = 0.0
    unseen: bool = False
    whole: bool = False
    sort: str = "relevance"
    page: int = 1
    where: str = ""
    goal: str = CONFIGURED


class Panels(NamedTuple):
    """Parts of the console's answer, as HTML."""

    status: str
    history: str
    candidates: str
    slate: str


SLATE = View()


def mount(app: FastAPI) -> FastAPI:
    """Adds the console to an HTTP application, at `PATH`."""
    client = AsyncClient("http://console", transport=httpx.ASGITransport(app, raise_app_exceptions=False))
    mounted: FastAPI = gr.mount_gradio_app(
        app,
        blocks(client),
        path=PATH,
        theme=gr.themes.Default(font=_FONTS, font_mono=("ui-monospace", "monospace"), primary_hue="teal"),
        css=STYLE.read_text(encoding="utf-8"),
        head=_ICON,
        footer_links=[],
        ssr_mode=False,
        show_error=True,
    )
    return mounted


def blocks(client: AsyncClient) -> gr.Blocks:
    """The page."""

    async def show(query: str, user: str, top_k: float, diversity: float, unseen: bool, *of_page: Any) -> Panels:
        whole, sort, page, where, goal = of_page
        sort, where = str(sort or "relevance"), str(where or "").strip()  # Gradio sends None for an untouched field
        view = View(diversity, unseen, bool(whole), sort, max(1, int(page or 1)), where, str(goal or CONFIGURED))
        return await answer(client, query, user, int(top_k), view)

    async def complete(query: str, user: str) -> str:
        return await suggestions(client, query, user)

    async def hello() -> str:
        return await title(client)

    page: gr.Blocks
    with gr.Blocks(title="txrec console", analytics_enabled=False, fill_width=True) as page:
        header = gr.HTML(_header("", ""), padding=False)
        with gr.Row(equal_height=True, elem_id="ask"):
            query = gr.Textbox(label="Query", placeholder="search text; empty = recommendations", scale=4)
            user = gr.Textbox(label="User", placeholder="user id; empty = anonymous", scale=2)
            button = gr.Button("Show", variant="primary", scale=1, min_width=120, elem_id="show")
        hints = gr.HTML(elem_id="hints", padding=False)
        with gr.Accordion("More", open=False), gr.Row():
            top_k = gr.Slider(1, 50, 12, step=1, label="Slate")
            diversity = gr.Slider(0, 1, 0, step=0.05, label="Diversity")
            unseen = gr.Checkbox(label="Leave out items of the user's history")
            whole = gr.Checkbox(label="Search page")
            sort = gr.Dropdown(SORTS, value="relevance", label="Sort", allow_custom_value=True)
            page_number = gr.Number(1, label="Page", minimum=1, precision=0)
            where = gr.Textbox(label="Filter", placeholder="price < 50 AND NOT colour = red")
            goal = gr.Dropdown(list(GOALS), value=CONFIGURED, label="Objective")
        status = gr.HTML(elem_id="status", padding=False)
        with gr.Row(elem_id="answer"):
            history = gr.HTML(
                _panel("History", "", _empty("Enter a user id to see their history.")), elem_id="history", padding=False
            )
            before = gr.HTML(
                _panel("Before ranking", "", _empty("Enter a query or a user.")), elem_id="before", padding=False
            )
            after = gr.HTML(
                _panel("After ranking", "", _empty("Enter a query or a user.")), elem_id="after", padding=False
            )
        query.input(complete, [query, user], hints, queue=False, show_progress="hidden", api_visibility="private")
        inputs = [query, user, top_k, diversity, unseen, whole, sort, page_number, where, goal]
        outputs = [status, history, before, after]
        for trigger in (button.click, query.submit, user.submit):
            trigger(show, inputs, outputs, queue=False, show_progress="minimal", api_visibility="private")
        page.load(hello, None, header, queue=False, show_progress="hidden", api_visibility="private")
    judging_page.add(page, client)
    experiments_page.add(page, client)
    return page


async def title(client: AsyncClient) -> str:
    """The page's head, with the model that answers."""
    try:
        models = (await client.models())["models"]
    except ApiError as error:
        return _header("", str(error))
    model = next((model for model in models if model["variant"] == "production"), None)
    if model is None:
        return _header("", "no model in production")
    return _header(model["version"], f"{model['num_items']:,} products")


async def suggestions(client: AsyncClient, query: str, user: str) -> str:
    """Completions of the search field, as HTML; empty where nothing is typed."""
    if not query.strip():
        return ""
    try:
        reply = await client.suggest(query, user.strip() or None, limit=8)
    except ApiError as error:
        return _alert(str(error))
    tags = "".join(
        f"<span class='tx-tag' title='{escape(one['kind'])}'>{escape(one['text'])}</span>"
        for one in reply["suggestions"]
    )
    return f"<div class='tx-status'>{tags}</div>"


async def answer(
    client: AsyncClient,
    query: str,
    user: str,
    top_k: int,
    view: View = SLATE,
) -> Panels:
    """Sends a request to the API and renders status, history, candidates and slate."""
    query, user = query.strip(), user.strip()
    body: Json = {
        "top_k": top_k,
        "diversity": view.diversity,
        "exclude_seen": view.unseen,
        "explain": True,
        "candidates": MAX_CANDIDATES,
    }
    if user:
        body["user_id"] = user
    if GOALS[view.goal] is not None:
        body["objective"] = GOALS[view.goal]
    if view.where:
        body["filters"] = {"where": view.where}
    if view.whole:
        body |= {"facets": ["auto"], "highlight": True, "sort": view.sort, "offset": (view.page - 1) * top_k}
    try:
        slate = await (client.search(query, **body) if query else client.recommend(**body))
        known = await _user(client, user)
    except ApiError as error:
        return Panels(
            _alert(str(error)),
            _panel("History", "", ""),
            _panel("Before ranking", "", ""),
            _panel("After ranking", "", ""),
        )
    events = known.get("events", [])
    return Panels(
        _status(slate),
        _panel("History", f"{len(events)} events" if events else "", _profile(known) + _events(events, user)),
        _panel("Before ranking", f"{len(slate['candidates'])} candidates", _candidates(slate, top_k)),
        _panel("After ranking", _count(slate), _facets(slate) + _slate(slate)),
    )


def _count(slate: Json) -> str:
    page, shown = slate["page"], len(slate["items"])
    return f"{page['offset'] + 1} to {page['offset'] + shown} of {page['total']:,}" if page else f"top {shown}"


def _facets(slate: Json) -> str:
    """Corrected query and facets of a page, as HTML."""
    page = slate["page"]
    if not page:
        return ""
    better = page["did_you_mean"]
    hint = f"<p class='tx-empty'>Did you mean <b>{escape(better)}</b>?</p>" if better else ""
    rows = "".join(
        f"<div><b>{escape(facet['field'])}</b> "
        + "".join(
            f"<span class='tx-source'>{escape(value['value'])} <i>{value['count']:,}</i></span>"
            for value in facet["values"]
        )
        + "</div>"
        for facet in page["facets"]
    )
    return f"{hint}<div class='tx-facets'>{rows}</div>"


async def _user(client: AsyncClient, user: str) -> Json:
    """History and profile of a user; empty for an unknown one."""
    if not user:
        return {}
    try:
        return await client.user(user)
    except ApiError as error:
        if error.status == 404:
            return {}
        raise


def _profile(known: Json) -> str:
    """Properties and segments of a user, as HTML."""
    values = [f"{name} {value}" for name, value in known.get("properties", {}).items()]
    tags = "".join(f"<span class='tx-source'>{escape(text)}</span>" for text in [*values, *known.get("segments", [])])
    return f"<div class='tx-facets'>{tags}</div>" if tags else ""


def _header(version: str, text: str) -> str:
    tag = f"<span class='tx-tag'>model {escape(version)}</span>" if version else ""
    return f"<div class='tx-head'><b>txrec</b><span>console</span>{tag}<span class='tx-dim'>{escape(text)}</span></div>"


def _status(slate: Json) -> str:
    stages = " &middot; ".join(f"{escape(name)} {ms:.1f}" for name, ms in slate["timings_ms"].items())
    parts = [f"<span><b>{slate['took_ms']:.0f} ms</b> {f'({stages})' if stages else ''}</span>"]
    if slate["fallback"]:
        parts.append(f"<span class='tx-tag tx-warn'>{escape(slate['fallback'].replace('_', ' '))}</span>")
    parts.extend(
        f"<span class='tx-tag' title='{escape(rule['effect'])}'>rule {escape(rule['rule_id'])}</span>"
        for rule in slate["rules"]
    )
    if slate["redirect"]:
        parts.append(f"<span class='tx-tag tx-warn'>redirect to {escape(slate['redirect'])}</span>")
    parts.extend(f"<span class='tx-dim'>{escape(note)}</span>" for note in slate["notes"][:5])
    return f"<div class='tx-status'>{''.join(parts)}</div>"


def _alert(message: str) -> str:
    return f"<div class='tx-status'><span class='tx-tag tx-bad'>not answered</span><span>{escape(message)}</span></div>"


def _panel(name: str, count: str, content: str) -> str:
    head = f"<h2>{escape(name)} <span class='tx-dim'>{escape(count)}</span></h2>"
    return f"<section class='tx-panel'>{head}{content}</section>"


def _empty(message: str) -> str:
    return f"<p class='tx-empty'>{escape(message)}</p>"


def _events(events: list[Json], user: str) -> str:
    if not events:
        return _empty(f"Nothing is known about {user}." if user else "No user.")
    rows = "".join(_event(event) for event in reversed(events[-MAX_HISTORY:]))
    more = len(events) - MAX_HISTORY
    return f"<ol class='tx-events'>{rows}</ol>" + (_empty(f"and {more} before") if more > 0 else "")


def _event(event: Json) -> str:
    when = f"{datetime.fromtimestamp(event['ts'] / 1e6, UTC):%d %b %Y %H:%M}" if event["ts"] else ""
    what = event["title"] or event["item_id"] or f"“{event['query'] or ''}”"
    led = f"<div class='tx-dim'>for “{escape(event['query'])}”</div>" if event["item_id"] and event["query"] else ""
    kind = escape(event["event"])
    return (
        f"<li><span class='tx-kind tx-{kind}'>{_VERBS.get(kind, kind)}</span>"
        f"<div class='tx-what'>{escape(what)}{led}<div class='tx-dim'>{when}</div></div></li>"
    )


def _candidates(slate: Json, top_k: int) -> str:
    """Retrieval order, with the place of each candidate after ranking."""
    kept = {item["item_id"]: place for place, item in enumerate(slate["items"], start=1)}
    shown = slate["candidates"][: max(2 * top_k, 20)]
    best = max((item["score"] for item in shown), default=0.0)
    rows = [_row(n, item, _kept(kept.get(item["item_id"])), best) for n, item in enumerate(shown, start=1)]
    return _table(rows)


def _slate(slate: Json) -> str:
    """Final order, with where each product came from."""
    before = {item["item_id"]: place for place, item in enumerate(slate["candidates"], start=1)}
    best = max((item["score"] for item in slate["items"]), default=0.0)
    rows = [
        _row(place, item, _moved(before.get(item["item_id"]), place), best)
        for place, item in enumerate(slate["items"], start=1)
    ]
    return _table(rows)


def _table(rows: list[str]) -> str:
    if not rows:
        return _empty("No product fits.")
    return f"<table class='tx-table'><tbody>{''.join(rows)}</tbody></table>"


def _row(place: int, item: Json, move: str, best: float) -> str:
    price = "" if item["price"] is None else f" &middot; {item['price']:,.2f}"
    reasons = "".join(f"<div class='tx-reason'>{escape(reason)}</div>" for reason in item["reasons"])
    return (
        f"<tr data-item='{escape(item['item_id'])}'><td class='tx-place'>{place}{move}</td>"
        f"<td><div class='tx-title'>{_title(item)}</div>"
        f"<div class='tx-dim tx-id'>{escape(item['item_id'])}{price}</div>{reasons}<div>{_sources(item)}</div></td>"
        f"<td class='tx-score'>{item['score']:.3f}{_bar(item['score'], best)}</td></tr>"
    )


def _title(item: Json) -> str:
    """The title, words that match the query in bold."""
    if not item["highlight"]:
        return escape(item["title"] or item["item_id"])
    return "".join(
        f"<mark>{escape(part['text'])}</mark>" if part["match"] else escape(part["text"]) for part in item["highlight"]
    )


def _sources(item: Mapping[str, Any]) -> str:
    return "".join(
        f"<span class='tx-source{' tx-best' if name == item['source'] else ''}' title='score {score:.4g}'>"
        f"{escape(name.replace('_', ' '))} <i>{score:.3g}</i></span>"
        for name, score in item["sources"].items()
    )


def _bar(score: float, best: float) -> str:
    width = 100 * max(score, 0.0) / best if best > 0 else 0.0
    return f"<div class='tx-bar'><div style='width:{width:.0f}%'></div></div>"


def _kept(place: int | None) -> str:
    return f"<span class='tx-move tx-up'>&rarr; {place}</span>" if place else ""


def _moved(before: int | None, place: int) -> str:
    if before is None:
        return "<span class='tx-move tx-dim'>new</span>"
    if before > place:
        return f"<span class='tx-move tx-up'>&#9650; {before - place}</span>"
    if before < place:
        return f"<span class='tx-move tx-down'>&#9660; {place - before}</span>"
    return "<span class='tx-move tx-dim'>=</span>"
