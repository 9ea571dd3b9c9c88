"""Judging page of the console: a query with products in a neutral order, a grade for each, and the next query.

The page keeps nothing on the server: query and item ids travel with the page, so that any replica can store the grades.
"""

import json
from html import escape
from typing import Any

import gradio as gr

from txrec.client import ApiError, AsyncClient, Json
from txrec.loop.judging import GRADES

MAX_PRODUCTS = 24
"""Products on the page: the tops of four rankings."""
CANNOT_TELL = "cannot tell"
_CHOICES = [*(f"{grade} {meaning}" for grade, meaning in GRADES.items()), CANNOT_TELL]
_MAX_DESCRIPTION = 240


def add(page: gr.Blocks, client: AsyncClient) -> None:
    """Adds the page `judging` to the console."""
    with page.route("Judging", "/judging"):
        gr.HTML("<div class='tx-head'><b>txrec</b><span>judging</span></div>", padding=False)
        with gr.Row(equal_height=True):
            judge = gr.Textbox(label="Judge", placeholder="your name", scale=3)
            start = gr.Button("Next query", scale=1, min_width=120, elem_id="next-query")
        status = gr.HTML(elem_id="judging-status", padding=False)
        task = gr.Textbox(visible=False)
        products, grades = [], []
        for number in range(MAX_PRODUCTS):
            products.append(gr.HTML(visible=False, padding=False))
            grades.append(gr.Radio(_CHOICES, visible=False, show_label=False, elem_id=f"grade-{number}"))
        save = gr.Button("Save and next", variant="primary", elem_id="save-grades")

        async def show(name: str) -> list[Any]:
            return await next_task(client, name)

        async def store(name: str, sent: str, *chosen: str | None) -> list[Any]:
            return await save_grades(client, name, sent, list(chosen))

        outputs = [status, task, *products, *grades]
        for trigger in (start.click, judge.submit):
            trigger(show, [judge], outputs, queue=False, show_progress="minimal", api_visibility="private")
        save.click(
            store, [judge, task, *grades], outputs, queue=False, show_progress="minimal", api_visibility="private"
        )


async def next_task(client: AsyncClient, judge: str) -> list[Any]:
    """Values of the page for the next query of a judge."""
    if not judge.strip():
        return _values(_status("Enter your name first: grades are kept by judge."))
    try:
        task, state = await client.judging_task(judge.strip()), await client.judging()
    except ApiError as error:
        return _values(_status(str(error)))
    if task["query"] is None:
        return _values(_status("You have graded every query of the log."))
    done = state["judges"].get(judge.strip(), 0)
    agreement = "" if state["agreement"] is None else f", agreement {state['agreement']:.2f}"
    head = f"<h2>“{escape(task['query'])}”</h2><span class='tx-dim'>{done} graded by you{agreement}</span>"
    return _values(f"<div class='tx-status'>{head}</div>", task)


async def save_grades(client: AsyncClient, judge: str, sent: str, chosen: list[str | None]) -> list[Any]:
    """Stores the chosen grades, and gives the values of the page for the next query."""
    if not sent:
        return await next_task(client, judge)
    task: Json = json.loads(sent)
    grades = {
        product["item_id"]: None if choice == CANNOT_TELL else int(choice.split(" ", 1)[0])
        for product, choice in zip(task["products"], chosen, strict=False)
        if choice
    }
    if not grades:
        return _values(_status(f"Grade at least one product for “{task['query']}”."), task)
    try:
        await client.grade(judge.strip(), task["query"], grades)
    except ApiError as error:
        return _values(_status(str(error)), task)
    return await next_task(client, judge)


def _values(status: str, task: Json | None = None) -> list[Any]:
    """Status, the task as text, and an update for the HTML and the grades of each product."""
    products = task["products"][:MAX_PRODUCTS] if task else []
    missing = MAX_PRODUCTS - len(products)
    return [
        status,
        json.dumps(task) if task else "",
        *(gr.update(value=_product(product), visible=True) for product in products),
        *(gr.update(value="", visible=False) for _ in range(missing)),
        *(gr.update(value=None, visible=True) for _ in products),
        *(gr.update(value=None, visible=False) for _ in range(missing)),
    ]


def _product(product: Json) -> str:
    details = [*product["category"][-1:], product["brand"], None if product["price"] is None else str(product["price"])]
    description = (product["description"] or "")[:_MAX_DESCRIPTION]
    return (
        f"<div data-item='{escape(product['item_id'])}'>"
        f"<div class='tx-title'>{escape(product['title'] or product['item_id'])}</div>"
        f"<div class='tx-dim'>{escape(' · '.join(text for text in details if text))}</div>"
        f"<div class='tx-dim'>{escape(description)}</div></div>"
    )


def _status(message: str) -> str:
    return f"<div class='tx-status'><span>{escape(message)}</span></div>"
