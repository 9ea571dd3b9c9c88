"""Configuration of the preparation: cleaning, split, and checks against the last one."""

from typing import Literal

from pydantic import Field

from txrec.config.section import Section


class SplitConfig(Section):
    """Division of events into training, validation and test."""

    kind: Literal["global_time", "leave_one_out"] = "global_time"
    """global_time: two instants cut all histories (leak-safe). leave_one_out: a user's last event is test,
    the one before validation (for published tables)."""
    test_days: float | None = Field(None, gt=0)
    """global_time: length of the test window at the end of the log, days; none = fitted to the log: a week, or as much
    longer as some hundred users need, or the last eighth of a short log. The data report states it."""
    validation_days: float | None = Field(None, gt=0)
    """global_time: length of the validation window before it, days; none = fitted like the test window, or a week next
    to a fixed test window."""
    test_start: str = ""
    """global_time: start of the test window, ISO 8601 UTC; overrides test_days."""
    judgments_test_frac: float = Field(0.2, gt=0, lt=1)
    """judgments are split by query: share of the queries in test; the same share again in validation."""


class PrepareConfig(Section):
    """Reading, validation, cleaning, splitting."""

    latest_time: str = ""
    """ISO 8601: a day after this, times are in the future; empty = the moment of preparation."""
    max_rejected_frac: float = Field(0.5, ge=0, le=1)
    """More rejected rows than this share stops the job with the top reasons."""
    duplicate_window_s: float = Field(0.0, ge=0)
    """The same user, item, event and query within this many seconds is a duplicate; 0 drops exact duplicates only."""
    drop_duplicates: bool = True
    """Off for files in which the same line may rightly come twice (no times)."""
    session_gap_s: float = Field(1_800.0, gt=0)
    """A pause longer than this starts a new session, seconds."""
    robot_events_per_minute: float = Field(0.0, ge=0)
    """Users with a minute of more events than this are robots and rejected; 0 = off."""
    robot_item_flood: int = Field(0, ge=0)
    """Users with more events than this on one item are rejected; 0 = off."""
    min_user_events: int = Field(1, ge=1)
    """k-core: users with fewer events are dropped (reported)."""
    min_item_events: int = Field(1, ge=1)
    """k-core: items with fewer events are dropped (reported)."""
    split: SplitConfig = SplitConfig()
    """Training, validation and test."""
    num_price_buckets: int = Field(16, ge=1)
    """Price quantiles of training items."""
    num_partitions: int = Field(0, ge=0, le=65_535)
    """Hash partitions by user; 0 chooses by the size of the data."""


class ChecksConfig(Section):
    """Every preparation is compared with the last one of the same sources and settings."""

    compare: bool = True
    """Off = preparations are not compared."""
    alpha: float = Field(0.005, gt=0, lt=1)
    """Share of quiet days that may raise a false alarm."""
    tolerance: float = Field(0.02, ge=0)
    """Share by which the volumes of days that the last preparation held may differ from it."""
    max_age_h: float = Field(0.0, ge=0)
    """The last event of the log may be this old when it is prepared, hours; older is a break. 0 = any age."""
    max_events: int = Field(500_000, ge=1)
    """Events that are looked at; a larger log is judged by a part of its users."""
