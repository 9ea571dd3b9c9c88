"""A real bundle behind a real server: over HTTP, in the browser, and the same slate as in process."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.applications import deployed
from tests.serve.slate_cases import CASES
from tests.services import free_port
from txrec.client import ApiError, Client, Json
from txrec.config import ServeConfig
from txrec.recommender.recommender import Recommender

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def url(ray_cluster: None, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    from serve import app

    state = str(
        tmp_path_factory.mktemp("state") / "state.sqlite"
    )  # by default beside the bundle, which later runs share
    patient = ServeConfig(port=free_port(), ranker_timeout_s=20, request_timeout_s=30, state=state)
    return deployed.use("bundle", lambda: app.start(tiny_bundle, patient))


@pytest.fixture(scope="module")
def shop(url: str) -> Iterator[Client]:
    with Client(url, timeout_s=30) as client:
        yield client


@pytest.fixture(scope="module")
def recommender(tiny_bundle: Path) -> Recommender:
    return Recommender.open(tiny_bundle)


@pytest.mark.parametrize("name", CASES)
def test_the_slate_over_http_is_the_slate_in_process(shop: Client, recommender: Recommender, name: str) -> None:
    fields, request = CASES[name]
    served = shop.recommend(**fields)
    (slate,) = recommender.recommend([request])
    assert [item["item_id"] for item in served["items"]] == [item.item_id for item in slate.items]
    assert [item["score"] for item in served["items"]] == pytest.approx([item.score for item in slate.items], abs=1e-4)
    assert served["fallback"] == slate.fallback
    assert served["model_version"] == recommender.version


def test_a_search_is_explained(shop: Client) -> None:
    served = shop.search("lamp", user_id="user-003", top_k=5, explain=True, candidates=20)
    assert len(served["items"]) == 5
    assert all(item["reasons"] for item in served["items"])
    assert len(served["candidates"]) == 20
    timings = served["timings_ms"]
    assert {"encode", "search", "rank", "decorate", "ranker_call", "retriever_call"} <= set(timings)
    assert all(ms > 0 for ms in timings.values()), "every stage is measured"
    stages = timings["encode"] + timings["search"] + timings["ranker_call"]
    assert timings["rank"] <= timings["ranker_call"], "a call holds the work that is done behind it"
    assert stages <= timings["retriever_call"] <= served["took_ms"], "the stages are parts of the whole"


def ids(slate: Json) -> list[str]:
    return [item["item_id"] for item in slate["items"]]


def test_somebody_unknown_gets_popular_products_and_is_told_so(shop: Client) -> None:
    slate = shop.recommend(user_id="nobody-knows-her", top_k=5, explain=True)
    assert slate["fallback"] == "unknown_user"
    assert len(slate["items"]) == 5
    assert all("popularity" in item["sources"] and item["reasons"] for item in slate["items"])


def test_an_anonymous_session_is_a_history_and_the_reasons_name_it(shop: Client) -> None:
    title = shop.item("sku-012")["title"]
    slate = shop.recommend(session=[{"event": "click", "item_id": "sku-012"}], top_k=8, explain=True)
    assert slate["fallback"] is None
    assert sum("lamp" in item["title"] for item in slate["items"]) >= 4
    assert sum(any(title in reason for reason in item["reasons"]) for item in slate["items"]) >= 4


def test_the_cart_counts_as_history_and_is_never_shown(shop: Client) -> None:
    with_cart = shop.recommend(items=["sku-012", "sku-013"], top_k=64)
    assert with_cart["fallback"] is None
    assert not {"sku-012", "sku-013"} & set(ids(with_cart))


def test_what_is_excluded_leaves_its_place_to_the_next(shop: Client) -> None:
    before = ids(shop.search("lamp", top_k=6))
    after = ids(shop.search("lamp", top_k=6, exclude=before[:2]))
    assert len(after) == 6
    assert not set(before[:2]) & set(after)


def test_filters_hold_and_the_slate_is_full_where_enough_match(shop: Client) -> None:
    slate = shop.recommend(user_id="user-003", top_k=10, filters={"brand": ["acme"], "price": {"max": 40}})
    products = [shop.item(item_id) for item_id in ids(slate)]
    assert len(products) == 10
    assert all(one["brand"] == "acme" and one["price"] <= 40 for one in products)


def test_diversity_spreads_the_slate_over_more_categories(shop: Client) -> None:
    def categories(diversity: float) -> int:
        slate = shop.search("lamp", user_id="user-003", top_k=8, diversity=diversity)
        return len({tuple(shop.item(item_id)["category"] or ()) for item_id in ids(slate)})

    assert categories(1.0) > categories(0.0)


def test_a_match_is_explained_by_the_word_that_matched_and_every_item_by_its_source(shop: Client) -> None:
    slate = shop.search("lamp", top_k=5, explain=True)
    named = [item for item in slate["items"] if "lamp" in item["title"]]
    assert named
    assert all(any("lamp" in reason for reason in item["reasons"]) for item in named)
    assert all(item["source"] in item["sources"] for item in slate["items"])


def test_similar_rank_user_and_models_answer(shop: Client, recommender: Recommender) -> None:
    assert "sku-011" not in {item["item_id"] for item in shop.similar("sku-011", top_k=5)["items"]}
    ranked = shop.rank(["sku-050", "sku-012", "nothing"], query="lamp")
    assert [item["item_id"] for item in ranked["items"]] == ["sku-012", "sku-050"]
    assert "nothing" in ranked["notes"][0]
    events = shop.user("user-003")["events"]
    assert len(events) == len(recommender.history("user-003"))
    assert all(event["title"] for event in events if event["item_id"])
    assert shop.models()["models"][0]["version"] == recommender.version


def test_an_event_changes_the_next_answer_and_forgetting_takes_it_back(shop: Client) -> None:
    assert shop.recommend(user_id="visitor")["fallback"] == "unknown_user"
    shop.log({"user_id": "visitor", "event": "click", "item_id": "sku-012"})
    known = shop.recommend(user_id="visitor", top_k=5)
    assert known["fallback"] is None
    assert sum("lamp" in item["title"] for item in known["items"]) >= 3
    assert shop.forget("visitor")["num_events"] == 1
    assert shop.recommend(user_id="visitor")["fallback"] == "unknown_user"


def test_an_unknown_item_is_an_error_of_the_client(shop: Client) -> None:
    with pytest.raises(ApiError, match="item_id") as caught:
        shop.similar("nothing")
    assert caught.value.status == 404


def test_the_docs_are_served(url: str) -> None:
    assert "swagger" in httpx.get(f"{url}/docs", timeout=30).text
    assert "/v1/recommend" in httpx.get(f"{url}/openapi.json", timeout=30).json()["paths"]


@pytest.mark.browser
def test_the_console_shows_history_candidates_and_slate_in_a_browser(url: str, shop: Client) -> None:
    from tests.serve import browser

    expected = shop.search("tent", user_id="user-003", top_k=12)
    with browser.page() as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{url}/console")
        page.get_by_label("Query").fill("tent")
        page.get_by_label("User").fill("user-003")
        page.get_by_role("button", name="Show").click()
        page.wait_for_selector("#after tr[data-item]", timeout=30_000)
        slate = [row.get_attribute("data-item") for row in page.locator("#after tr[data-item]").all()]
        assert slate == [item["item_id"] for item in expected["items"]]
        assert page.locator("#before tr[data-item]").count() >= 12
        assert page.locator("#history li").count() == 19
        assert "tent" in page.locator("#after .tx-title").first.inner_text()
        assert page.locator("#after .tx-reason").count() > 0
        page.get_by_label("Query").fill("x" * 600)
        page.get_by_role("button", name="Show").click()
        page.wait_for_selector("#status .tx-bad", timeout=30_000)
        assert "at most 512" in page.locator("#status").inner_text()
    assert all(address.startswith((url, "data:", "blob:")) for address in asked), "the console is self-contained"


@pytest.mark.browser
def test_a_judge_grades_products_on_the_judging_page_in_a_browser(url: str, shop: Client) -> None:
    from tests.serve import browser

    with browser.page() as page:
        page.goto(f"{url}/console/judging")
        page.get_by_label("Judge").fill("anna")
        page.get_by_role("button", name="Next query").click()
        page.wait_for_selector("[data-item]", timeout=30_000)
        first = page.locator("#judging-status h2").inner_text()
        for number, choice in enumerate(("3 exactly what was searched", "0 wrong", "cannot tell")):
            page.locator(f"#grade-{number}").get_by_label(choice).check()
        page.get_by_role("button", name="Save and next").click()
        page.wait_for_function("first => document.querySelector('#judging-status h2').innerText !== first", arg=first)
        assert page.locator("input[type=radio]:checked").count() == 0, "no grade is carried over to the next query"
    state = shop.judging()
    assert (state["num_pairs"], state["judges"]) == (2, {"anna": 1})
    assert shop.forget_judge("anna")["removed"] == 1


@pytest.mark.browser
def test_experiments_are_shown_and_stopped_in_a_browser(url: str, shop: Client) -> None:
    from tests.serve import browser

    variants: list[Json] = [{"name": "plain"}, {"name": "diverse", "settings": {"diversity": 0.5}}]
    shop.create_experiment("diversity", variants, share=0.5)
    with browser.page() as page:
        page.goto(f"{url}/console/experiments")
        panel = page.locator("section[data-experiment=diversity]")
        panel.wait_for(timeout=30_000)
        assert panel.locator("tr[data-variant]").count() == 2
        assert "running" in panel.locator("h2").inner_text()
        assert "diversity = 0.5" in panel.inner_text()
        page.get_by_label("Experiment").fill("diversity")
        page.get_by_role("button", name="Stop").click()
        panel.get_by_text("stopped in the console").wait_for(timeout=30_000)
    assert shop.experiment("diversity")["standing"]["state"] == "stopped"
