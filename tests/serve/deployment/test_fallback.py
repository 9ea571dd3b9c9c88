"""What retriever and ingress do when their neighbours fail, with shipped stand-ins for Ray's handles."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError, RayTaskError
from ray.serve.exceptions import BackPressureError

from serve.deployment.calls import ModelNotLoadedError
from serve.deployment.deployed_service import DeployedService
from serve.deployment.deployments import Retriever
from serve.observability import logs
from serve.types import Answer, ServingRequest
from tests.serve.fake import FakeRecommender, open_fake
from txrec.config import ServeConfig
from txrec.errors import RequestError, UnavailableError, UnknownItemError
from txrec.recommender.types import Request

LAMP = ServingRequest(Request(query="lamp", explain=True), num_candidates=2, request_id="r1")


def handle(**methods: Callable[..., Awaitable[Any]]) -> Any:
    """Looks like a deployment handle: `handle.options(method_name=...).remote(...)` returns an awaitable."""
    return SimpleNamespace(options=lambda method_name, **_: SimpleNamespace(remote=methods[method_name]))


RETRIEVER: Any = Retriever.func_or_class  # type: ignore[attr-defined]  # the class below @serve.deployment


@pytest.fixture(autouse=True)
def _leave_the_log_of_this_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "start", lambda _: None)


def retriever(rank: Callable[..., Awaitable[Any]], opener: Any = open_fake) -> Any:
    return RETRIEVER(opener, handle(rank=rank), ServeConfig(ranker_timeout_s=0.05))


async def ranks(version: str, candidates: Any, catalogue: int, request_ids: Any) -> Any:
    assert (version, catalogue, request_ids) == ("v1", 0, ("r1",))
    return FakeRecommender().rank(candidates)


def keys(answer: Any) -> list[str]:
    assert isinstance(answer, Answer)
    return [item.item_id for item in answer.slate.items]


def test_with_a_ranker_the_slate_is_ranked_and_trimmed() -> None:
    (answer,) = asyncio.run(retriever(ranks).recommend([LAMP], request_ids=("r1",)))
    assert keys(answer) == ["p9", "p6", "p3"]
    assert answer.slate.fallback is None
    assert len(answer.slate.candidates) == 2


def test_a_retriever_without_a_ranker_ranks_itself() -> None:
    alone = RETRIEVER(open_fake, None, ServeConfig(num_rankers=0))
    (answer,) = asyncio.run(alone.recommend([LAMP], request_ids=("r1",)))
    assert keys(answer) == ["p9", "p6", "p3"]
    assert answer.slate.fallback is None


@pytest.mark.parametrize("trouble", ["dead", "slow", "overloaded", "defective", "defective, by reference"])
def test_without_a_ranker_retrieval_order_is_served_and_said(trouble: str, caplog: pytest.LogCaptureFixture) -> None:
    async def fails(*_: object, **__: object) -> None:
        match trouble:
            case "dead":
                raise ActorUnavailableError("gone", None)
            case "slow":
                await asyncio.sleep(60)
            case "overloaded":
                raise BackPressureError(9, 8)
            case "defective":
                raise ZeroDivisionError
            case _:
                raise RayTaskError("rank", "traceback", ZeroDivisionError())

    (answer,) = asyncio.run(retriever(fails).recommend([LAMP], request_ids=("r1",)))
    assert keys(answer) == ["p3", "p6", "p9"]
    assert answer.slate.fallback == "ranker_unavailable"
    (line,) = [record for record in caplog.records if "ranker unavailable" in record.message]
    assert bool(line.exc_info) == trouble.startswith("defective")


def test_a_dead_ranker_is_left_alone_for_a_while() -> None:
    calls = 0

    async def fails(*_: object, **__: object) -> None:
        nonlocal calls
        calls += 1
        raise ActorUnavailableError("gone", None)

    async def scenario() -> None:
        tested = retriever(fails)
        for _ in range(5):
            await tested.recommend([LAMP])

    asyncio.run(scenario())
    assert calls == 1


def test_a_ranker_that_lacks_the_model_is_asked_again_the_next_time() -> None:
    calls = 0

    async def refuses(*_: object, **__: object) -> ModelNotLoadedError:
        nonlocal calls
        calls += 1
        return ModelNotLoadedError("no such model")

    async def scenario() -> None:
        tested = retriever(refuses)
        for _ in range(3):
            (answer,) = await tested.recommend([LAMP])
            assert answer.slate.fallback == "ranker_unavailable"

    asyncio.run(scenario())
    assert calls == 3


class Picky(FakeRecommender):
    def retrieve_in_steps(self, requests: Any) -> Any:
        if any(request.query == "bad" for request in requests):
            raise RequestError("query", "is bad")
        return (yield from super().retrieve_in_steps(requests))


def test_a_bad_request_spoils_no_other_of_its_batch() -> None:
    tested = retriever(ranks, lambda: (Picky(), open_fake()[1]))
    good, bad = asyncio.run(tested.recommend([LAMP, ServingRequest(Request(query="bad"))], request_ids=("r1",)))
    assert keys(good) == ["p9", "p6", "p3"]
    assert isinstance(bad, RequestError)
    assert bad.field == "query"


def service(**methods: Callable[..., Awaitable[Any]]) -> DeployedService:
    return DeployedService(handle(**methods), ServeConfig(request_timeout_s=0.05))


def raising(error: BaseException) -> Callable[..., Awaitable[Any]]:
    async def call(*_: object, **__: object) -> None:
        raise error

    return call


@pytest.mark.parametrize("error", [ActorUnavailableError("gone", None), BackPressureError(9, 8)])
def test_a_missing_retriever_is_for_later(error: BaseException) -> None:
    with pytest.raises(UnavailableError, match="try again"):
        asyncio.run(service(recommend=raising(error)).recommend(LAMP))


def test_a_slow_retriever_is_for_later() -> None:
    async def sleeps(*_: object, **__: object) -> None:
        await asyncio.sleep(60)

    with pytest.raises(UnavailableError, match=r"within 0\.05 s"):
        asyncio.run(service(model=sleeps).model())


def test_errors_of_the_domain_come_through_with_their_field() -> None:
    async def refuses(*_: object, **__: object) -> UnknownItemError:
        return UnknownItemError("item_id", "no such item")

    with pytest.raises(UnknownItemError, match="no such item") as caught:
        asyncio.run(service(similar=refuses).similar("p", LAMP))
    assert caught.value.field == "item_id"


def test_a_defect_stays_a_defect() -> None:
    for error in (KeyError("x"), RayTaskError("similar", "trace", KeyError("x"))):
        with pytest.raises(type(error)):
            asyncio.run(service(similar=raising(error)).similar("p", LAMP))


def test_a_call_carries_the_ids_of_the_requests_that_it_is_made_for() -> None:
    seen: list[Any] = []

    async def recommend(batch: list[ServingRequest], request_ids: Any) -> list[Answer]:
        seen.append(request_ids)
        await asyncio.sleep(0.01)  # what comes meanwhile is the next batch
        return [Answer(FakeRecommender().recommend([asked.request])[0], "v1") for asked in batch]

    async def scenario() -> None:
        tested = DeployedService(handle(recommend=recommend), ServeConfig(max_batch_size=2))
        await asyncio.gather(*(tested.recommend(replace(LAMP, request_id=f"r{n}")) for n in range(4)))

    asyncio.run(scenario())
    assert seen == [("r0",), ("r1",), ("r2", "r3")]
