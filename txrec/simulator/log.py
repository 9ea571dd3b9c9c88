"""Log of the generated shop's users, drawn from the true preference action by action.

An *action* is one thing that a user sets out to do: look at a product, or search and click. It becomes one or more
events. All users' first actions are drawn together, then all second ones, so that the loop is as long as the longest
history and every step is vectorised.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from txrec.config import ShopConfig
from txrec.simulator import queries
from txrec.simulator.preference import ANY, Preference, Tastes, draw

DAY_S = 86_400
EVENTS_PER_ACTION = 1.5  # below the true mean, so that a log has at least the configured number of events
MAX_ACTIONS = 400
BLOCK = 256  # users drawn at once: their probabilities stay in the processor's cache
NEW_SESSION_PROB = 0.28
SEARCH_PROB = 0.4
NO_CLICK_PROB, SECOND_CLICK_PROB = 0.1, 0.2
CART_PROB, PURCHASE_PROB = 0.16, 0.55  # of engagements; of carts


@dataclass(frozen=True, eq=False)
class Actions:
    """A actions of all users, by user and time."""

    user: NDArray[np.int64]  # (A,)
    step: NDArray[np.int64]  # (A,) running number within the user
    second: NDArray[np.int64]  # (A,) seconds since the start of the log
    session: NDArray[np.int64]  # (A,) running number over all users
    same_session: NDArray[np.bool_]  # (A,) the user's previous action is in the same session
    searched: NDArray[np.bool_]  # (A,)
    concept: NDArray[np.int64]  # (A, 4) concepts of the search; ANY without a search
    last: NDArray[np.int64]  # (A,) item engaged with before the action, -1 = none
    item: NDArray[np.int64]  # (A,) item viewed or clicked, -1 = search without a click
    also: NDArray[np.int64]  # (A,) second item clicked, -1 = none


@dataclass(frozen=True, eq=False)
class Log:
    """E events by time, as a shop's tracker would have seen them."""

    user: NDArray[np.int64]  # (E,)
    second: NDArray[np.int64]  # (E,) seconds since the start of the log
    event: NDArray[np.object_]  # (E,) view, search, click, cart, purchase
    item: NDArray[np.int64]  # (E,) -1 = none
    query: NDArray[np.object_]  # (E,) text or None
    session: NDArray[np.int64]  # (E,)
    request: NDArray[np.int64]  # (E,) answers to one search share it, -1 = none

    def __len__(self) -> int:
        return len(self.user)


def simulate(cfg: ShopConfig, preference: Preference, rng: np.random.Generator) -> Actions:
    """Plans the times of all actions, then draws the actions."""
    actions = _plan(cfg, rng)
    for step in range(int(actions.step.max()) + 1):
        rows = np.flatnonzero(actions.step == step)
        for first in range(0, len(rows), BLOCK):
            _act(actions, rows[first : first + BLOCK], preference, rng)
    return actions


def _plan(cfg: ShopConfig, rng: np.random.Generator) -> Actions:
    counts = _activity(cfg, rng)
    user = np.repeat(np.arange(cfg.num_users), counts)
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    opens = rng.random(len(user)) < NEW_SESSION_PROB
    opens[first] = True
    second, session = _times(cfg, user, opens, rng)
    order = np.lexsort((second, user))
    second, session = second[order], session[order]
    same_session = np.concatenate([[False], session[1:] == session[:-1]])
    return Actions(
        user=user,
        step=np.arange(len(user)) - np.repeat(first, counts),
        second=second,
        session=session,
        same_session=same_session,
        searched=rng.random(len(user)) < SEARCH_PROB,
        concept=np.full((len(user), 4), ANY),
        last=np.full(len(user), -1),
        item=np.full(len(user), -1),
        also=np.full(len(user), -1),
    )


def _activity(cfg: ShopConfig, rng: np.random.Generator) -> NDArray[np.int64]:
    """Actions of each user: log-normal, so that a few do much and many little."""
    total = cfg.num_events / EVENTS_PER_ACTION
    weight = rng.lognormal(0, 0.9, cfg.num_users)
    limit = max(MAX_ACTIONS, int(2 * total / cfg.num_users))
    counts: NDArray[np.int64] = np.clip(np.round(weight / weight.sum() * total * 1.06), 2, limit).astype(np.int64)
    return counts


def _times(
    cfg: ShopConfig, user: NDArray[np.int64], opens: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Seconds and session numbers of all actions: sessions at random times after the user's first day."""
    session = np.cumsum(opens) - 1
    joined = cfg.days * 0.9 * rng.beta(0.6, 2.5, cfg.num_users)
    owner = user[opens]
    day = joined[owner] + (cfg.days - 0.05 - joined[owner]) * rng.random(len(owner))
    start = (np.floor(day) + rng.beta(4, 2.5, len(owner)) * 0.99) * DAY_S  # evenings are busy
    start = np.minimum(start, (cfg.days - 0.05) * DAY_S)
    pause = np.where(opens, 0.0, rng.exponential(100, len(user)) + 20)
    elapsed = np.cumsum(pause)
    return (start[session] + elapsed - elapsed[opens][session]).astype(np.int64), session


def _act(actions: Actions, rows: NDArray[np.int64], preference: Preference, rng: np.random.Generator) -> None:
    """Draws the actions `rows`, at most one per user, and keeps the last item of each user."""
    users, day = actions.user[rows], actions.second[rows] / DAY_S
    intended = draw(preference.next_items(users, actions.last[rows], actions.same_session[rows], day), rng)
    actions.item[rows] = intended
    searched = actions.searched[rows]
    if searched.any():
        _search(actions, rows[searched], intended[searched], preference, rng)
    engaged = np.where(actions.also[rows] >= 0, actions.also[rows], actions.item[rows])
    engaged = np.where(engaged >= 0, engaged, actions.last[rows])
    goes_on = np.append(actions.step[1:] > 0, False)[rows]
    actions.last[rows[goes_on] + 1] = engaged[goes_on]


def _search(
    actions: Actions,
    rows: NDArray[np.int64],
    intended: NDArray[np.int64],
    preference: Preference,
    rng: np.random.Generator,
) -> None:
    concepts = queries.concepts_of(intended, preference.catalogue, rng)
    probabilities = preference.clicks(actions.user[rows], concepts, actions.second[rows] / DAY_S)
    first, second = draw(probabilities, rng), draw(probabilities, rng)
    chance = rng.random((len(rows), 2))
    clicked = chance[:, 0] >= NO_CLICK_PROB
    twice = clicked & (chance[:, 1] < SECOND_CLICK_PROB) & (second != first)
    actions.concept[rows] = concepts
    actions.item[rows] = np.where(clicked, first, -1)
    actions.also[rows] = np.where(twice, second, -1)


def texts(actions: Actions, preference: Preference, tastes: Tastes, rng: np.random.Generator) -> NDArray[np.object_]:
    """(A,) the query of every search as typed, None elsewhere."""
    result = np.full(len(actions.user), None, dtype=object)
    rows = np.flatnonzero(actions.searched)
    chinese = tastes.chinese[actions.user[rows]] & (rng.random(len(rows)) < 0.8)
    for row, concept, in_chinese in zip(rows, actions.concept[rows].tolist(), chinese, strict=True):
        result[row] = queries.write(tuple(concept), bool(in_chinese), preference.catalogue, rng)
    return result


def events(actions: Actions, query: NDArray[np.object_], rng: np.random.Generator) -> Log:
    """Turns actions into the events that a tracker would record, in time order."""
    row = np.arange(len(actions.user))
    searched, clicked = actions.searched, actions.searched & (actions.item >= 0)
    viewed, again = ~searched, actions.also >= 0
    carted = (actions.item >= 0) & (rng.random(len(row)) < CART_PROB)
    bought = carted & (rng.random(len(row)) < PURCHASE_PROB)
    none = np.full(len(row), -1)
    parts = (  # event, of which actions, seconds after the action began, item
        ("view", viewed, 0, actions.item),
        ("search", searched, 0, none),
        ("click", clicked, 4, actions.item),
        ("click", again, 9, actions.also),
        ("cart", carted, 12, np.where(again, actions.also, actions.item)),
        ("purchase", bought, 16, np.where(again, actions.also, actions.item)),
    )
    chosen = np.concatenate([row[mask] for _, mask, _, _ in parts])
    name = np.concatenate([np.full(mask.sum(), name, dtype=object) for name, mask, _, _ in parts])
    second = np.concatenate([actions.second[mask] + delay for _, mask, delay, _ in parts])
    item = np.concatenate([items[mask] for _, mask, _, items in parts])
    is_of_search = (name == "search") | (name == "click")
    order = np.lexsort((chosen, second))
    chosen, name, is_of_search = chosen[order], name[order], is_of_search[order]
    typed = query[chosen]
    typed[name != "search"] = None
    return Log(
        user=actions.user[chosen],
        second=second[order],
        event=name,
        item=item[order],
        query=typed,
        session=actions.session[chosen],
        request=np.where(is_of_search, np.where(searched[chosen], chosen, -1), -1),
    )
