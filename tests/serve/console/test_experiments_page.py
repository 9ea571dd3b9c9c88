"""What the console's page of experiments renders, over the API and without a browser."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from serve.console import experiments_page
from serve.console.experiments_page import STOP_REASON
from serve.ingress import Components, create_app
from serve.local_service import LocalService
from tests.serve.fake import open_fake
from txrec.client import AsyncClient
from txrec.loop.experiments.experiments import ExperimentDecision
from txrec.loop.experiments.served_experiments import KIND, ExperimentSpec, Standing, StoredExperiment
from txrec.online.sqlite_documents import SqliteDocuments

HOUR_US = 3_600_000_000
START_US = 1_700_000_000_000_000
VARIANTS = [{"name": "old"}, {"name": "new", "settings": {"diversity": 0.3}}]


def stored(name: str, state: Mapping[str, Any] | None = None, **spec: Any) -> StoredExperiment:
    """An experiment that started at START_US."""
    whole = ExperimentSpec.model_validate({"name": name, "variants": VARIANTS, **spec})
    return StoredExperiment(spec=whole, standing=Standing(started_us=START_US, **(state or {})))


def client_of(*found: StoredExperiment) -> AsyncClient:
    documents = SqliteDocuments(kind=KIND)
    for one in found:
        documents.put({one.spec.name: one.document()})
    app = create_app(LocalService(*open_fake()), components=Components(experiments=documents))
    return AsyncClient("http://console", transport=httpx.ASGITransport(app))


def page_of(*found: StoredExperiment, hours: float = 1.0) -> str:
    return asyncio.run(experiments_page.experiments(client_of(*found), int(START_US + hours * HOUR_US)))


def test_an_experiment_shows_its_variants_users_and_the_inequality_of_the_last_look() -> None:
    inequality = "clicks +0.031 (+0.004 to +0.058): low > 0"
    decision = ExperimentDecision(
        "texts", "new", "old", "promote", "clicks", 0.031, 0.004, 0.058, 0.0, inequality, (1_200, 1_195)
    )
    page = page_of(stored("texts", {"decisions": (decision.to_dict(),)}))
    assert "texts: promote new: clicks +0.031 (+0.004 to +0.058): low &gt; 0" in page
    assert ("1,200" in page, "1,195" in page) == (True, True)
    assert "diversity = 0.3" in page
    assert "14 Nov 2023 22:13 UTC" in page
    assert "100% of the users of the layer" in page


@pytest.mark.parametrize(("hours", "share"), [(1, "5.0%"), (30, "50.0%")])
def test_the_ramp_tells_the_present_share_of_the_users(hours: float, share: str) -> None:
    ramp = [{"after_h": 0, "share": 0.1}, {"after_h": 24, "share": 1.0}]
    page = page_of(stored("ramped", share=0.5, ramp=ramp), hours=hours)
    assert f"{share} of the users of the layer now; ramp of its 50%: 10% after 0 h, 100% after 24 h" in page


def test_running_experiments_come_first_and_ended_ones_tell_why() -> None:
    ended = stored("a-past", {"state": "decided", "reason": "keep old", "out": {"new": "slower than its margin"}})
    page = page_of(ended, stored("running-now"))
    assert page.index("data-experiment='running-now'") < page.index("data-experiment='a-past'")
    assert "keep old" in page
    assert "taken out: slower than its margin" in page


def test_stopping_an_experiment_records_that_it_was_done_here() -> None:
    client = client_of(stored("texts"))

    async def end() -> tuple[str, Any]:
        return await experiments_page.stopped(client, " texts ", START_US), await client.experiment("texts")

    page, standing = asyncio.run(end())
    assert (standing["standing"]["state"], standing["standing"]["reason"]) == ("stopped", STOP_REASON)
    assert STOP_REASON in page


def test_an_unknown_or_missing_name_is_told_and_the_page_stays() -> None:
    client = client_of(stored("texts"))
    assert "no experiment &#x27;none&#x27;" in asyncio.run(experiments_page.stopped(client, "none", START_US))
    assert "Enter the name" in asyncio.run(experiments_page.stopped(client, " ", START_US))
    assert "No experiment yet" in page_of()
