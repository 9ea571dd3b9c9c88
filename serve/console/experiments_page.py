"""Experiments page of the console: state, traffic, latest decision with its inequality, and ramp of every experiment.

A running experiment can be stopped here. The page keeps nothing: it shows what `GET /v1/experiments` answers.
"""

from datetime import UTC, datetime
from html import escape
from typing import Any

import gradio as gr

from txrec.client import ApiError, AsyncClient, Json

STOP_REASON = "stopped in the console"
_HOUR_US = 3_600_000_000


def add(page: gr.Blocks, client: AsyncClient) -> None:
    """Adds the page `experiments` to the console."""
    with page.route("Experiments", "/experiments") as route:
        gr.HTML("<div class='tx-head'><b>txrec</b><span>experiments</span></div>", padding=False)
        refresh = gr.Button("Refresh", min_width=120, elem_id="refresh-experiments")
        table = gr.HTML(elem_id="experiments", padding=False)
        with gr.Row(equal_height=True):
            name = gr.Textbox(label="Experiment", placeholder="name of a running experiment", scale=3)
            stop = gr.Button("Stop", variant="stop", scale=1, min_width=120, elem_id="stop-experiment")

        async def show() -> str:
            return await experiments(client, _now_us())

        async def end(chosen: str) -> str:
            return await stopped(client, chosen, _now_us())

        quiet: dict[str, Any] = {"queue": False, "show_progress": "minimal", "api_visibility": "private"}
        refresh.click(show, None, table, **quiet)
        route.load(show, None, table, **quiet)
        stop.click(end, [name], table, **quiet)


async def experiments(client: AsyncClient, now_us: int) -> str:
    """All experiments as HTML, running ones first.

    Args:
        client: of the API.
        now_us: microseconds since 1970 UTC, for the present step of ramps.
    """
    try:
        stored = (await client.experiments())["experiments"]
    except ApiError as error:
        return f"<div class='tx-status'><span class='tx-tag tx-bad'>not answered</span>{escape(str(error))}</div>"
    if not stored:
        return "<p class='tx-empty'>No experiment yet; POST /v1/experiments starts one.</p>"
    ordered = sorted(stored, key=lambda one: (one["standing"]["state"] != "running", -one["standing"]["started_us"]))
    return "".join(_panel(one, now_us) for one in ordered)


async def stopped(client: AsyncClient, name: str, now_us: int) -> str:
    """Stops an experiment, and gives the page as it stands then."""
    if not name.strip():
        return "<p class='tx-empty'>Enter the name of the experiment to stop.</p>" + await experiments(client, now_us)
    try:
        await client.stop_experiment(name.strip(), STOP_REASON)
    except ApiError as error:
        return f"<p class='tx-empty'>{escape(str(error))}</p>" + await experiments(client, now_us)
    return await experiments(client, now_us)


def _panel(one: Json, now_us: int) -> str:
    spec, standing = one["spec"], one["standing"]
    state = standing["state"]
    tone = {"running": "", "decided": " tx-best", "stopped": " tx-warn"}.get(state, "")
    about = f"{spec['kind']}, layer {spec['layer']}, since {_when(standing['started_us'])}"
    reason = f"<p class='tx-reason'>{escape(standing['reason'])}</p>" if standing["reason"] else ""
    rows = "".join(_variant(variant, spec, standing) for variant in spec["variants"])
    head = "<tr><th>variant</th><th>serves</th><th>users</th><th>latest decision</th></tr>"
    return (
        f"<section class='tx-panel' data-experiment='{escape(spec['name'])}'>"
        f"<h2>{escape(spec['name'])} <span class='tx-tag{tone}'>{escape(state)}</span>"
        f" <span class='tx-dim'>{escape(about)}</span></h2>{reason}"
        f"<div class='tx-dim'>{escape(_ramp(spec, standing, now_us))}</div>"
        f"<table class='tx-table'><thead>{head}</thead><tbody>{rows}</tbody></table></section>"
    )


def _variant(variant: Json, spec: Json, standing: Json) -> str:
    name = variant["name"]
    decision = next((one for one in standing["decisions"] if one["variant"] == name), None)
    control = spec["variants"][0]["name"] == name
    text = "control" if control else "no look yet" if decision is None else str(decision["decision"])
    users = "" if decision is None else f"{decision['users'][1]:,}"
    if control and standing["decisions"]:
        users = f"{standing['decisions'][0]['users'][0]:,}"
    out = standing["out"].get(name)
    if out is not None:
        text = f"taken out: {out}"
    serves = variant["version"] or "production"
    extra = [*(f"{key} = {value}" for key, value in variant["settings"].items() if value is not None)]
    extra += [f"placement {variant['placement']}"] if variant["placement"] else []
    detail = f"<div class='tx-dim'>{escape(', '.join(extra))}</div>" if extra else ""
    return (
        f"<tr data-variant='{escape(name)}'><td>{escape(name)}</td><td>{escape(serves)}{detail}</td>"
        f"<td class='tx-score'>{users}</td><td>{escape(text)}</td></tr>"
    )


def _ramp(spec: Json, standing: Json, now_us: int) -> str:
    """Share of the users that take part now, and the steps of the ramp."""
    if not spec["ramp"]:
        return f"{spec['share']:.0%} of the users of the layer"
    hours = (now_us - standing["started_us"]) / _HOUR_US
    present = [step["share"] for step in spec["ramp"] if step["after_h"] <= hours]
    steps = ", ".join(f"{step['share']:.0%} after {step['after_h']:g} h" for step in spec["ramp"])
    part = spec["share"] * (present[-1] if present else 0.0)
    return f"{part:.1%} of the users of the layer now; ramp of its {spec['share']:.0%}: {steps}"


def _when(us: int) -> str:
    return f"{datetime.fromtimestamp(us / 1e6, UTC):%d %b %Y %H:%M} UTC"


def _now_us() -> int:
    return int(datetime.now(UTC).timestamp() * 1e6)
