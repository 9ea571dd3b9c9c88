"""Exposure of product groups: shares by hand, alarms of limits, and lists that keep to them."""

from pathlib import Path

import numpy as np
import pytest

from tests.tiny import tiny_data
from txrec.config import ExposureConfig, ExposureLimit
from txrec.loop.exposure import ProductGroups, alarms, attention, exposure_table, limited, report_rows

GROUPS = ProductGroups(
    item_ids=["a", "b", "c", "d"],
    parts={"brand": np.array(["acme", "acme", "best", "best"], object)},
    on_sale=np.array([True, True, True, False]),
    sales=np.array([3.0, 1.0, 0.0, 0.0]),
)
LISTS = np.array([[1, 3, 0], [1, 2, 3]], np.int32)


def test_attention_falls_with_the_logarithm_of_the_rank_and_ignores_empty_places() -> None:
    second, third = 1 / np.log2(3), 0.5
    assert attention(LISTS, 4) == pytest.approx([2.0, second, second + third, 0.0])


def test_shares_stand_beside_catalogue_sales_and_relevance() -> None:
    shares = GROUPS.shares(attention(LISTS, 4), np.array([1.0, 0.0, 3.0, 0.0]))
    acme, best = shares
    assert (acme.part, best.part) == ("acme", "best")
    assert acme.catalogue == pytest.approx(2 / 3)
    assert (acme.sales, best.sales) == (1.0, 0.0)
    assert (acme.relevance, best.relevance) == (0.25, 0.75)
    assert acme.exposure + best.exposure == pytest.approx(1.0)
    assert acme.exposure_per_relevance == pytest.approx(acme.exposure / 0.25)


def test_a_share_outside_its_limits_is_an_alarm_and_an_unknown_group_is_named() -> None:
    shares = GROUPS.shares(attention(LISTS, 4), np.ones(4))
    limits = (
        ExposureLimit(group="brand", part="acme", ceiling=0.5),
        ExposureLimit(group="brand", part="best", floor=0.9),
        ExposureLimit(group="brand", part="best", floor=0.1),
        ExposureLimit(group="brand", part="nobody", floor=0.1),
        ExposureLimit(group="seller", part="x"),
    )
    above, below, absent, unknown = alarms(shares, ExposureConfig(limits=limits))
    assert "'acme'" in above
    assert "above its ceiling 50.0%" in above
    assert "below its floor 90.0%" in below
    assert "'nobody' is 0.0%" in absent
    assert "no such group; known are brand" in unknown


def test_a_floor_takes_the_next_products_of_the_part_and_a_ceiling_the_next_of_the_others() -> None:
    lists = np.array([[1, 2] * 5 + [3, 4, 3]], np.int32)
    floor = limited(lists, GROUPS, ExposureLimit(group="brand", part="best", floor=0.2))
    assert sorted(floor[0][:10].tolist())[-2:] == [3, 4]
    assert floor[0][:8].tolist() == lists[0][:8].tolist(), "the last products of the others give way"
    ceiling = limited(lists, GROUPS, ExposureLimit(group="brand", part="acme", ceiling=0.8))
    assert np.isin(ceiling[0][:10], [1, 2]).sum() == 8
    assert sorted(ceiling[0].tolist()) == sorted(lists[0].tolist())
    unchanged = limited(lists, GROUPS, ExposureLimit(group="brand", part="acme"))
    assert np.array_equal(unchanged, lists)


def test_groups_of_a_prepared_data_set_cover_every_product(tmp_path: Path) -> None:
    data = tiny_data(tmp_path)
    groups = ProductGroups.of(data)
    assert set(groups.parts) == {"brand", "category", "price", "age", "popularity"}
    assert all(len(values) == data.meta.num_items for values in groups.parts.values())
    assert (groups.parts["popularity"] == "cold").sum() == data.meta.num_items - data.meta.num_trained_items
    assert (groups.parts["age"] == "not in the log").sum() >= 3
    assert len(set(groups.parts["price"])) == 5
    shares = groups.shares(np.ones(data.meta.num_items), np.ones(data.meta.num_items))
    for name in groups.parts:
        assert sum(one.exposure for one in shares if one.group == name) == pytest.approx(1.0)


def test_reports_hold_the_largest_parts_and_all_limited_ones() -> None:
    parts = np.array([f"b{n}" for n in range(40)], object)
    groups = ProductGroups([str(n) for n in range(40)], {"brand": parts}, np.ones(40, bool), np.ones(40))
    shares = groups.shares(np.arange(40, 0, -1, dtype=float), np.ones(40))
    rows = report_rows(shares, ExposureConfig(limits=(ExposureLimit(group="brand", part="b39", floor=0.1),)))
    assert [row["part"] for row in rows][:2] == ["b0", "b1"]
    assert rows[-1]["part"] == "b39"
    assert len(rows) == 21
    assert exposure_table(rows).rows[0][0] == "brand: b0"


def test_limits_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValueError, match=r"floor 0\.5 is above ceiling 0\.2"):
        ExposureLimit(group="brand", part="acme", floor=0.5, ceiling=0.2)
