"""Properties of users in recommendations: new users, live profiles, the context, and data without a users table."""

from pathlib import Path

import numpy as np
import pytest

from tests import tiny_bundle as bundles
from tests.tiny import tiny_data
from tests.txrec.index.sources.test_profile_affinity import with_table
from txrec.config_loader import with_overrides
from txrec.evals.answering import ask
from txrec.evals.protocol import eval_requests
from txrec.index.live_log import LiveEvent
from txrec.recommender.lists.audiences import AudienceRequest
from txrec.recommender.recommender import Recommender, Request
from txrec.recommender.retrieval.retriever import NO_HISTORY
from txrec.schema import EventKind, Split

QUICK = {"pretrain.contrastive_epochs": 1, "train.max_epochs": 1, "ranker.max_epochs": 1}


@pytest.fixture(scope="module")
def recommender(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    folder = tmp_path_factory.mktemp("profiles")
    data = with_table(tiny_data(folder / "data"))
    return Recommender.open(bundles.write(folder, data, with_overrides(bundles.CONFIG, QUICK)))


def sources(recommender: Recommender, request: Request) -> dict[str, float]:
    """Items that the profile source proposed, with their scores, and the fallback."""
    (slate,) = recommender.recommend([request])
    return {item.item_id: item.sources["profile"] for item in slate.items if "profile" in item.sources}


def best(recommender: Recommender, request: Request) -> str:
    found = sources(recommender, request)
    return max(found, key=lambda item_id: found[item_id])


def test_a_bundle_holds_the_table_and_the_ranker_reads_its_features(recommender: Recommender) -> None:
    assert {"profiles.parquet", "index/profile/profile.safetensors"} <= set(recommender.bundle.manifest.files)
    assert "profile.item_lift" in recommender.bundle.manifest.features
    assert recommender.profile("user-003").properties["style"] == "tent"
    assert recommender.profile("nobody") is None


def test_a_user_without_events_is_answered_by_their_properties(recommender: Recommender) -> None:
    (slate,) = recommender.recommend([Request(properties={"style": "tent"}, top_k=60, explain=True)])
    assert slate.fallback is None
    assert 31 <= recommender.catalogue.idx_of[best(recommender, Request(properties={"style": "tent"}, top_k=60))] <= 40
    (unknown,) = recommender.recommend([Request(user_id="nobody", properties={"shoe": "9"}, top_k=5)])
    assert unknown.fallback == "unknown_user"


def test_live_properties_replace_those_of_the_table_and_the_context_is_added(recommender: Recommender) -> None:
    stored = sources(recommender, Request(user_id="user-003", top_k=60))
    named = sources(recommender, Request(user_id="user-003", properties={"style": "tent", "age": "41"}, top_k=60))
    assert stored == named  # those of the table: 20 + 21
    assert sources(recommender, Request(user_id="user-003", properties={"style": "lamp"}, top_k=60)) != stored
    assert not sources(recommender, Request(user_id="user-003", properties={}, top_k=60))
    lamp = sources(recommender, Request(properties={"style": "lamp"}, top_k=60))
    assert sources(recommender, Request(user_id="nobody", context={"style": "lamp"}, top_k=60)) == lamp


def test_live_events_of_users_teach_those_who_share_a_property_and_have_no_events(recommender: Recommender) -> None:
    new, cold = "sku-063", Request(properties={"style": "lamp"}, top_k=63)
    end = recommender.bundle.meta.end_ts
    events = [LiveEvent(f"user-{1 + 6 * n:03d}", new, "", int(EventKind.CLICK), end + 1 + n) for n in range(12)]
    live = recommender.with_live(events)
    before, after = sources(recommender, cold)[new], sources(live, cold)[new]
    assert after > before + 1
    tent = Request(properties={"style": "tent"}, top_k=63)
    assert sources(live, tent)[new] - sources(recommender, tent)[new] < after - before


def test_an_audience_ranks_users_without_events_by_their_properties(recommender: Recommender) -> None:
    answer = recommender.audience(AudienceRequest(category="tent", top_n=200))
    place = {member.user_id: number for number, member in enumerate(answer.members)}
    assert answer.num_users == 80 + 6
    others = [place[f"new-{kind}"] for kind in ("kettle", "lamp", "drill", "guitar", "blender")]
    assert place["new-tent"] < min(others)
    assert place["user-003"] < place["new-tent"]  # who has events on tents


def test_evaluation_knows_the_properties_of_users(recommender: Recommender, tmp_path: Path) -> None:
    data = with_table(tiny_data(tmp_path))
    requests = eval_requests(data, Split.TEST, bundles.CONFIG.evaluate)
    assert not requests.profiles
    known = requests.with_profiles(data)
    assert known.profile(0)["style"]
    assert known.select(np.array([3])).profile(0) == known.profile(3)
    lists = ask(recommender, data, requests, 10)
    assert lists.ranked.all()
    (cold,) = recommender.retrieve_dense([NO_HISTORY], profiles=[{"style": "tent"}])
    assert cold.fallback is None
    assert recommender.retrieve_dense([NO_HISTORY])[0].fallback == "unknown_user"
