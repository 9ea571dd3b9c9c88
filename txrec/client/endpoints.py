"""Endpoints of the HTTP API as methods, written once for the synchronous and the asynchronous client."""

import uuid
from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

Json = dict[str, Any]
R = TypeVar("R")
AUDIENCE_TIMEOUT_S = 60.0
"""Least timeout of a call that reads the histories of thousands of users."""
SWITCH_TIMEOUT_S = 180.0
"""Least timeout of a call that changes models: it is answered when every replica has opened the version."""


class Endpoints(ABC, Generic[R]):
    """The calls, written once for both clients; each returns the decoded reply (or an awaitable of it).

    Keyword arguments are the fields of the request body; `/docs` on the server describes them.
    """

    @abstractmethod
    def _send(self, method: str, path: str, body: Any = None, least_timeout_s: float = 0.0, once: bool = False) -> R:
        """Makes one call, again where that may help and does no harm."""

    def recommend(self, **fields: Any) -> R:
        """Recommendations for a user."""
        return self._send("POST", "/v1/recommend", fields)

    def search(self, query: str, **fields: Any) -> R:
        """Products for a search."""
        return self._send("POST", "/v1/search", {"query": query, **fields})

    def similar(self, item_id: str, **fields: Any) -> R:
        """Products similar to one."""
        return self._send("POST", "/v1/similar", {"item_id": item_id, **fields})

    def trending(self, **fields: Any) -> R:
        """Products that rise now."""
        return self._send("POST", "/v1/trending", fields)

    def popular(self, **fields: Any) -> R:
        """Products with most events."""
        return self._send("POST", "/v1/popular", fields)

    def new(self, **fields: Any) -> R:
        """New products."""
        return self._send("POST", "/v1/new", fields)

    def complements(self, items: list[str], **fields: Any) -> R:
        """Products that are bought together with others."""
        return self._send("POST", "/v1/complements", {"items": items, **fields})

    def recently_viewed(self, user_id: str, **fields: Any) -> R:
        """Products that a user looked at lately."""
        return self._send("POST", "/v1/recently-viewed", {"user_id": user_id, **fields})

    def buy_again(self, user_id: str, **fields: Any) -> R:
        """Products that a user is due to buy again."""
        return self._send("POST", "/v1/buy-again", {"user_id": user_id, **fields})

    def rank(self, items: list[str], **fields: Any) -> R:
        """The caller's own list in order."""
        return self._send("POST", "/v1/rank", {"items": items, **fields})

    def log(self, *events: Json) -> R:
        """Logs events of users; an event without an `event_id` gets one here, so that a repeated call counts once."""
        return self._send("POST", "/v1/events", [{"event_id": uuid.uuid4().hex, **event} for event in events])

    def forget(self, user_id: str) -> R:
        """Removes a user: events and profile."""
        return self._send("DELETE", f"/v1/users/{path_id(user_id)}")

    def user(self, user_id: str) -> R:
        """A user's history and profile."""
        return self._send("GET", f"/v1/users/{path_id(user_id)}")

    def put_user(self, user_id: str, **profile: Any) -> R:
        """Adds or replaces a user's profile: `properties` and `segments`."""
        return self._send("PUT", f"/v1/users/{path_id(user_id)}", profile)

    def audience(self, **fields: Any) -> R:
        """The users most likely to want `items`, a `category` or a `query`."""
        return self._send("POST", "/v1/audience", fields, AUDIENCE_TIMEOUT_S)

    def put_items(self, *items: Json) -> R:
        """Adds or changes products; fields that are left out stay, None removes a value."""
        return self._send("PUT", "/v1/items", list(items))

    def retire(self, item_id: str) -> R:
        """Takes a product out of sale."""
        return self._send("DELETE", f"/v1/items/{path_id(item_id)}")

    def item(self, item_id: str) -> R:
        """A product."""
        return self._send("GET", f"/v1/items/{path_id(item_id)}")

    def suggest(self, query: str, user_id: str | None = None, limit: int = 10) -> R:
        """Completions of a prefix."""
        fields = {"q": query, "limit": limit, **({"user_id": user_id} if user_id else {})}
        return self._send("GET", f"/v1/suggest?{urlencode(fields)}")

    def block_words(self, *words: str) -> R:
        """Replaces the words that no suggestion may hold."""
        return self._send("PUT", "/v1/suggest/blocked", {"words": list(words)})

    def placements(self) -> R:
        """All placements with their defaults."""
        return self._send("GET", "/v1/placements")

    def put_placement(self, name: str, **defaults: Any) -> R:
        """Adds or replaces a placement."""
        return self._send("PUT", f"/v1/placements/{path_id(name)}", defaults)

    def delete_placement(self, name: str) -> R:
        """Removes a placement that was put over HTTP."""
        return self._send("DELETE", f"/v1/placements/{path_id(name)}")

    def rules(self) -> R:
        """All merchandising rules."""
        return self._send("GET", "/v1/rules")

    def put_rules(self, *rules: Json) -> R:
        """Adds or replaces merchandising rules."""
        return self._send("PUT", "/v1/rules", list(rules))

    def rule(self, rule_id: str) -> R:
        """A merchandising rule."""
        return self._send("GET", f"/v1/rules/{path_id(rule_id)}")

    def delete_rule(self, rule_id: str) -> R:
        """Removes a merchandising rule."""
        return self._send("DELETE", f"/v1/rules/{path_id(rule_id)}")

    def judging(self) -> R:
        """State of the relevance judgments."""
        return self._send("GET", "/v1/judging")

    def judging_task(self, judge: str) -> R:
        """The next query for a judge, with the products to grade."""
        return self._send("GET", f"/v1/judging/task?{urlencode({'judge': judge})}")

    def grade(self, judge: str, query: str, grades: dict[str, int | None]) -> R:
        """Stores a judge's grades of products for a query; None = cannot tell."""
        return self._send("POST", "/v1/judging/grades", {"judge": judge, "query": query, "grades": grades})

    def forget_judge(self, judge: str) -> R:
        """Removes a judge's grades."""
        return self._send("DELETE", f"/v1/judging/judges/{path_id(judge)}")

    def models(self) -> R:
        """Models, served or registered."""
        return self._send("GET", "/v1/models")

    def monitor(self) -> R:
        """Live figures of the last hours by slice, with intervals."""
        return self._send("GET", "/v1/monitor")

    def experiments(self) -> R:
        """All experiments, with their latest decisions."""
        return self._send("GET", "/v1/experiments")

    def create_experiment(self, name: str, variants: list[Json], **fields: Any) -> R:
        """Starts an experiment."""
        body = {"name": name, "variants": variants, **fields}
        return self._send("POST", "/v1/experiments", body, SWITCH_TIMEOUT_S, once=True)

    def experiment(self, name: str) -> R:
        """An experiment."""
        return self._send("GET", f"/v1/experiments/{path_id(name)}")

    def stop_experiment(self, name: str, reason: str = "stopped over HTTP") -> R:
        """Stops an experiment."""
        return self._send("POST", f"/v1/experiments/{path_id(name)}:stop", {"reason": reason}, SWITCH_TIMEOUT_S)

    def activate(self, version: str, role: str = "production", share: float | None = None) -> R:
        """Serves a version: `production`, `canary` (with the share of users that it answers) or `shadow`."""
        body = {"role": role} if share is None else {"role": role, "share": share}
        return self._send("POST", f"/v1/models/{path_id(version)}:activate", body, SWITCH_TIMEOUT_S)

    def deactivate(self, version: str) -> R:
        """Ends a canary or a shadow."""
        return self._send("POST", f"/v1/models/{path_id(version)}:deactivate", None, SWITCH_TIMEOUT_S)

    def rollback(self) -> R:
        """Puts the version before the present one into production; tried once: twice would go back two versions."""
        return self._send("POST", "/v1/models:rollback", None, SWITCH_TIMEOUT_S, once=True)

    def ready(self) -> R:
        """Readiness of the server."""
        return self._send("GET", "/health/ready")


def path_id(raw_id: str) -> str:
    """An id as one path segment: `/` escaped, and dots where URL normalisation would read them as folders."""
    escaped = quote(raw_id, safe="")
    return escaped.replace(".", "%2E") if not escaped.strip(".") else escaped
