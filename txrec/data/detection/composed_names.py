"""Column names composed of a noun and a word for numbers, names or times (`Cód. cliente`, `商品タイトル`, `OrderedOn`).

The lists of whole names in `names.py` come first; this covers the many that shops compose. Every word of a name must be
known, so that `customer_city` is no customer and `product_group` no product.
"""

import re
from collections.abc import Sequence
from functools import cache

from txrec.text.folding import fold

_FILLERS = frozenset({"do", "da", "de", "del", "della", "delle", "dell", "di", "du", "des", "der", "den",
                      "van", "la", "le", "el", "the", "of", "a", "l", "d", "no"})  # fmt: skip
_USERS = (
    "user member customer cust buyer shopper visitor client account person kunde kunden kundin klient klienta"
    " zakaznik zakaznika kupujacy kupujacego cliente clienti utente usuario comprador utilisateur acheteur klant"
    " koper klantkaart kund asiakas musteri alici vevo ugyfel kundenkarte клиент клиента покупатель покупателя"
    " контрагент"
    " контрагента пользователь пользователя клієнт клієнта покупець покупця πελατη πελατης 会员 会員 用户 用戶 顾客"
    " 顧客 客户 客戶 买家 買家 고객 회원 구매자 사용자"
)
_ITEMS = (
    "product item part article material style barcode upc ean gtin sku artikel produkt produktu produkte produit"
    " producto produto articulo articolo"
    " prodotto artigo towar towaru cikk termek zbozi vyrobek vyrobku tuote urun varen vare товар товара товару"
    " hotel course restaurant wine beer episode podcast recipe dish movie book song track game"
    " номенклатура номенклатуры артикул продукта продукт προιοντος 商品 产品 產品 物品 宝贝 상품 제품 품목"
)
_ORDERS = (
    "order bestellung bestell auftrag auftrags rechnung beleg commande pedido ordine zamowienie zamowienia"
    " objednavka objednavky bestelling ordre tilaus siparis rendeles bon заказ заказа замовлення чек чека receipt"
    " kassabon bestel verkoop fatura fiş paragon kvitto"
    " invoice sale sales venta venda purchase transaction 注文 订单 訂單 주문"
)
_MARKS = (
    "id ids no nr num number nummer numer numero n code kod kodu codigo cod codice key guid uuid uid ref reference"
    " seq card kort kaart kodi referencia artnr azonosito szam numarasi номер код кода ид id 编号 編號 号 番号"
    " コード 번호 코드 아이디"
)
_TIMES = (
    "date time datetime dat tms datum zeit zeitpunkt fecha data hora timestamp ts day when dato paivamaara tarih"
    " tarihi"
    " datuma czas cas on at дата время час 时间 時間 日時 日期 日 일시 날짜 일자 시간"
)
_ACTIONS = (
    "order ordered orders sale sales sold purchase purchased buy bought placed created click clicked view viewed"
    " visit event action transaction invoice booking posting document billing scan scanned ticket receipt session"
    " interaction activity hit log logged happened occurred completed paid finished inkoop olay islem rated"
    " rating review utc local bestell bestellt kauf verkauf"
    " verkaufs venta compra pedido venda vente achat commande ordine acquisto vendita sprzedazy zakupu zamowienia"
    " prodeje objednavky nakupu verkoop aankoop bestel kop kob salg siparis satis заказа продажи покупки замовлення"
    " 下单 购买 操作 行为 行為 交易 付款 支付 注文 購入 閲覧 購買 주문 구매 행동 결제 이벤트"
)
_NAMES = (
    "name title description desc nazwa nazev nom nombre nome naam namn navn nimi adi nev bezeichnung"
    " denominacion denominazione"
    " titre titulo titel label libelle designation caption наименование название назва 名称 名稱 名 标题 標題"
    " タイトル 이름 명"
)
_PRICES = (
    "price prices preis preise prix precio preco cena prezzo prijs pris hinta ar egysegar vk fiyat fiyati цена"
    " ціна 价格"
    " 价 價格 售价 单价 単価 価格 가격 가 판매가 단가"
)
_OF_PRICES = (
    "in excluded included excl unit net final jedn jednostkowa jednostki za our base actual original promo"
    " special offer discounted current verkoop"
    " satis satış birim unit regular list retail sale sell selling calculated current base gross brutto bruto"
    " incl including inc tax"
    " amount value vat ttc usd eur gbp pln unitario unitaria unitaire venta venda vente verkauf verkaufs regularer"
    " listino catalogo lista birim detaliczna zakupu 販売 市场 销售 판매 정상"
)
_GROUPS = (
    "group gruppe grupo gruppo groupe groep productgroep artikelgroep grupa skupina subcategory subclass class"
    " hierarchy"
    " varugrupp tuoteryhma ryhma familia famille famiglia family varegruppe produktgruppe rubrik"
    " categoria category kategorie kategoria categorie commodity department 类目 類目 分類 分类 类别 カテゴリ"
    " 카테고리 분류"
)
_OF_GROUPS = "tree path full text ids first second level lvl main sub top 1 2 l1 l2 一级 一級 大 主 上位 대"
_STOCKS = (
    "stock stocks inventory onhand hand qoh soh estoque existencias bestand lager lagerbestand magazyn"
    " magazynowy magazzino"
    " giacenza voorraad keszlet raktarkeszlet sklad skladem varasto stok vorratig vorrat lagermenge остаток остатки"
    " 库存 庫存 在庫 재고"
)
_OF_STOCKS = (
    "qty quantity count level flag current total unrestricted flg available status stan available in verfugbar"
    " menge anzahl antall antal aantal actual current"
    " hand on 数 量 数量 수량"
)
_BEHAVIOURS = (
    "olay islem akcja akcji zdarzenie zdarzenia udalost actie handeling event action behavior"
    " behaviour activity interaction 行为 行為 行動 操作 事件 动作 行动 이벤트 행동"
)
_OF_BEHAVIOURS = "type typ tip tipi tur kod verb word label kind name code 类型 類型 種別 种类 名称 タイプ 유형 종류 명"
_QUANTITIES = "quantity qty units pieces menge aantal ilosc antal adet"
_OF_QUANTITIES = (
    "order ordered sold sale sales purchase purchased transaction item product line unit invoiced bought in of"
    " ordering"
    " scan scanned verkaufte bestellte besteld verkocht"
)
_SEARCHES = "search searched searches query suche such zoek recherche busqueda arama szukana fraza sok haku"
_OF_SEARCHES = (
    "term terms text string keyword keywords phrase input word words query internal site user raw original normalized"
    " value begriff wort anfrage suchbegriff opdracht woord mot cle kelime kelimesi ord sana"
)

_COMPOSED: dict[str, tuple[str, str, bool, float]] = {
    "user_id": (_USERS, f"{_MARKS} unique benutzer user login username", False, 0.72),
    "item_id": (_ITEMS, _MARKS, True, 0.7),
    "request_id": (_ORDERS, _MARKS, True, 0.7),
    "ts": (_TIMES, _ACTIONS, True, 0.66),
    "title": (_NAMES, f"{_ITEMS} full display", True, 0.75),
    "price": (_PRICES, f"{_OF_PRICES} {_ITEMS}", False, 0.62),
    "category": (_GROUPS, f"{_ITEMS} {_OF_GROUPS} {_NAMES} code", False, 0.6),
    "available": (_STOCKS, _OF_STOCKS, False, 0.65),
    "quantity": (_QUANTITIES, _OF_QUANTITIES, False, 0.65),
    "query": (_SEARCHES, _OF_SEARCHES, True, 0.65),
    "event": (_BEHAVIOURS, _OF_BEHAVIOURS, True, 0.7),
}
"""Canonical column = its nouns, words beside them, whether at least one of these is needed, fit of such names."""
_LATIN = re.compile(r"[a-z0-9]+")


@cache
def _words(role: str) -> tuple[frozenset[str], frozenset[str]]:
    nouns, beside, _, _ = _COMPOSED[role]
    return frozenset(map(fold, nouns.split())), frozenset(map(fold, beside.split()))


@cache
def composed_fit(role: str, full: str) -> float:
    """Fit of a composed name to a canonical column; 0 where any of its words says something else.

    Args:
        role: canonical column.
        full: the name in plain form, words separated by `_`.
    """
    if role not in _COMPOSED:
        return 0.0
    nouns, beside = _words(role)
    _, _, needs_both, score = _COMPOSED[role]
    words = [word for word in full.split("_") if word not in _FILLERS or word in beside]
    parts = [part for word in words for part in _parts(word, nouns, beside)]
    if not parts or any(part not in nouns and part not in beside for part in parts):
        return 0.0
    num_nouns = sum(part in nouns for part in parts)
    if not num_nouns or (needs_both and len(parts) < 2):
        return 0.0
    return score


def _parts(word: str, nouns: frozenset[str], beside: frozenset[str]) -> Sequence[str]:
    """A word, or the two known words that it is written together from (`Kundencode`, `商品编号`)."""
    if word in nouns or word in beside:
        return (word,)
    for place in range(1, len(word)):
        head, tail = word[:place], word[place:]
        short = _LATIN.fullmatch(word) and min(len(head), len(tail)) < 2 + (len(word) < 6)
        if not short and head in nouns | beside and tail in nouns | beside:
            return head, tail
    return (word,)
