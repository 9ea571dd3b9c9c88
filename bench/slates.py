"""Slates of a fixed list of requests as one digest per kind of request, to tell that a change left every answer alone.

    OMP_NUM_THREADS=1 python bench/slates.py --out before.json          # a bundle of the tiny data set, trained here
    OMP_NUM_THREADS=1 python bench/slates.py --compare before.json      # exit status 1 and the first difference
    python bench/slates.py --bundle runs/demo/registry/1 --out before.json

Scores are compared bit by bit; training is deterministic on one thread. Last line: one JSON object.
"""

import argparse
import dataclasses
import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from txrec.recommender.catalogue import ItemChange  # noqa: E402
from txrec.recommender.recommender import Event, Filters, PriceRange, Recommender, Request, Slate  # noqa: E402

MAX_USERS, MAX_ITEMS = 60, 25
EXPLAINED: dict[str, Any] = {"explain": True, "with_candidates": True}
TYPOS = ("lmap", "kettl", "gitar", "blenderr", "tents", "dril l")
ODD = ("", "   ", "lamp " * 300, "灯", "'; drop table", "nothing is called so")


def main() -> int:
    """Answers the requests, prints digests, compares with a stored run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="bundle that answers; default: one trained on the tiny data set")
    parser.add_argument("--out", type=Path, help="file for all answers")
    parser.add_argument("--compare", type=Path, help="file of an earlier run; exit status 1 where an answer differs")
    parser.add_argument("--small", action="store_true", help="the default, as small as it gets")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        answers = answers_of(Recommender.open(args.bundle or tiny_bundle(Path(folder))))
    plain = json.loads(json.dumps(answers))
    digests = {kind: digest(slates) for kind, slates in plain.items()}
    for kind, by_name in digests.items():
        print(f"{kind:<20} {len(plain[kind]):>5} slates  {by_name}")
    if args.out:
        args.out.write_text(json.dumps(plain, indent=1, ensure_ascii=False), encoding="utf-8")
    differs = [] if args.compare is None else differences(json.loads(args.compare.read_text("utf-8")), plain)
    for line in differs[:20]:
        print(line)
    print(json.dumps({"slates": sum(map(len, plain.values())), "differences": len(differs), "sha256": digests}))
    return int(bool(differs))


def tiny_bundle(folder: Path) -> Path:
    """Bundle of the tiny data set that the tests share."""
    from tests import tiny_bundle as bundles
    from tests.tiny import tiny_data

    return bundles.write(folder, tiny_data(folder / "data", num_users=240))


def answers_of(recommender: Recommender) -> dict[str, list[Any]]:
    """Kind of request -> plain slates, in a fixed order."""
    kinds: dict[str, list[Any]] = {}
    for kind, requests in request_kinds(recommender):
        kinds[kind] = [plain(slate) for slate in recommender.recommend(requests)]
    users = [Request(user_id=user, **EXPLAINED) for user in recommender.known_users()[:MAX_USERS]]
    kinds["retrieval order"] = [plain(slate) for slate in recommender.rank(recommender.retrieve(users), False)]
    items = [str(item_id) for item_id in recommender.catalogue.item_ids[1:]]
    kinds["similar"] = [plain(recommender.similar(item_id, top_k=10)) for item_id in items[:MAX_ITEMS]]
    kinds["rank"] = [
        plain(recommender.rank_items([*items[:MAX_ITEMS], "nothing"], request))
        for request in (users[0], Request(query="lamp"), Request(user_id=users[1].user_id, query="tent"))
    ]
    kinds |= {f"live: {kind}": slates for kind, slates in live(recommender, items).items()}
    return kinds


def request_kinds(recommender: Recommender) -> Iterator[tuple[str, list[Request]]]:
    """(Kind, requests) of the bundle's own users, queries and items, and of some that it does not know."""
    users = list(recommender.known_users()[:MAX_USERS])
    items = [str(item_id) for item_id in recommender.catalogue.item_ids[1:]]
    known = sorted({event.query for user in users for event in recommender.history(user) if event.query})[:12]
    texts = [*known, *TYPOS, *ODD]
    brands = sorted({str(brand) for brand in recommender.catalogue.items["brand"].to_pylist() if brand})[:2]
    now = max(event.ts or 0 for user in users for event in recommender.history(user))
    yield "users", [Request(user_id=user, top_k=10) for user in users]
    yield "unknown user", [Request(user_id="nobody"), Request(), Request(top_k=3, **EXPLAINED)]
    yield "queries", [Request(query=text, top_k=10) for text in texts]
    yield (
        "users, queries",
        [
            Request(user_id=user, query=text, top_k=12, **EXPLAINED)
            for user, text in zip(users, 9 * texts, strict=False)
        ],
    )
    filters = [
        Filters(brand=tuple(brands[:1])),
        Filters(price=PriceRange(min=15, max=40)),
        Filters(available=False),
        Filters(attributes={"colour": ("red",)}),
        Filters(category=("lamp", "tent"), price=PriceRange(max=50)),
    ]
    yield "filters", [Request(user_id=users[0], query=q, filters=f) for f in filters for q in (None, "lamp", "tent")]
    yield "carts", [Request(user_id=user, cart=(items[3], items[17]), now_us=now) for user in users[:10]]
    yield (
        "excluded",
        [Request(user_id=user, exclude=frozenset(items[:9]), exclude_seen=True, top_k=30) for user in users[:10]],
    )
    yield "diversity", [Request(user_id=user, diversity=d, top_k=8) for user in users[:8] for d in (0.25, 0.5, 1.0)]
    yield "times", [Request(user_id=user, now_us=now + days * 86_400_000_000) for user in users[:5] for days in (1, 40)]
    events = (
        Event("search", query="lmap"),
        Event("click", items[11]),
        Event("click", "gone"),
        Event("cart", items[12]),
    )
    yield (
        "events",
        [Request(events=events[: n + 1], query=q, **EXPLAINED) for n in range(4) for q in (None, "drill")],
    )


def live(recommender: Recommender, items: list[str]) -> dict[str, list[Any]]:
    """Answers after products were added, changed and retired."""
    rows: list[dict[str, Any]] = [
        {
            "item_id": "new-1",
            "title": "Zyx lamp with shade",
            "brand": "zyx",
            "category": ["home", "lamp"],
            "price": 3.0,
        },
        {"item_id": "new-2", "title": "A second tent"},
        {"item_id": items[10], "title": "acme lamp model 0", "price": 999.0, "available": False},
    ]
    grown = recommender.with_items(rows).without_items([items[14]])
    changes = [
        ItemChange("new-9", {"title": "nine drills"}, False, 4),
        ItemChange(items[2], {"price": 5.0}, False, 7),
        ItemChange(items[5], {}, True, 0),
    ]
    journalled = recommender.with_changes(changes)
    requests = [Request(user_id=user, **EXPLAINED) for user in recommender.known_users()[:20]]
    requests += [Request(query=text, **EXPLAINED) for text in ("zyx lamp", "drill", "tent", "lamp shade")]
    requests.append(Request(events=(Event("click", "new-1"),), **EXPLAINED))
    return {
        "rows": [plain(slate) for slate in grown.recommend(requests)],
        "changes": [plain(slate) for slate in journalled.recommend(requests[:-1])],
        "similar": [plain(grown.similar("new-1")), plain(journalled.similar("new-9"))],
    }


def plain(slate: Slate) -> dict[str, Any]:
    """A slate without its timings, floats as hexadecimal so that every bit counts."""
    fields = dataclasses.asdict(slate)
    del fields["timings_ms"]
    return {name: _exact(value) for name, value in fields.items()}


def _exact(value: Any) -> Any:
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, dict):
        return {name: _exact(one) for name, one in value.items()}
    return [_exact(one) for one in value] if isinstance(value, list | tuple) else value


def digest(slates: list[Any]) -> str:
    """sha256 of plain slates."""
    return hashlib.sha256(json.dumps(slates, sort_keys=True).encode()).hexdigest()


def differences(before: dict[str, list[Any]], after: dict[str, list[Any]]) -> list[str]:
    """One line per slate that is missing or differs, with the field."""
    lines = [f"{kind}: only in one of the runs" for kind in before.keys() ^ after.keys()]
    for kind in sorted(before.keys() & after.keys()):
        if len(before[kind]) != len(after[kind]):
            lines.append(f"{kind}: {len(before[kind])} slates before, {len(after[kind])} now")
        for row, (old, new) in enumerate(zip(before[kind], after[kind], strict=False)):
            names = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
            lines.extend(f"{kind} {row}: {name}: {_first(old.get(name), new.get(name))}" for name in names)
    return lines


def _first(old: Any, new: Any) -> str:
    """The first place where two values differ."""
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        place = next(i for i, (one, other) in enumerate(zip(old, new, strict=True)) if one != other)
        return f"[{place}] {old[place]} before, {new[place]} now"
    return f"{old} before, {new} now"


if __name__ == "__main__":
    sys.exit(main())
