"""Profile source: which items users with like properties take, what few users say, and what becomes of new items."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.tiny import KINDS, NUM_PER_KIND, tiny_data
from txrec import schema
from txrec.config import RetrievalConfig
from txrec.data.prepared import PreparedData
from txrec.data.profiles import FILE, StoredProfiles
from txrec.index.live_log import LiveEvent, LiveLog
from txrec.index.source import FitContext, OpenContext, SourceQuery, best
from txrec.index.source_registry import fit_sources, source_names
from txrec.index.sources.profile_affinity import ProfileAffinity, PropertyCodes
from txrec.index.training_log import EventLog
from txrec.recommender.catalogue import Catalogue
from txrec.schema import EventKind, Split


def with_table(data: PreparedData) -> PreparedData:
    """The tiny data with a users table: `style` is the kind of the user's products, `age` says nothing."""
    rows: list[dict[str, object]] = [
        {"user_id": f"user-{user:03d}", "properties": [("style", KINDS[user % 6]), ("age", str(20 + user * 7 % 50))]}
        for user in range(data.meta.num_users)
    ]
    rows += [{"user_id": f"new-{kind}", "properties": [("style", kind)]} for kind in KINDS]  # without events
    pq.write_table(pa.Table.from_pylist(rows, schema=schema.USERS), data.path / FILE)
    return PreparedData.open(data.path)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return with_table(tiny_data(tmp_path_factory.mktemp("profiles")))


@pytest.fixture(scope="module")
def source(data: PreparedData) -> ProfileAffinity:
    return ProfileAffinity.fit(data, EventLog.before(data, Split.VALIDATION))


def query(*profiles: dict[str, str]) -> SourceQuery:
    none = [np.empty(0, np.int32)] * len(profiles)
    return SourceQuery([""] * len(profiles), np.zeros((len(profiles), 4), np.float32), none, profiles)


def kinds(items: np.ndarray) -> list[str]:
    return [KINDS[(item - 1) // NUM_PER_KIND] for item in items]


def test_users_get_first_what_users_with_the_same_property_take(source: ProfileAffinity) -> None:
    hits = source.search(query({"style": "tent"}, {"style": "lamp", "age": "33"}), NUM_PER_KIND, [None, None])
    assert set(kinds(hits.item_idx[0])) == {"tent"}
    assert set(kinds(hits.item_idx[1])) == {"lamp"}


def test_nothing_is_proposed_without_a_property_that_the_log_knows(source: ProfileAffinity) -> None:
    hits = source.search(query({}, {"style": "harp"}, {"colour": "red"}, {"age": "old"}), 5, [None] * 4)
    assert not hits.item_idx.any()
    assert not source.knows_profile({"style": "harp"})
    assert source.knows_profile({"style": "tent"})


def test_a_mask_holds_however_few_items_it_allows(source: ProfileAffinity, data: PreparedData) -> None:
    mask = np.zeros(data.meta.num_items + 1, np.bool_)
    mask[[2, 35]] = True
    hits = source.search(query({"style": "tent"}), 5, [mask])
    assert hits.item_idx[0].tolist() == [35, 2, 0, 0, 0]


def test_the_lift_of_the_category_stands_in_for_that_of_items_that_few_took(source: ProfileAffinity) -> None:
    codes = source.codes_of({"style": "tent"})
    cold = np.array([61], np.int32)  # a product without any event
    own = source.lifts(codes, cold)
    assert own.item == pytest.approx(own.category, abs=1e-5)
    tents = np.arange(31, 41, dtype=np.int32)
    assert (source.lifts(codes, tents).item > 0.5).all()
    assert (source.lifts(source.codes_of({"style": "lamp"}), tents).item < -0.5).all()
    features = source.features_of_profile({"style": "tent", "age": "30"}, tents)
    assert features.shape == (10, 3)
    assert (features[:, 2] == 2).all()
    assert not source.features_of_profile({}, tents).any()


def test_it_learns_from_nothing_later_than_the_log_that_it_is_fitted_on(data: PreparedData) -> None:
    early = EventLog.before(data, Split.TRAIN)  # no event at all
    assert not ProfileAffinity.fit(data, early).knows_profile({"style": "tent"})


def test_users_of_the_table_who_take_a_product_live_change_its_lift_and_no_other(
    source: ProfileAffinity, data: PreparedData
) -> None:
    tent, end, stored = 35, data.meta.end_ts, StoredProfiles.read(data.path)
    assert stored is not None
    names = ["", *data.items["item_id"].to_pylist()]
    idx_of = {name: place for place, name in enumerate(names) if place}
    lamps = [user for user in range(24) if KINDS[user % 6] == "lamp"]
    events = [LiveEvent(f"user-{user:03d}", names[tent], "", int(EventKind.CLICK), end + user) for user in lamps]
    popularity, everything = np.ones(len(names), np.float32), np.arange(1, len(names), dtype=np.int32)
    log = LiveLog.of([*events, *events], idx_of, end, 30.0, popularity, stored.properties_of)
    assert log is not None
    live = source.with_live(log)
    change = {}
    for style in ("lamp", "drill"):
        codes = source.codes_of({"style": style})
        before, after = source.lifts(codes, everything).item, live.lifts(codes, everything).item
        change[style] = after[tent - 1] - before[tent - 1]
        assert (after == before).sum() == len(everything) - 1
        users = source._counts.users[1:] + len(lamps) * (everything == tent)
        scores = np.log((users + 0.5) / source._counts.users.sum()) + after
        assert live.search(query({"style": style}), 63, [None]).item_idx[0].tolist() == (
            best(everything, scores.astype(np.float32), 63, None).item_idx.tolist()
        )
        allowed = np.isin(np.arange(len(names)), [2, tent])
        assert set(live.search(query({"style": style}), 5, [allowed]).item_idx[0].tolist()) == {2, tent, 0}
    assert change["lamp"] > 0.3
    assert change["drill"] < 0
    unknown = LiveLog.of(events, idx_of, end, 30.0, popularity)
    assert unknown is not None
    assert source.with_live(unknown) is source


def test_a_saved_source_answers_as_before(source: ProfileAffinity, data: PreparedData, tmp_path: Path) -> None:
    source.save(tmp_path)
    opened = ProfileAffinity.open_source(tmp_path, OpenContext(np.zeros((1, 1), np.float32), None, data.analyser))
    asked = query({"style": "drill", "age": "41"})
    before, after = (one.search(asked, 9, [None]) for one in (source, opened))
    assert (before.item_idx == after.item_idx).all()
    assert (before.scores == after.scores).all()


def test_numbers_are_put_into_buckets_and_rare_texts_are_left_out() -> None:
    ages = PropertyCodes.fit([str(n) for n in range(100)], 3)
    assert ages is not None
    assert len(ages) == 8
    assert [ages.of("0"), ages.of("12.6"), ages.of("99"), ages.of("250")] == [3, 4, 10, 10]
    assert ages.of("many") is None
    tiers = PropertyCodes.fit(["gold"] * 7 + ["silver"] * 9 + ["lead"], 0)
    assert tiers is not None
    assert [tiers.of("silver"), tiers.of("gold"), tiers.of("lead")] == [0, 1, None]
    assert PropertyCodes.fit(["gold", None, None], 0) is None


def test_it_takes_part_where_there_is_a_users_table_and_it_is_not_switched_off(data: PreparedData) -> None:
    off = RetrievalConfig(use_profiles=False)
    assert source_names(RetrievalConfig(), has_profiles=True) == (*source_names(RetrievalConfig()), "profile")
    assert "profile" not in source_names(off, has_profiles=True)
    vectors = np.zeros((data.meta.num_items + 1, 4), np.float32)
    context = FitContext(RetrievalConfig(), data, EventLog.before(data, Split.TEST), vectors, None)
    assert "profile" in fit_sources(context)
    assert "profile" not in fit_sources(FitContext(off, data, context.log, vectors, None))


def test_products_that_are_added_have_the_lift_of_their_category(source: ProfileAffinity, data: PreparedData) -> None:
    from txrec.index.source import CatalogueUpdate

    catalogue = Catalogue(data.items)
    rows = [{"item_id": "new-tent", "title": "tent", "category": ["tent"]}]
    _, changed = catalogue.with_items(rows)
    nothing = np.zeros((changed.num_items + 1, 4), np.float32)
    grown = source.with_items(CatalogueUpdate(**vars(changed), vectors=nothing, item_text=None))
    new = changed.item_idx
    codes = grown.codes_of({"style": "tent"})
    category = int(changed.items.column("category_idx")[0].as_py())
    assert category > 0
    assert grown.lifts(codes, new).item == pytest.approx(grown.lifts(codes, new).category, abs=1e-5)
    assert grown.lifts(codes, new).item[0] > 0.5
