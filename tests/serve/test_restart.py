"""What a shop put over HTTP outlives all replicas, with both stores."""

from tests.serve.shared_state import replica
from tests.serve.test_suggest import texts
from txrec.recommender.recommender import Recommender

PIN = {"rule_id": "vips", "when": {"segment": ["tier=gold"]}, "effect": {"type": "pin", "items": ["sku-031"]}}


def test_rules_placements_profiles_blocked_words_and_live_searches_are_there_for_replicas_that_start_later(
    recommender: Recommender, state: str
) -> None:
    with replica(recommender, state) as first:
        assert first.put("/v1/rules", json=PIN).status_code == 200
        assert first.put("/v1/placements/shelf", json={"top_k": 2}).status_code == 200
        assert first.put("/v1/users/vip", json={"properties": {"tier": "gold"}}).status_code == 200
        assert first.put("/v1/suggest/blocked", json={"words": ["kettle"]}).status_code == 200
        for user in ("anna", "bert"):
            click = {"user_id": user, "event": "click", "item_id": "sku-031", "query": "zorgblatt"}
            assert first.post("/v1/events", json=click).status_code == 202
    later = replica(recommender, state)
    body = {"query": "lamp", "user_id": "vip", "placement": "shelf", "explain": True}
    reply = later.post("/v1/search", json=body).json()
    assert (reply["items"][0]["item_id"], len(reply["items"])) == ("sku-031", 2)
    assert reply["rules"] == [{"rule_id": "vips", "effect": "pin"}]
    assert later.post("/v1/search", json={"query": "zorgblatt"}).json()["items"][0]["item_id"] == "sku-031"
    assert texts(later, "zorg") == ["zorgblatt"]
    assert texts(later, "ket") == []
