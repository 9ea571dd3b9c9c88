"""Audiences: who comes first for an item, a category and a query, with live events, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from tests.tiny import KINDS
from txrec.errors import RequestError, UnknownItemError
from txrec.index.live_log import LiveEvent
from txrec.recommender.audience_model import PRIOR_EVENTS
from txrec.recommender.lists.audiences import Audience, AudienceRequest, Habits, KnownUsers, Target, _expected
from txrec.recommender.recommender import Recommender
from txrec.schema import DAY_US, EventKind


@pytest.fixture(scope="module")
def recommender(tiny_bundle: Path) -> Recommender:
    return Recommender.open(tiny_bundle)


def kind_of(user_id: str) -> str:
    """The kind of products that a user of the tiny data likes."""
    return KINDS[int(user_id.removeprefix("user-")) % len(KINDS)]


@pytest.mark.parametrize(
    "request_", [AudienceRequest(category="tent", top_n=40), AudienceRequest(query="tent", top_n=40)]
)
def test_users_who_like_a_category_come_first_for_it_and_for_its_searches(
    recommender: Recommender, request_: AudienceRequest
) -> None:
    answer = recommender.audience(request_)
    assert answer.num_users == answer.num_encoded == 240
    assert {kind_of(member.user_id) for member in answer.members} == {"tent"}
    scores = [member.score for member in answer.members]
    assert scores == sorted(scores, reverse=True)
    assert all(member.events >= member.purchases for member in answer.members)


def test_an_item_finds_users_of_its_kind_and_leaves_its_buyers_out_where_asked(recommender: Recommender) -> None:
    whole = recommender.audience(AudienceRequest(items=("sku-035",), top_n=240))
    bought = {member.user_id for member in whole.members if member.purchases}
    assert bought
    assert {kind_of(member.user_id) for member in whole.members[:20]} == {"tent"}
    others = recommender.audience(AudienceRequest(items=("sku-035",), top_n=240, exclude_buyers=True))
    assert {member.user_id for member in others.members} == {m.user_id for m in whole.members} - bought
    assert others.num_users == 240 - len(bought)


def test_a_bound_reads_the_histories_of_those_with_most_to_expect(recommender: Recommender) -> None:
    answer = recommender.audience(AudienceRequest(category="tent", top_n=100, max_encoded=30))
    assert (answer.num_users, answer.num_encoded, len(answer.members)) == (240, 30, 30)
    assert {kind_of(member.user_id) for member in answer.members} == {"tent"}


def test_live_events_make_a_new_user_part_of_an_audience(recommender: Recommender) -> None:
    end = recommender.bundle.meta.end_ts
    tents = [*range(31, 41)] * 3
    live = [LiveEvent("newcomer", f"sku-{n:03d}", "", int(EventKind.CLICK), end + 1_000 + n) for n in tents]
    grown = recommender.with_live([*live, LiveEvent("newcomer", "unheard-of", "", int(EventKind.CLICK), end + 9)])
    (first, *_) = grown.audience(AudienceRequest(category="tent", top_n=5)).members
    assert (first.user_id, first.events) == ("newcomer", 30)
    known = KnownUsers.of(grown, grown._live_events).users
    assert known.user_id[-1] == "newcomer"
    assert np.diff(known.offsets)[-1] == 30
    everybody = recommender.audience(AudienceRequest(category="tent", top_n=240))
    assert "newcomer" not in {member.user_id for member in everybody.members}


def test_the_expected_events_are_the_rate_times_the_share_between_own_and_prior() -> None:
    none = np.zeros(3, np.int64)
    habits = Habits(np.array([10.0, 10.0, 0.0]), np.array([10.0, 0.0, 0.0]), none, none)
    found = _expected(habits, np.array([0.1, 0.1, 0.1]))
    assert PRIOR_EVENTS == 10.0
    assert found == pytest.approx([10.05 * 11 / 20, 10.05 * 1 / 20, 0.05 * 0.1])


def test_old_events_count_less(recommender: Recommender) -> None:
    target = Target.of(recommender, AudienceRequest(category="tent"))
    users = KnownUsers.of(recommender).users
    now = recommender.bundle.meta.end_ts
    fresh, late = (Audience(recommender, target, at).habits(users) for at in (now, now + 21 * DAY_US))
    assert late.rate == pytest.approx(fresh.rate / 2, rel=1e-6)
    assert (late.events == fresh.events).all()


@pytest.mark.parametrize(
    ("request_", "error", "field"),
    [
        (AudienceRequest(), RequestError, "items"),
        (AudienceRequest(items=("sku-001",), query="tent"), RequestError, "items"),
        (AudienceRequest(items=("sku-999",)), UnknownItemError, "items"),
        (AudienceRequest(category="harp"), RequestError, "category"),
        (AudienceRequest(query="zzzqqq"), RequestError, "query"),
        (AudienceRequest(query="!!!"), RequestError, "query"),
    ],
)
def test_targets_without_products_are_refused_with_their_field(
    recommender: Recommender, request_: AudienceRequest, error: type[RequestError], field: str
) -> None:
    with pytest.raises(error) as refused:
        recommender.audience(request_)
    assert refused.value.field == field
