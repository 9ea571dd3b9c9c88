"""Domain vocabulary and Arrow schemas: event kinds, splits, rejection reasons, tables.

- *event*: one thing that a user did at one time; its kind is one of `EventKind`.
- *user_id*, *item_id*: the shop's own strings, everywhere. *user_idx*, *item_idx*, *query_idx*, *category_idx*,
  *brand_idx*: dense ints of one prepared data set or bundle, 0 = PAD, which never leave the library.
- *query*: a search text. On a search event it is the typed text; on any other event it is the search that led to it.
- *history*: a user's events in time order. *candidate*: an item proposed by a source. *slate*: the ranked answer.
"""

from datetime import UTC, datetime
from enum import IntEnum, StrEnum

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from txrec.errors import ConfigError

DAY_US = 86_400_000_000
"""Microseconds per day."""

PAD = 0
"""Index 0 is padding everywhere: items, queries, event kinds, brands, categories. Real indices start at 1."""


class EventKind(IntEnum):
    """Kinds of events, weakest first: a run of events on one item is represented by its strongest.

    Codes are stored in Parquet and in bundles: never renumber, only append.
    """

    SEARCH = 1
    IMPRESSION = 2
    VIEW = 3
    CLICK = 4
    CART = 5
    PURCHASE = 6
    RATE = 7

    @property
    def label(self) -> str:
        """The name used in canonical tables, configurations and HTTP bodies."""
        return self.name.lower()


EVENT_CODES: dict[str, int] = {kind.label: int(kind) for kind in EventKind}
NUM_EVENT_KINDS = max(EventKind) + 1  # PAD included
ITEM_EVENTS: tuple[str, ...] = ("view", "click", "cart", "purchase", "rate")
"""Kinds that say a user engaged with an item. An impression only says that the item was shown."""
_ENGAGES = np.array([code in {EVENT_CODES[name] for name in ITEM_EVENTS} for code in range(NUM_EVENT_KINDS)])


def is_engagement(event: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Marks of engagements with an item (`ITEM_EVENTS`), same shape as `event` (EventKind codes)."""
    engages: NDArray[np.bool_] = _ENGAGES[event]
    return engages


def parse_instant(text: str, setting: str) -> int:
    """An instant of the configuration in microseconds since 1970 UTC; without a zone it is UTC.

    Args:
        text: ISO 8601.
        setting: dotted name of the setting, for the message.

    Raises:
        ConfigError: not ISO 8601.
    """
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{setting} = {text!r}: expected ISO 8601, e.g. 2011-10-10 or 2011-10-10T12:00") from None
    return round((instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp() * 1e6)


class Split(IntEnum):
    """Parts of a data set: training, validation, test; non-decreasing along every user's history."""

    TRAIN = 0
    VALIDATION = 1
    TEST = 2

    @property
    def label(self) -> str:
        """The name used in reports and tables."""
        return self.name.lower()


class Reason(StrEnum):
    """Reasons of rejected rows. The set is closed; every rejected row carries exactly one.

    When several apply, the first in this order is given.
    """

    UNDECODABLE_TEXT = "undecodable_text"
    """The bytes of the row are not valid in the source's encoding."""
    NUL_BYTE = "nul_byte"
    """The row holds a NUL byte, as a crash in the middle of writing leaves behind."""
    BROKEN_QUOTING = "broken_quoting"
    """A quoted field does not end on its line."""
    WRONG_FIELD_COUNT = "wrong_field_count"
    """More or fewer fields than columns."""
    BROKEN_JSON = "broken_json"
    """The line is not a JSON object."""
    UNEQUAL_LISTS = "unequal_lists"
    """Lists of a record that stand side by side have different lengths."""
    REPEATED_HEADER = "repeated_header"
    """The line that names the columns, once more: files under one another."""
    MISSING_USER = "missing_user"
    """An event or a row of users without a user."""
    MISSING_ITEM = "missing_item"
    """An event other than a search, an item or a judgment without an item."""
    MISSING_QUERY = "missing_query"
    """A search or a judgment without a visible character to search for."""
    NO_MATCH_IN_JOIN = "no_match_in_join"
    """A required joined file has no row with this key."""
    CANCELLATION = "cancellation"
    """Configured rule: the row takes an earlier event back."""
    NEGATIVE_QUANTITY = "negative_quantity"
    """Configured rule: a quantity that is not positive."""
    NOT_A_PRODUCT = "not_a_product"
    """Configured rule: postage, fees, manual corrections."""
    EXCLUDED_BY_RULE = "excluded_by_rule"
    """Configured rule without a reason of its own."""
    UNKNOWN_EVENT = "unknown_event"
    """The event's name is no `EventKind`, also after the source's value map."""
    UNPARSABLE_TIME = "unparsable_time"
    """The time is missing, is not in the source's format or lies before 1970."""
    FUTURE_TIME = "future_time"
    """The time lies more than a day after the moment of preparation."""
    UNPARSABLE_VALUE = "unparsable_value"
    """A price, grade or quantity that is not a number."""
    DUPLICATE = "duplicate"
    """The same user, item, event and query within `prepare.duplicate_window_s`; an item_id or a
    row of users whose user_id came before."""
    ROBOT_RATE = "robot_rate"
    """The user has a minute of more events than `prepare.robot_events_per_minute`."""
    ROBOT_FLOOD = "robot_flood"
    """The user has more events on one item than `prepare.robot_item_flood`."""
    RARE_USER = "rare_user"
    """k-core: fewer events than `prepare.min_user_events`."""
    RARE_ITEM = "rare_item"
    """k-core: fewer events than `prepare.min_item_events`."""


EVENTS = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("ts", pa.timestamp("us", tz="UTC")),  # null where the log has no time: file order is time order
        pa.field("event", pa.string(), nullable=False),
        pa.field("item_id", pa.string()),  # null for a bare search
        pa.field("query", pa.string()),  # the search, or the search that led to this event; raw text
        pa.field("session_id", pa.string()),
        pa.field("request_id", pa.string()),
        pa.field("value", pa.float32()),  # price of a purchase, grade of a rating
    ]
)

ITEMS = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("title", pa.string()),
        pa.field("description", pa.string()),
        pa.field("category", pa.list_(pa.string())),  # path, broadest first
        pa.field("brand", pa.string()),
        pa.field("price", pa.float32()),
        pa.field("available", pa.bool_()),
        pa.field("attributes", pa.map_(pa.string(), pa.string())),
        pa.field("prices", pa.map_(pa.string(), pa.float64())),  # by store or country, where they differ
        pa.field("stock", pa.map_(pa.string(), pa.float64())),  # pieces by store or country; 0 = not there
        pa.field("sale_start", pa.timestamp("us", tz="UTC")),  # not shown before
        pa.field("sale_end", pa.timestamp("us", tz="UTC")),  # not shown from then on
    ]
)
MARKET_COLUMNS = ("prices", "stock", "sale_start", "sale_end")
"""Columns of ITEMS that depend on place and time."""

USERS = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("properties", pa.map_(pa.string(), pa.string())),  # e.g. country, tier; values as text
        pa.field("segments", pa.list_(pa.string())),  # groups that the shop puts the user in
    ]
)

JUDGMENTS = pa.schema(
    [
        pa.field("query", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("grade", pa.float32(), nullable=False),
    ]
)

REJECTED = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),  # file, or the SQL statement's name
        pa.field("row", pa.int64()),  # 1-based row (header not counted) where known
        pa.field("raw", pa.string()),  # the row as it stood; its fields as JSON where the source has no lines
        pa.field("reason", pa.string(), nullable=False),  # Reason
    ]
)

SEQUENCES = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        # one entry per event, oldest first; all lists of a row have the same length
        pa.field("item_idx", pa.list_(pa.int32())),  # PAD for a bare search
        pa.field("query_idx", pa.list_(pa.int32())),  # PAD for none
        pa.field("event", pa.list_(pa.int8())),  # EventKind
        pa.field("ts", pa.list_(pa.int64())),  # microseconds since 1970 UTC; 0 = unknown
        pa.field("value", pa.list_(pa.float32())),
        pa.field("split", pa.list_(pa.int8())),  # Split
    ]
)

PREPARED_ITEMS = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),  # row i holds item_idx i + 1
        *[field for field in ITEMS if field.name != "item_id"],
        pa.field(
            "text", pa.string(), nullable=False
        ),  # normalised title, brand, category, description: the encoder's input
        pa.field("category_idx", pa.int32(), nullable=False),  # leaf category, PAD = none or unknown to training
        pa.field("brand_idx", pa.int32(), nullable=False),
        pa.field("price_bucket", pa.int32(), nullable=False),  # 1..num_price_buckets by training quantiles, PAD = none
        pa.field("train_count", pa.int64(), nullable=False),  # training events (ITEM_EVENTS) on this item; 0 = cold
    ]
)

PREPARED_QUERIES = pa.schema(
    [
        pa.field("query", pa.string(), nullable=False),  # normalised; row i holds query_idx i + 1
        pa.field("train_count", pa.int64(), nullable=False),
    ]
)
