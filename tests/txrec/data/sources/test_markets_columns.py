"""Prices and stock by store, and periods of sale, from a catalogue file."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.txrec.data.workbench import CLICKS, HEADER, configured, write
from txrec.data.preparation.preparation import InProcess, run
from txrec.data.prepared import PreparedData
from txrec.errors import DataError

SOURCE: dict[str, Any] = {
    "path": "items.csv",
    "columns": {"item_id": "sku", "sale_start": "from", "sale_end": "to"},
    "prices": {"vienna": "p_vie", "graz": "p_graz"},
    "stock": {"vienna": "s_vie"},
    "time": {"format": "%d.%m.%Y", "zone": "Europe/Vienna"},
}
TABLE = (
    "sku,p_vie,p_graz,s_vie,from,to\n"
    "i0,9.90,12,3,01.07.2026,\n"
    "i1,,5,out of stock,,31.12.2026\n"
    "i2,cheap,,,,\n"  # row 3
    "i3,,,,tomorrow,\n"  # row 4
)


def prepared(folder: Path, source: dict[str, Any]) -> PreparedData:
    write(folder, "events.csv", HEADER + "".join(f"u,i{n},2024-01-0{n + 1},click,\n" for n in range(4)))
    write(folder, "items.csv", TABLE)
    config = configured(folder, {"events": [CLICKS], "items": [source]})
    run(config, InProcess())
    return PreparedData.open(config.data_dir)


def test_prices_stock_and_periods_are_read_and_what_cannot_be_read_is_quarantined(tmp_path: Path) -> None:
    data = prepared(tmp_path, SOURCE)
    rows = {row["item_id"]: row for row in data.items.to_pylist()}
    assert dict(rows["i0"]["prices"]) == {"vienna": 9.9, "graz": 12.0}
    assert dict(rows["i0"]["stock"]) == {"vienna": 3.0}
    assert rows["i0"]["sale_start"] == datetime(2026, 6, 30, 22, tzinfo=UTC)
    assert rows["i0"]["sale_end"] is None
    assert dict(rows["i1"]["prices"]) == {"graz": 5.0}
    assert dict(rows["i1"]["stock"]) == {"vienna": 0.0}
    assert dict(rows["i2"]["prices"]) == {}
    rejected = pq.read_table(data.path / "rejected").to_pylist()
    assert {(row["row"], row["reason"]) for row in rejected} == {(3, "unparsable_value"), (4, "unparsable_time")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stock": {"vienna": "pieces"}}, "no column 'pieces' (needed for stock.vienna)"),
        ({"columns": {"item_id": "sku", "prices": "p_vie"}}, "columns.prices cannot be one column"),
    ],
)
def test_a_bad_declaration_is_an_error(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as error:
        prepared(tmp_path, {**SOURCE, **change})
    assert message in str(error.value)
