"""Shops' files with columns and event words in many languages."""

from collections.abc import Sequence

from tests.txrec.data.detection.shop_files import CASES, NUM_ITEMS, Expected, Files, csv_text, rows_of

_KINDS = ("view", "cart", "purchase")
_SHOPS: dict[str, tuple[str, str, str, str, str]] = {
    "polish": ("id_klienta data akcja id_produktu", "nazwa cena", "wyświetlenie koszyk zakup", "cp1250", "Łyżka"),
    "czech": ("zákazník datum akce kód_produktu", "název cena", "zobrazení košík nákup", "utf-8", "Žluté tričko"),
    "italian": ("id_cliente data azione codice_prodotto", "nome prezzo", "visto carrello acquisto", "utf-8", "Città"),
    "portuguese": ("cliente data acao produto", "nome preco", "visualizacao carrinho compra", "utf-8", "Mesa"),
    "dutch": ("klantnummer datum actie artikelnummer", "naam prijs", "bekeken winkelwagen kop", "utf-8", "Lamp"),
    "swedish": ("kundnummer datum händelse artikelnummer", "namn pris", "visning varukorg köp", "cp1252", "Röd lampa"),
    "finnish": ("asiakasnumero pvm tapahtuma tuotenumero", "nimi hinta", "katselu ostoskori osto", "utf-8", "Pöytä"),
    "russian": ("клиент дата действие артикул", "название цена", "просмотр корзина покупка", "cp1251", "Красная лампа"),
    "ukrainian": ("клієнт дата дія артикул", "назва ціна", "перегляд кошик покупка", "utf-8", "Червона лампа"),
    "turkish": ("müşteri_no tarih işlem ürün_kodu", "ürün_adı fiyat", "görüntüleme sepet satın_alma", "cp1254", "Işık"),
    "greek": ("πελάτης ημερομηνία ενέργεια κωδικός", "τίτλος τιμή", "προβολή καλάθι αγορά", "cp1253", "Καρέκλα"),
    "japanese": ("顧客ID 日時 行動 商品ID", "商品名 価格", "閲覧 カート 購入", "shift_jis", "赤いランプ"),
    "chinese": ("用户ID 时间 行为 商品ID", "商品名称 价格", "浏览 加购 购买", "gb18030", "红色台灯"),
    "korean": ("고객ID 일시 행동 상품ID", "상품명 가격", "조회 장바구니 구매", "utf-8", "빨간 램프"),
    "arabic": ("العميل التاريخ الحدث المنتج", "الاسم السعر", "عرض سلة شراء", "utf-8", "مصباح أحمر"),
}  # fmt: skip
"""Language: columns of the log, of the catalogue (after the id), event words, encoding, a title."""


def _files(columns: Sequence[str], fields: Sequence[str], words: Sequence[str], encoding: str, title: str) -> Files:
    rows = rows_of(_KINDS)
    word_of = dict(zip(_KINDS, words, strict=True))
    log = csv_text(
        list(columns),
        ([f"k{r.user}", f"{r.at:%Y-%m-%d %H:%M}", word_of[r.kind], f"A-{r.item:04d}"] for r in rows),
        ";",
    )
    items = csv_text(
        [columns[3], *fields], ([f"A-{i:04d}", f"{title} {i}", f"{4 + i},50"] for i in range(NUM_ITEMS)), ";"
    )
    return {"log.csv": log.encode(encoding), "items.csv": items.encode(encoding)}


def _case(language: str) -> tuple[Files, Expected]:
    columns, fields, words, encoding, title = _SHOPS[language]
    events: dict[str, int] = {}
    for row in rows_of(_KINDS):
        events[row.kind] = events.get(row.kind, 0) + 1
    named = {"title": fields.split()[0], "price": fields.split()[1]}
    return _files(columns.split(), fields.split(), words.split(), encoding, title), Expected(events, columns=named)


for _language in _SHOPS:
    CASES[_language] = lambda language=_language: _case(language)  # type: ignore[misc]
