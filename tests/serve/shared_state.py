"""Replicas of the HTTP application that know each other by their shared state alone."""

from fastapi.testclient import TestClient

from serve import suggester
from serve.documents import placements, profiles, rules
from serve.ingress import Components, create_app
from serve.local_service import LocalService
from serve.types import Model, SupportsRecommend
from txrec.config import ServeConfig
from txrec.online.live_window import LiveWindow
from txrec.online.stores import open_documents, open_history, open_journal


def replica(
    recommender: SupportsRecommend, state: str, config: ServeConfig | None = None, version: str = "v1"
) -> TestClient:
    """A replica over a state: a SQLite file or a Redis URL."""
    documents = open_documents(state, rules.KIND)
    live = LiveWindow(open_history(state), 28.0)
    service = LocalService(recommender, Model(version), open_journal(state), documents, live=live)
    parts = Components(
        store=open_history(state),
        journal=open_journal(state),
        rules=open_documents(state, rules.KIND),
        placements=open_documents(state, placements.KIND),
        suggestions=open_documents(state, suggester.KIND),
        profiles=open_documents(state, profiles.KIND),
    )
    return TestClient(create_app(service, config, parts))
