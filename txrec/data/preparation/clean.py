"""Cleaning rules over whole histories: order, duplicates, bots, sessions, queries of clicks, k-core.

A frame holds all events of some users. `in_order` sorts it and numbers its users; every other function expects that
order. A rule maps the frame to a mask of the rows that it drops, so each can be tested and reported by itself.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from txrec.config import PrepareConfig
from txrec.schema import EventKind, Reason

_MINUTE_US = 60_000_000
_SECOND_US = 1_000_000


@dataclass(frozen=True, eq=False)
class Dropped:
    """Events that a rule dropped."""

    reason: Reason
    frame: pl.DataFrame


def in_order(events: pl.DataFrame) -> pl.DataFrame:
    """Sorts by user, then time, then place in the input, and adds `user`, a number per user.

    Without times (`ts` all 0) the order of the input is the order of time. Ids and queries become categoricals: from
    here on they are moved and compared as numbers.
    """
    coded = events.with_columns(
        pl.col(name).cast(pl.Categorical(pl.Categories.random())) for name in ("user_id", "item_id", "query")
    )
    coded = coded.with_columns(user=pl.Series(_by_first_row(coded["user_id"].to_physical().to_numpy())))
    by_time = coded["ts"].is_sorted() and coded["origin"].is_sorted()  # as most logs are written
    return coded.sort("user", *([] if by_time else ["ts", "origin"]), maintain_order=True)


def _by_first_row(codes: NDArray[np.uint32]) -> NDArray[np.int32]:
    """(N,) numbers of the codes by their first row: codes of categories depend on the threads that assigned them."""
    first = np.full(int(codes.max(initial=0)) + 1, len(codes))
    first[codes[::-1]] = np.arange(len(codes))[::-1]  # the last assignment of a code holds: its first row
    number = np.empty(len(first), np.int32)
    number[np.argsort(first, kind="stable")] = np.arange(len(first), dtype=np.int32)
    return number[codes]


def as_text(frame: pl.DataFrame) -> pl.DataFrame:
    """Categoricals as strings again, for files that outlive their categories."""
    return frame.with_columns(pl.col(pl.Categorical).cast(pl.String))


def clean(events: pl.DataFrame, cfg: PrepareConfig, has_time: bool) -> tuple[pl.DataFrame, list[Dropped]]:
    """Applies the rules in order; kept and dropped events together are the events given.

    Returns:
        The kept events with their `session` and filled queries, and the events dropped per rule.
    """
    rules: list[tuple[Reason, Callable[[pl.DataFrame], NDArray[np.bool_]]]] = []
    if cfg.drop_duplicates and has_time:
        rules.append((Reason.DUPLICATE, lambda frame: duplicates(frame, cfg.duplicate_window_s)))
    if cfg.robot_events_per_minute and has_time:
        rules.append((Reason.ROBOT_RATE, lambda frame: bot_users_by_rate(frame, cfg.robot_events_per_minute)))
    if cfg.robot_item_flood:
        rules.append((Reason.ROBOT_FLOOD, lambda frame: bot_users_by_item(frame, cfg.robot_item_flood)))
    dropped = []
    for reason, rule in rules:
        mask = rule(events)
        if mask.any():
            dropped.append(Dropped(reason, events.filter(mask)))
            events = events.filter(~mask)
    events = fill_queries(events)
    return events.with_columns(session=pl.Series(sessions(events, cfg.session_gap_s), dtype=pl.Int32)), dropped


def duplicates(events: pl.DataFrame, window_s: float) -> NDArray[np.bool_]:
    """Events that repeat an earlier one of the same user, item, kind and query within the window.

    The window starts at the previous repeat, dropped or not: a series of repeats of any length leaves its first event.

    Args:
        events: in order, with times.
        window_s: seconds; 0 = the same instant only.

    Returns:
        (N,) True = dropped.
    """
    user, ts = events["user"].to_numpy(), events["ts"].to_numpy()
    window_us = round(window_s * _SECOND_US)
    close = (user[1:] == user[:-1]) & (ts[1:] - ts[:-1] <= window_us)
    # a repeat has a neighbour within the window on either side, so that only those rows are compared
    suspects = np.flatnonzero(np.concatenate([[False], close]) | np.concatenate([close, [False]]))
    mask = np.zeros(events.height, dtype=bool)
    if len(suspects):
        keys = ["user", "event", "item_id", "query"]
        gap = events[suspects].select((pl.col("ts") - pl.col("ts").shift(1).over(keys)) <= window_us)
        mask[suspects] = gap.to_series().fill_null(value=False).to_numpy()
    return mask


def bot_users_by_rate(events: pl.DataFrame, events_per_minute: float) -> NDArray[np.bool_]:
    """(N,) Mask of all events of users with more than `events_per_minute` events within any 60 seconds."""
    user, ts = events["user"].to_numpy(), events["ts"].to_numpy()
    span = int(events_per_minute)  # event i and the one `span` later are span + 1 events
    fast = (user[span:] == user[:-span]) & (ts[span:] - ts[:-span] < _MINUTE_US)
    mask: NDArray[np.bool_] = np.isin(user, np.unique(user[span:][fast]))
    return mask


def bot_users_by_item(events: pl.DataFrame, num_events: int) -> NDArray[np.bool_]:
    """(N,) Mask of all events of users with more than `num_events` events on one item."""
    per_item = events.filter(pl.col("item_id").is_not_null()).group_by("user", "item_id").len()
    flooding = per_item.filter(pl.col("len") > num_events)["user"].unique()
    mask: NDArray[np.bool_] = events["user"].is_in(flooding.implode()).to_numpy()
    return mask


def fill_queries(events: pl.DataFrame) -> pl.DataFrame:
    """Gives events without a query the one of the user's search with the same request_id."""
    with_request = pl.col("request_id").is_not_null()
    empty = events.select((with_request & pl.col("query").is_null()).any()).item()
    if not empty:
        return events
    searches = events.filter(with_request & (pl.col("event") == int(EventKind.SEARCH)))
    searched = searches.select("user", "request_id", pl.col("query").alias("searched"))
    searched = searched.unique(subset=["user", "request_id"], keep="first", maintain_order=True)
    joined = events.join(searched, on=["user", "request_id"], how="left", maintain_order="left")
    return joined.with_columns(query=pl.coalesce("query", "searched")).drop("searched")


def sessions(events: pl.DataFrame, gap_s: float) -> NDArray[np.int32]:
    """Number of the session of every event, from 0 for each user.

    A new one begins after a pause longer than `gap_s` seconds, and where the log's own session_id changes.
    """
    if not events.height:
        return np.empty(0, np.int32)
    user, ts = events["user"].to_numpy(), events["ts"].to_numpy()
    first = np.concatenate([[True], user[1:] != user[:-1]])
    pause = np.concatenate([[True], ts[1:] - ts[:-1] > gap_s * _SECOND_US])
    own = events["session_id"]
    changed = np.zeros(events.height, dtype=bool)
    if own.null_count() < len(own):
        changed = (own != own.shift(1)).fill_null(value=False).to_numpy()
    number = np.cumsum(first | pause | changed)
    of_user: NDArray[np.int32] = (number - number[first][np.cumsum(first) - 1]).astype(np.int32)
    return of_user


def rare(
    user: NDArray[np.int32], on_rare: NDArray[np.bool_], min_user_events: int
) -> list[tuple[Reason, NDArray[np.bool_]]]:
    """One round of k-core: rows on rare items, then rows of users that are left with too few events.

    Args:
        user: (N,) code of the user of every event.
        on_rare: (N,) whether the event's item is rare.
        min_user_events: users with fewer events are dropped.

    Returns:
        (reason, (N,) mask of the dropped rows), the masks disjoint.
    """
    counts = np.bincount(user[~on_rare], minlength=int(user.max(initial=-1)) + 1)
    of_rare = ~on_rare & (counts[user] < min_user_events)
    return [(Reason.RARE_ITEM, on_rare), (Reason.RARE_USER, of_rare)]
