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
    "bezoeker besucher besuchers visiteur visitante visitatore odwiedzajacy odwiedzajacego navstevnik latogato"
    " ziyaretci"
    " besokare besokande besogende kavija acquirente vasarlo vasarloi felhasznalo uzivatel uzytkownik uzytkownika"
    " gebruiker benutzer nutzer anvandare bruker bruger kayttaja kullanici kullanicisi посетитель посетителя"
    " відвідувач"
    " відвідувача 访客 訪客 訪問者 来訪者 방문자 user member customer cust buyer shopper visitor client account"
    " person kunde kunden kundin klient klienta"
    " zakaznik zakaznika kupujacy kupujacego cliente clienti utente usuario comprador utilisateur acheteur klant"
    " kd konto abonent abonne suscriptor odbiorca nabywca kontrahent kontrahenta odberatel zakaznika kupac kupca"
    " cumparator abonnent khach_hang pelanggan pengguna лояльности клієнта абонент клиентка koper klantkaart kund"
    " asiakas musteri alici vevo ugyfel kundenkarte клиент клиента покупатель покупателя"
    " контрагент"
    " контрагента пользователь пользователя клієнт клієнта покупець покупця πελατη πελατης 会员 会員 用户 用戶 顾客"
    " 顧客 客户 客戶 买家 買家 고객 회원 구매자 사용자"
)
_ITEMS = (
    "menu product item part article material style barcode upc ean"
    " gtin sku artikel produkt produktu produkte produit"
    " producto produto articulo articolo"
    " prodotto artigo towar towaru cikk termek zbozi vyrobek vyrobku tuote urun varen vare товар товара товару"
    " course recipe dish movie book song track game"
    " proizvod proizvoda produs produse termeku sortiment reference_article produk san_pham towarowy indeks"
    " номенклатура номенклатуры артикул продукта продукт προιοντος 商品 产品 產品 物品 宝贝 상품 제품 품목"
)
_ORDERS = (
    "order bestellung bestell auftrag auftrags rechnung beleg commande pedido ordine zamowienie zamowienia"
    " objednavka objednavky bestelling ordre tilaus siparis rendeles bon заказ заказа замовлення чек чека receipt"
    " kassenbon bonnr lieferschein vorgang buchung quittung facture ticket recibo nota scontrino fattura documento"
    " paragonu faktura faktury dokument dokumentu uctenka uctenky blok comanda racun narudzba zamowien чек чека"
    " квитанция"
    " накладная документа kassabon bestel verkoop fatura fiş paragon kvitto"
    " invoice sale sales venta venda purchase transaction 注文 订单 訂單 주문"
)
_MARKS = (
    "编码 編碼 id ids no nr num number nummer numer numero n code kod kodu codigo cod codice key"
    " guid uuid uid ref reference"
    " identyfikator identificador identifiant identificativo identifikator identifier kennung kennzahl"
    " идентификатор ідентифікатор seq card carte tarjeta carta cartao karta karty karte karti карта карты картка"
    " код-ид broj cislo cisla numerem numar 区分 kort kaart kodi referencia artnr azonosito szam numarasi номер"
    " код кода ид id 编号 編號 号 番号"
    " コード 번호 코드 아이디"
)
_TIMES = (
    "date time datetime dat tms moment instant stempel zeitstempel horodatage horario vrijeme vreme vrijeme datumas"
    " dates dia jour giorno momento timpul datetimeutc 発生日時 datum zeit zeitpunkt fecha data hora timestamp ts"
    " day when dato paivamaara tarih"
    " tarihi"
    " datuma czas cas on at дата время час 时间 時間 日時 日期 日 일시 날짜 일자 시간"
)
_ACTIONS = (
    "order ordered orders sale sales sold purchase purchased buy bought placed created click clicked view viewed"
    " visit event action transaction invoice booking posting document billing scan scanned ticket receipt session"
    " zdarzenia zdarzenie udalosti evento evenement ereignis gebeurtenis rejestracji wystawienia dokumentu paragonu"
    " transakcji bestellung bestellungs bon buchungs beleg belegs rechnung rechnungs kassenbon transaktion"
    " transaktions"
    " registro emissao emision emissione emission fattura facture aankoop comenzii narudzbe vasarlas esemeny rendeles"
    " tapahtuma osto kirjaus hendelse handelse registrering события операции документа чека події 発生 更新 登録 利用"
    " 売上 来店 발생 등록 결제 interaction activity hit log logged happened occurred completed paid finished"
    " inkoop olay islem rated"
    " rating review utc local bestell bestellt kauf verkauf"
    " verkaufs venta compra pedido venda vente achat commande ordine acquisto vendita sprzedazy zakupu zamowienia"
    " prodeje objednavky nakupu verkoop aankoop bestel kop kob salg siparis satis заказа продажи покупки замовлення"
    " 下单 购买 操作 行为 行為 交易 付款 支付 注文 購入 閲覧 購買 주문 구매 행동 결제 이벤트"
)
_NAMES = (
    "megnevezes pavadinimas name title headline description desc bez bezeichnung benaming omschrijving naziv"
    " denumire nama tieu_de"
    " nazwa nazev nom nombre nome naam namn navn nimi adi nev bezeichnung"
    " denominacion denominazione"
    " titre titulo titel label libelle designation caption наименование название назва 名称 名稱 名 标题 標題"
    " タイトル 이름 명"
)
_PRICES = (
    "price prices retail msrp mrp rrp preis preise prix precio preco cena prezzo prijs pris hinta ar egysegar vk"
    " fiyat fiyati цена"
    " ціна 价格"
    " 价 價格 售价 单价 単価 価格 가격 가 판매가 단가"
)
_OF_PRICES = (
    "s z w i c с без в moms alv afa kdv ндс руб rub rur kc czk zl huf ft sek dkk nok chf inr brl try tl jpy cny"
    " rmb krw"
    " kr euro euros usd dollar por de con sin com sem bez dph vat inkl excl exkl mwst ust iva tva igv btw dds pdv"
    " kpl stuk stuck pro per"
    " public publico pubblico publiczna katalog katalogowa katalogu laden end endpreis brutto advies consumenten"
    " maloobchodni prodejni predajna prodajna prodaje jednotkova detaljna maloprodajna vanzare unitar lista_de"
    " salg salgs"
    " utsalgs ordinarie ordinar myynti veroton kiskereskedelmi eladasi brutton netto cur curr now today was new old"
    " розничная розничной роздрібна продажная продажи базовая единицы отпускная за штуку 税込 税抜 通常 定価 실"
    " 할인 소비자"
    " in excluded included excl unit net final jedn jednostkowa jednostki za our base actual original promo"
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
    " grupy grupe grupp groupe_produit warengruppe artikelgruppe sortiment departamento departement departament"
    " reparto"
    " seccion secao sekcja dzial oddeleni abteilung afdeling avdeling osasto bolum reyon rayon subcategoria"
    " podkategoria"
    " podkategorie unterkategorie sous_categorie kategorija danh_muc категория категории группа группы раздел отдел"
    " подкатегория категорія група розділ categoria category kategorie kategoria categorie commodity department"
    " 类目 類目 分類 分类 类别 カテゴリ"
    " 카테고리 분류"
)
_OF_GROUPS = (
    "glowna hlavni principal principale haupt haupt_ root parent towaru towarowa товара товаров"
    " товарная 小 中 tree path full text ids first second level lvl main sub top 1 2 l1 l2 一级 一級 大 主 上位 대"
)
_STOCKS = (
    "stock stocks inventory onhand hand qoh soh estoque existencias bestand lager lagerbestand magazyn"
    " magazynowy magazzino"
    " наличии складе disponivel disponible disponibile disponibilita disponibilidade disponibilidad dostepnosc"
    " dostepny dostupnost"
    " verfugbarkeit beschikbaar beschikbaarheid zaliha stoc ton_kho zasoby zapas zasoba наличие наявність запас"
    " giacenza voorraad keszlet raktarkeszlet sklad skladem varasto stok vorratig vorrat lagermenge остаток остатки"
    " 库存 庫存 在庫 재고"
)
_OF_STOCKS = (
    "op auf na pa w на в i adedi miktari miktar mevcut sztuk szt ks pcs pieces pezzi unidades em en de num"
    " numero disponible aktueller"
    " aktuell"
    " freier frei loja magasin tienda negozio qty quantity count level flag current total unrestricted flg"
    " available status stan available in verfugbar"
    " menge anzahl antall antal aantal actual current"
    " hand on 数 量 数量 수량"
)
_BEHAVIOURS = (
    "アクション イベント evento evenement ereignis gebeurtenis handelse hendelse tapahtuma esemeny accion acao"
    " azione aktion"
    " aktivitat interakcja interakcji interaktion действия действие события событие события подія olay islem"
    " akcja akcji zdarzenie zdarzenia udalost actie handeling event action behavior"
    " behaviour activity interaction 行为 行為 行動 操作 事件 动作 行动 이벤트 행동"
)
_OF_BEHAVIOURS = (
    "tipo art rodzaj nazwa nombre nome nom naam тип вид название 区分 구분 type typ tip tipi tur"
    " kod verb word label kind name code 类型 類型 種別 种类 名称 タイプ 유형 종류 명"
)
_QUANTITIES = (
    "количество кількість mnozstvi kolicina cantitate mennyiseg 数量 수량 quantity qty units pieces"
    " menge aantal ilosc antal adet"
)
_OF_QUANTITIES = (
    "order ordered sold sale sales purchase purchased transaction item product line unit invoiced bought in of"
    " ordering"
    " scan scanned verkaufte bestellte besteld verkocht"
)
_SEARCHES = (
    "busca pesquisa ricerca wyszukiwania wyszukiwanie hledani vyhledavani поиска поиск 検索 검색 搜索"
    " search searched searches query suche such zoek recherche busqueda arama szukana fraza sok haku"
)
_OF_SEARCHES = (
    "termino terminos termo termos texto testo palabra palavra parola parole texte terme expression frazy tekst vyraz"
    " текст слово строка запрос キーワード ワード 語 어 关键词 词"
    " term terms text string keyword keywords phrase input word words query internal site user raw original"
    " normalized"
    " value begriff wort anfrage suchbegriff opdracht woord mot cle kelime kelimesi ord sana"
)
_BRANDS = (
    "brand marke marka marca marque merk znacka hersteller manufacturer vendor supplier producent vyrobce fabricante"
    " fabricant produttore лого бренд бренда производитель производителя марка ブランド メーカー 品牌 브랜드 제조사"
)
_OF_BRANDS = "name names label title code nazwa nome nom naam nazev description desc of product название 名 名称 명"

_COMPOSED: dict[str, tuple[str, str, bool, float]] = {
    "user_id": (_USERS, f"{_MARKS} e mail email unique benutzer user login username", False, 0.72),
    "item_id": (_ITEMS, _MARKS, True, 0.7),
    "request_id": (_ORDERS, _MARKS, True, 0.7),
    "ts": (_TIMES, _ACTIONS, True, 0.66),
    "title": (_NAMES, f"{_ITEMS} full display", True, 0.75),
    "price": (_PRICES, f"{_OF_PRICES} {_ITEMS}", False, 0.62),
    "category": (_GROUPS, f"{_ITEMS} {_OF_GROUPS} {_NAMES} code", False, 0.6),
    "available": (_STOCKS, _OF_STOCKS, False, 0.65),
    "brand": (_BRANDS, _OF_BRANDS, True, 0.65),
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
