import numpy as np
import pytest
from pydantic import ValidationError

from tests.tiny import KINDS, NUM_PER_KIND
from txrec.data.prepared import PreparedData
from txrec.index.filters.filters import FilterIndex, Filters, PriceRange, restrict


@pytest.fixture
def index(tiny: PreparedData) -> FilterIndex:
    return FilterIndex(tiny.items)


def ids(mask: np.ndarray | None) -> list[int]:
    assert mask is not None
    return [int(item) for item in np.flatnonzero(mask)]


def test_no_condition_is_no_mask(index: FilterIndex) -> None:
    assert index.mask(None) is None
    assert index.mask(Filters()) is None


def test_a_category_anywhere_on_the_path_matches_in_any_case(index: FilterIndex, tiny: PreparedData) -> None:
    assert len(ids(index.mask(Filters(category=("HOME",))))) == tiny.meta.num_items
    lamps = ids(index.mask(Filters(category=("Lamp",))))
    assert lamps[:NUM_PER_KIND] == list(range(NUM_PER_KIND + 1, 2 * NUM_PER_KIND + 1))


def test_both_ends_of_a_price_range_match(index: FilterIndex) -> None:
    assert ids(index.mask(Filters(price=PriceRange(min=12, max=14)))) == [3, 4, 5]


def test_values_of_one_field_are_alternatives_and_fields_all_hold(index: FilterIndex) -> None:
    both = Filters(category=(KINDS[0], KINDS[1]), brand=("Acme",), attributes={"Colour": ("blue",)})
    for item in ids(index.mask(both)):
        assert (item - 1) % 2 == 0
        assert (item - 1) % 3 == 0
    assert ids(index.mask(both))


def test_an_unknown_value_leaves_nothing(index: FilterIndex) -> None:
    assert ids(index.mask(Filters(brand=("nobody",)))) == []


def test_availability_can_be_asked_for(index: FilterIndex, tiny: PreparedData) -> None:
    assert len(ids(index.mask(Filters(available=True)))) == tiny.meta.num_items
    assert ids(index.mask(Filters(available=False))) == []


def test_a_price_range_upside_down_is_an_error() -> None:
    with pytest.raises(ValidationError, match="above max"):
        PriceRange(min=5, max=1)


def test_single_items_are_taken_out_of_a_mask_without_changing_it() -> None:
    mask = np.array([False, True, True])
    assert restrict(3, mask, [1]).tolist() == [False, False, True]
    assert mask.tolist() == [False, True, True]
    assert restrict(3, None, []) is None
