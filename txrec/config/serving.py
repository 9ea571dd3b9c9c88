"""Configuration of the server: exploration, monitoring, resources, sample request."""

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from txrec.config.section import Section


class ExplorationConfig(Section):
    """Exploration with known propensities, within the shop's bounds."""

    share: float = Field(0.0, ge=0, le=1)
    """Share of the slates that are drawn instead of sorted; 0 = none."""
    first_place: int = Field(0, ge=0)
    """First place that may change, from 0."""
    num_places: int = Field(5, ge=1)
    """Places that may change."""
    pool: int = Field(20, ge=1)
    """Products that a draw chooses from, the best ones; more than a slate shows, so that others come up."""
    temperature: float = Field(1.0, gt=0)
    """Temperature of the scores; higher = more equal chances."""
    floor: float = Field(0.0, ge=0, le=1)
    """Least odds of a product relative to the best one; a floor of quality."""
    bonus: float = Field(0.0, ge=0)
    """Added to the log odds of a product that no user has seen yet."""
    bonus_views: float = Field(20.0, gt=0)
    """Views after which half of the bonus is left."""


class MonitorConfig(Section):
    """Attribution of events to served slates, and the figures that follow."""

    view_h: float = Field(1.0, gt=0)
    """Hours after a slate in which a view is credited to it."""
    click_h: float = Field(1.0, gt=0)
    """Hours after a slate in which a click is credited to it."""
    cart_h: float = Field(24.0, gt=0)
    """Hours after a slate in which an addition to the cart is credited to it."""
    purchase_h: float = Field(168.0, gt=0)
    """Hours after a slate in which a purchase is credited to it."""
    attribution: Literal["last_touch", "shared"] = "last_touch"
    """Events without a request id belong to the latest slate that showed their product, or to all in equal parts."""
    reformulation_s: float = Field(300.0, gt=0)
    """A search without a click followed by another query within this time counts as reformulated, seconds."""
    head_share: float = Field(0.2, gt=0, le=1)
    """Share of the distinct queries, most frequent first, that make up the head."""
    live_h: float = Field(24.0, gt=0)
    """Hours that the server's live figures cover."""
    refresh_s: float = Field(60.0, ge=0)
    """The server's live figures are computed again by a request for them once they are older than this, seconds."""
    partitions: int = Field(0, ge=0)
    """Parts in which an export is attributed; 0 = one per 200,000 rows."""
    drift_alpha: float = Field(0.002, ge=0, lt=1)
    """Share of quiet days, one ending each hour, on which live traffic may be called different from the training log;
    0 = it is not compared."""


class ServeConfig(Section):
    """The HTTP application."""

    host: str = "127.0.0.1"
    """Address listened on."""
    port: int = Field(8000, ge=1, le=65535)
    """TCP port."""
    proxy: bool = False
    """Puts Ray Serve's proxy before the ingress replicas. It spreads requests over machines and holds them while a
    replica restarts, and takes about ten milliseconds per request on two cores."""
    max_batch_size: int = Field(16, ge=1)
    """Requests per batch; a batch holds the requests that arrived while others ran, and none is delayed to fill one."""
    state: str = ""
    """Store of the events that arrive over HTTP: a file, or `redis://host:port/db` for several nodes; empty =
    `state/history.sqlite` next to the bundle or its registry."""
    max_waiting: int = Field(256, ge=1)
    """Requests that may wait in an ingress replica; one more is answered 503 with Retry-After."""
    num_ingresses: int = Field(1, ge=1)
    """Replicas that speak HTTP. With 2 or more (about 430 MiB each) the others go on accepting connections while one
    restarts, where a single one refuses them for some seconds. `/metrics` then answers for whichever replica the
    connection went to, and the console, whose state is in one process, needs a single one."""
    num_retrievers: int = Field(1, ge=1)
    """Replicas that encode and search; each holds the whole bundle."""
    num_rankers: int = Field(1, ge=0)
    """Replicas that rank; 0 = retrievers rank their own candidates, which saves a call on a single machine."""
    use_gpu: bool = False
    """Retrievers and rankers compute on a GPU: text encoder, history model and ranker. Indexes stay in main memory."""
    gpus_per_replica: float = Field(0.25, gt=0)
    """Share of a GPU that each retriever and ranker reserves with `use_gpu`; several share one."""
    request_timeout_s: float = Field(10.0, gt=0)
    """A request that takes longer is answered 503."""
    ranker_timeout_s: float = Field(1.0, gt=0)
    """Longest wait for the ranker, then retrieval order is served with `fallback: "ranker_unavailable"`."""
    activation_timeout_s: float = Field(60.0, gt=0)
    """Longest wait until every replica has opened and tried a version that is to be served, seconds."""
    impression_days: int = Field(30, ge=0)
    """Slates that were answered are kept this many days, to be joined with the events that followed; 0 = not at all."""
    event_days: int = Field(0, ge=0)
    """Events that arrived over HTTP are kept this many days; 0 = until their user is forgotten. Export
    them for the next training before they are removed."""
    live_count_days: float = Field(28.0, ge=0)
    """Days whose live events are counted in addition to the training log: popularity, clicks after queries, products of
    one user. 0 = none. At most the last 200,000 events count."""
    max_top_k: int = Field(1_000, ge=1)
    """Largest slate a caller may ask for."""
    audience_users: int = Field(5_000, ge=1)
    """Users whose histories are read for an answer of /v1/audience, those with most to expect by their habits."""
    max_query_chars: int = Field(512, ge=1)
    """Longest query answered."""
    console: bool = True
    """Serve the console at /console (never where keys are required, because its calls carry none)."""
    keys_file: str = ""
    """File of API keys, a line `role:sha256` each, roles read, events and admin; the environment variable
    TXREC_API_KEYS holds more of them. Without any, no key is needed."""
    rate_limit_per_s: float = Field(0.0, ge=0)
    """Requests per second that a key may make (without keys: a network address) in each ingress replica, with bursts of
    one second's worth; more is answered 429 with Retry-After. 0 = as many as it likes."""
    body_timeout_s: float = Field(10.0, gt=0)
    """A request whose body takes longer to arrive is answered 408."""
    placements_file: str = ""
    """TOML file with the defaults of placements, a table per placement; empty = only those put over HTTP."""
    mcp: bool = True
    """Serve the tools for agents (Model Context Protocol) at /mcp."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may call the API from a browser, e.g. https://shop.example; empty = none."""
    experiment_check_s: float = Field(15.0, gt=0)
    """Running experiments are looked at this often, seconds: guards stop and decisions are made then."""
    monitor: MonitorConfig = MonitorConfig()
    """Attribution and live figures, also those of `txrec monitor`."""
    exploration: ExplorationConfig = ExplorationConfig()
    """Exploration in slates of recommend and search."""

    @field_validator("state")
    @classmethod
    def _file_or_redis(cls, state: str) -> str:
        """A URL must be one of Redis: any other text would silently become the name of a SQLite file."""
        scheme, separator, _ = state.partition(":")
        if not separator or ("//" not in state and scheme.lower() not in ("redis", "rediss")):
            return state
        expected = "expected a file, or redis://host:port/db (rediss:// with TLS)"
        try:
            url = urlsplit(state)
            _ = url.port  # raises for one that is none
        except ValueError as error:
            raise ValueError(f"is no URL of Redis: {error}; {expected}") from None
        number = url.path.strip("/")
        if url.scheme not in ("redis", "rediss") or not url.hostname or (number and not number.isdecimal()):
            shown = state.replace(f"{url.password}@", "***@") if url.password else state
            raise ValueError(f"{shown!r} is no URL of Redis; {expected}")
        return state


class SampleConfig(Section):
    """The request that `txrec demo` answers on the terminal."""

    query: str = ""
    """Search text; empty = none."""
    user_id: str = ""
    """User; empty = the user with the longest history in the test part."""
    top_k: int = Field(10, ge=1)
    """Items shown."""
