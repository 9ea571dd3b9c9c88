"""Names that shops compose of a noun and a word for numbers, times or names, in many languages."""

from pathlib import Path

import pytest

from tests.txrec.data.detection.shop_files import NUM_ITEMS, Files, csv_text, rows_of, title_of, write
from txrec.data.detection.declaration import declare
from txrec.data.detection.names import fit
from txrec.data.detection.text_layout import detect_encoding


@pytest.mark.parametrize(
    ("role", "names"),
    [
        (
            "user_id",
            "会員番号 用户编号 회원번호 Kunden-Benutzer-ID Контрагент Buyer Cust_ID Kod_klienta customer_unique_id",
        ),
        ("item_id", "Artikelnummer_(SKU) Cód._artículo Código_do_Produto Код_номенклатуры 상품코드 ProductKey Part_#"),
        ("request_id", "주문번호 注文番号 Номер_заказа Auftragsnummer Sale_ID"),
        ("ts", "Data_do_Pedido Data_sprzedaży 操作时间 購入日時 OrderedOn Дата_заказа"),
        ("title", "商品标题 Nazwa_produktu Artikelname Denominación 상품명"),
        ("price", "售价 販売価格 판매가 Cena_brutto Preço_de_Venda P.V.P. Regulärer_Preis"),
        ("category", "一级类目 ProductGroup Familia first_level_category_name"),
        ("available", "Stan_magazynowy Estoque Existencias 在庫数 OnHand Vorrätig?"),
        ("event", "行为类型 BehaviorType"),
    ],
)
def test_composed_names_are_known(role: str, names: str) -> None:
    assert {name: fit(role, name.replace("_", " ")) for name in names.split() if fit(role, name) < 0.5} == {}


@pytest.mark.parametrize(
    ("role", "name"),
    [
        ("user_id", "customer_city"),
        ("user_id", "user_agent"),
        ("item_id", "product_group"),
        ("item_id", "Item Category Code"),
        ("item_id", "product_name_length"),
        ("title", "category_name"),
        ("request_id", "organisation_id"),
    ],
)
def test_names_with_a_word_that_says_something_else_are_not(role: str, name: str) -> None:
    assert fit(role, name) < 0.5


@pytest.mark.parametrize(
    ("text", "page"),
    [
        ("Kod produktu;Nazwa;Producent;Cena\nPL-1;Stół żółty;Łódź;1\u00a0003,49 zł\n", "cp1250"),
        ("code;date;name\nZ0;2024-04-03;Red žluťoučký vase\n", "cp1250"),
        ("Fecha;Nº pedido;Cód. artículo;Artículo;P.V.P.\n03-04-2024;50001;ES0;Red lamp;3,49 €\n", "cp1252"),
        ("Дата;Контрагент;Цена\n03.04.2024;Клиент красный;1\u00a0003,49\n", "cp1251"),
    ],
)
def test_code_pages_that_would_put_signs_into_words_are_not_chosen(text: str, page: str) -> None:
    assert detect_encoding(text.encode(page) * 20)[0] == page


def test_a_quantity_in_a_catalogue_is_its_stock(tmp_path: Path) -> None:
    rows = rows_of(("purchase",))
    log = csv_text(["Buyer", "SKU", "OrderedOn"], ([f"u{r.user}", f"P{r.item}", r.at.isoformat()] for r in rows))
    items = csv_text(["SKU", "TITLE", "PRICE", "QUANTITY"], ([f"P{i}", title_of(i), 9.5, i] for i in range(NUM_ITEMS)))
    files: Files = {"orders.csv": log, "listings.csv": items}
    made = declare(write(tmp_path, files), "shop")
    (source,) = made.config.data.items
    assert source.columns["available"] == "QUANTITY"
    (events,) = made.config.data.events
    assert (events.columns["user_id"], events.columns["ts"]) == ("Buyer", "OrderedOn")


def test_the_column_that_tells_most_kinds_of_events_apart_is_theirs(tmp_path: Path) -> None:
    words = {"view": ("view", "Product Viewed"), "cart": ("conversion", "Product Added To Cart"),
             "purchase": ("conversion", "Products Purchased")}  # fmt: skip
    log = csv_text(
        ["eventType", "eventName", "userToken", "timestamp", "sku"],
        ([*words[r.kind], f"u{r.user}", r.seconds * 1000, f"P{r.item}"] for r in rows_of()),
    )
    made = declare(write(tmp_path, {"insights.csv": log}), "shop")
    assert made.check is not None
    assert dict(made.check.sources[0].events) == {"view": 240, "cart": 80, "purchase": 80}
