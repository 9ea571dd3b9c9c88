"""Kinds of events by columns and words of several kinds, catalogues of warehouses, and paths of several categories."""

import io
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import orc

from tests.txrec.data.detection.shop_files import (
    NUM_ITEMS,
    Files,
    catalogue_csv,
    csv_text,
    rows_of,
    title_of,
    write,
)
from tests.txrec.data.workbench import prepared
from txrec.data.detection.declaration import Declaration, declare
from txrec.data.detection.event_words import event_kind
from txrec.data.detection.names import fit
from txrec.errors import DataError


def events(made: Declaration) -> dict[str, int]:
    assert made.check is not None
    return dict(next(one for one in made.check.sources if one.table == "events").events)


def shop(folder: Path, **files: str) -> Declaration:
    texts: Files = {name.replace("__", "."): text for name, text in files.items()}
    return declare(write(folder, texts), "shop")


def test_a_search_log_with_clicked_products_holds_clicks_with_queries(tmp_path: Path) -> None:
    log = csv_text(
        ["user_id", "search_term", "clicked_product_id", "timestamp"],
        ([f"u{r.user}", "red lamp", f"P{r.item:03d}", r.at.isoformat()] for r in rows_of()),
    )
    made = shop(tmp_path, search_log__csv=log)
    assert events(made) == {"click": 400}
    assert made.config.data.events[0].columns["query"] == "search_term"


@pytest.mark.parametrize("name", ["market_basket__csv", "search_orders__csv", "cart__csv"])
def test_quantities_and_order_numbers_say_more_than_a_word_of_the_file_s_name(tmp_path: Path, name: str) -> None:
    log = csv_text(
        ["customer_id", "order_no", "sku", "qty", "date"],
        ([f"u{r.user}", r.order, f"P{r.item}", 1, r.at.isoformat()] for r in rows_of()),
    )
    assert events(shop(tmp_path, **{name: log})) == {"purchase": 400}


def test_a_file_of_carts_with_their_numbers_holds_carts(tmp_path: Path) -> None:
    log = csv_text(
        ["customer_id", "cart_id", "sku", "qty", "date"],
        ([f"u{r.user}", r.order, f"P{r.item}", 1, r.at.isoformat()] for r in rows_of()),
    )
    assert events(shop(tmp_path, cart_items__csv=log)) == {"cart": 400}


def test_marks_of_clicks_tell_clicks_from_what_was_only_shown(tmp_path: Path) -> None:
    log = csv_text(
        ["user_id", "item_id", "time", "clicked"],
        ([f"u{r.user}", f"P{r.item}", r.at.isoformat(), int(n % 4 == 0)] for n, r in enumerate(rows_of())),
    )
    assert events(shop(tmp_path, impressions__csv=log)) == {"impression": 300, "click": 100}


def test_the_only_word_that_can_mean_buying_is_a_question(tmp_path: Path) -> None:
    words = {"view": "VIEW", "cart": "ADD_TO_CART", "purchase": "CHECKOUT"}
    log = csv_text(
        ["user_id", "item_id", "time", "event"],
        ([f"u{r.user}", f"P{r.item}", r.at.isoformat(), words[r.kind]] for r in rows_of()),
    )
    asked = shop(tmp_path, log__csv=log).questions
    assert any("event = 'CHECKOUT': does it mean that something was bought?" in one for one in asked)
    both = log.replace("VIEW", "PURCHASE", 1)
    assert not any("was bought?" in one for one in shop(tmp_path, log__csv=both).questions)


def test_a_store_is_the_brand_of_catalogues_alone(tmp_path: Path) -> None:
    log = csv_text(
        ["user_id", "sku", "product_name", "store", "qty", "date"],
        ([f"u{r.user}", f"P{r.item}", title_of(r.item), "Berlin", 1, r.at.isoformat()] for r in rows_of()),
    )
    assert "brand" not in shop(tmp_path, sales__csv=log).config.data.items_from_events
    assert fit("brand", "store") > 0.5, "marketplaces name the maker so"


@pytest.mark.parametrize(
    ("role", "names"),
    [
        ("user_id", "cust_id CUST_NBR loyalty_card_no LYLTY_CARD_NBR klantkaart hh_id KUNNR"),
        ("item_id", "prod_cd ITEM_NBR sku_cd MATNR clicked_product_id Product2Id StyleCode"),
        ("ts", "evt_dttm trx_dt TXN_DTM ORD_DT inkoopdatum scan_dttm"),
        ("title", "prod_nm ITEM_DESC SKU_DESC item_nm Material_Description"),
        ("request_id", "trx_id TXN_ID ORD_NBR trans_no VBELN inv_no"),
        ("price", "unit_amt list_amt verkoopprijs cena_jedn UNIT_PRC unit_retail"),
        ("category", "dept_nm CATG_NM prod_grp Product_Line productgroep subcategory"),
        ("event", "evt_typ EVENT_TYPE_CD olay_tipi evt_nm"),
        ("query", "srch_term SRCH_TXT search_input"),
        ("quantity", "SALE_QTY txn_qty units_sold"),
        ("available", "avail_flg ON_HAND_QTY QOH in_stk_flg"),
    ],
)
def test_abbreviations_of_warehouses_are_known(role: str, names: str) -> None:
    assert [name for name in names.split() if fit(role, name) < 0.3 + 0.2 * (role != "item_id")] == []


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("impression_click", "click"),
        ("search_result_click", "click"),
        ("cart_view", "ignored"),
        ("wishlist_removed", "ignored"),
        ("order_refunded", "ignored"),
        ("add_review", "rate"),
        ("add_to_cart_click", "cart"),
        ("buy_click", None),
        ("gekocht", "purchase"),
        ("sepete_ekle", "cart"),
        ("prodView", "view"),
    ],
)
def test_words_of_several_kinds(word: str, kind: str | None) -> None:
    assert event_kind(word) == kind


def test_a_column_of_money_is_asked_for_where_nothing_is_named_like_a_price(tmp_path: Path) -> None:
    items = csv_text(
        ["sku", "title", "landed_cost", "weight_kg"],
        ([f"P{i}", title_of(i), f"{3 + i % 3}.50", i % 4] for i in range(NUM_ITEMS)),
    )
    made = shop(tmp_path, catalogue__csv=items)
    assert any("is it one of landed_cost (3.50)? Then set columns.price" in one for one in made.questions)
    assert made.config.data.items[0].attributes == ("weight_kg",)


def _categories(folder: Path, values: list[str]) -> Declaration:
    rows = ([f"P{i}", title_of(i), 4.5 + i, values[i % len(values)]] for i in range(NUM_ITEMS))
    return shop(folder, catalogue__csv=csv_text(["sku", "title", "price", "category"], rows))


def test_several_category_paths_in_one_field(tmp_path: Path) -> None:
    made = _categories(tmp_path, ["Home > Lamps, New", "Home, Home > Chairs", "Home > Vases, New"])
    (source,) = made.config.data.items
    assert (source.category_separator, source.categories_separator) == (" > ", ",")
    _, data = prepared(tmp_path, {"items": [source.model_dump(exclude_defaults=True)]})
    paths = dict(zip(data.items["item_id"].to_pylist(), data.items["category"].to_pylist(), strict=True))
    assert [paths[f"P{i}"] for i in range(3)] == [["Home", "Lamps"], ["Home", "Chairs"], ["Home", "Vases"]]


def test_commas_in_names_of_categories_are_no_separators(tmp_path: Path) -> None:
    made = _categories(tmp_path, ["Home > Arts, Crafts & Sewing", "Home > Chairs", "Garden > Pots"])
    assert made.config.data.items[0].categories_separator == ""
    assert not any("categories_separator" in one for one in made.questions)


def test_files_that_are_no_tables_in_folders_and_archives(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    (tmp_path / "folder" / "b.csv").write_text(catalogue_csv())
    with pytest.raises(DataError, match=r"folder/a\.png: is an image.*name a glob"):
        declare([str(tmp_path / "folder")], "shop")
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    with pytest.raises(DataError, match=r"nothing\.zip: the archive holds no tables"):
        declare(write(tmp_path, {"nothing.zip": empty.getvalue()}), "shop")
    orc.write_table(pa.table({"user": ["u1"], "item": ["p1"]}), str(tmp_path / "log.orc"))
    with pytest.raises(DataError, match=r"log\.orc: is an ORC file; save it as Parquet"):
        declare([str(tmp_path / "log.orc")], "shop")


@pytest.mark.parametrize(
    ("role", "names"),
    [
        ("title", "headline megnevezés bez omschrijving EnglishProductName"),
        ("user_id", "KDNR learner_id bezoeker_id E-mail_zákazníka vásárló_azonosító"),
        ("user_id", "identyfikator_klienta Карта_лояльности identificador_do_cliente"),
        ("item_id", "identyfikator_produktu identificativo_prodotto"),
        ("price", "Розничная_цена preço_por prix_public precio_final VKPREIS CURR_RTL_AMT"),
        ("category", "Группа departamento WGR subcategoria"),
        ("available", "в_наличии op_voorraad ACTV_FLG stok_adedi disponível dostępność"),
        ("brand", "ブランド名 브랜드명 BRAND_DESC"),
        ("query", "termino_busqueda 検索キーワード texto_pesquisa"),
        ("event", "アクション 이벤트구분 typ_zdarzenia"),
    ],
)
def test_more_names_of_many_languages(role: str, names: str) -> None:
    assert [name for name in names.split() if fit(role, name) < 0.5] == []


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("comprou", "purchase"),
        ("produktvisning", "view"),
        ("PURCH", "purchase"),
        ("visualizou", "view"),
        ("buscar", "search"),
        ("dodanie do koszyka", "cart"),
        ("usunięto z koszyka", "ignored"),
        ("장바구니담기", "cart"),
        ("주문취소", "ignored"),
        ("カート投入", "cart"),
    ],
)
def test_words_that_languages_inflect_or_write_together(word: str, kind: str) -> None:
    assert event_kind(word) == kind


def test_names_of_customers_and_artists_are_no_titles_of_tracks(tmp_path: Path) -> None:
    log = csv_text(
        ["Customer Name", "userId", "trackId", "artistName", "trackName", "playedAt"],
        (["Jane Doe", f"u{r.user}", f"t{r.item}", "The Lamps", title_of(r.item), r.at.isoformat()] for r in rows_of()),
    )
    assert shop(tmp_path, streams__csv=log).config.data.items_from_events["title"] == "trackName"


def test_a_description_in_place_of_a_title_is_asked_for(tmp_path: Path) -> None:
    items = csv_text(
        ["sku", "teaser", "description", "price"],
        ([f"P{i}", title_of(i) + " set", f"A long text about the {title_of(i)} and its use.", 3.5 + i]
         for i in range(NUM_ITEMS)),
    )  # fmt: skip
    asked = shop(tmp_path, catalogue__csv=items).questions
    assert any("description was taken: is it teaser?" in one for one in asked)


def test_a_catalogue_without_a_known_title_is_a_question(tmp_path: Path) -> None:
    items = csv_text(
        ["sku", "xyz", "price", "category"],
        ([f"P{i}", title_of(i), 3.5 + i, "Home"] for i in range(NUM_ITEMS)),
    )
    asked = shop(tmp_path, catalogue__csv=items).questions
    assert any("no column is named like a title; is it one of xyz? Then set columns.title" in one for one in asked)


@pytest.mark.parametrize(("form", "name"), [("%Y.%m.%d. %H:%M", "rendelés_dátuma"), ("%d. %m. %Y %H:%M", "datum")])
def test_days_with_a_point_at_their_end(tmp_path: Path, form: str, name: str) -> None:
    log = csv_text(
        ["user_id", "sku", name, "event"],
        ([f"u{r.user}", f"P{r.item}", r.at.strftime(form), r.kind] for r in rows_of()),
    )
    made = shop(tmp_path, log__csv=log)
    assert made.check is not None
    assert made.check.sources[0].span()[:16] == "2024-04-03 08:15"


def test_states_of_orders_in_a_script_without_blanks(tmp_path: Path) -> None:
    log = csv_text(
        ["会员编号", "商品编码", "下单时间", "订单编号", "订单状态"],
        ([f"u{r.user}", f"P{r.item}", r.at.isoformat(), r.order, "已取消" if n % 4 == 0 else "已完成"]
         for n, r in enumerate(rows_of())),
    )  # fmt: skip
    assert events(shop(tmp_path, orders__csv=log)) == {"purchase": 300}


@pytest.mark.parametrize(
    ("role", "name"),
    [
        ("user_id", "uuid"),
        ("user_id", "owner_id"),
        ("query", "se_label"),
        ("request_id", "order_email"),
        ("item_id", "program_id"),
    ],
)
def test_names_of_other_things(role: str, name: str) -> None:
    assert fit(role, name) < 0.5


def test_a_preview_is_no_review() -> None:
    assert [event_kind(word) for word in ("product_preview", "previewed", "reviewed")] == ["view", "view", "rate"]


def test_dishes_rather_than_restaurants_are_the_products(tmp_path: Path) -> None:
    log = csv_text(
        ["customer_id", "restaurant_id", "menu_item_id", "ordered_at"],
        ([f"u{r.user}", r.item % 3, f"M{r.item}", r.at.isoformat()] for r in rows_of()),
    )
    made = shop(tmp_path, orders__csv=log)
    assert made.config.data.events[0].columns["item_id"] == "menu_item_id"


def test_a_product_s_uuid_makes_no_log_of_a_catalogue(tmp_path: Path) -> None:
    items = csv_text(
        ["uuid", "sku", "title", "owner_id", "price"],
        ([f"{i:08x}-aa", f"P{i}", title_of(i), i % 3, 3.5 + i] for i in range(NUM_ITEMS)),
    )
    made = shop(tmp_path, products__csv=items)
    assert not made.config.data.events
    assert len(made.config.data.items) == 1


def test_products_of_a_log_are_told_by_those_of_the_catalogue(tmp_path: Path) -> None:
    log = csv_text(
        ["query_text", "user_id", "event_type", "xyz", "event_ts"],
        (["lamp", f"u{r.user}", r.kind, f"P{r.item:03d}", r.at.isoformat()] for r in rows_of()),
    )
    made = shop(tmp_path, search_events__csv=log, catalogue__csv=catalogue_csv())
    assert made.config.data.events[0].columns["item_id"] == "xyz"
    assert events(made) == {"view": 240, "cart": 80, "purchase": 80}
