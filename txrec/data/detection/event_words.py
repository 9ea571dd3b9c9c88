"""Words of shops for kinds of events, in the columns of logs and in the names of their files."""

import re
from collections.abc import Sequence
from functools import cache

from txrec.data.detection.names import plain_name, spelled_out
from txrec.text.folding import fold

_EVENTS = {
    "search": "search searched site_search query view_search_results product_search products_searched"
    " search_query view_search viewsearch finish_search gesucht gezocht recherche_interne buscar busca pesquisa"
    " ricerca wyszukiwanie szukanie"
    " hledani vyhledavani sok sokning sogning haku kereses arama поиск пошук αναζήτηση بحث חיפוש suche searching"
    " search_performed recherche busqueda search_results searchresults 搜索 検索 검색",
    "impression": "impression impressions view_item_list product_list_viewed show shown exposure impr imp"
    " view_reco viewreco exposed seen"
    " displayed",
    "view": "view viewed views pageview product_view view_item product_viewed detail details pdp pv"
    " view_product viewproduct detail_view product_detail browse visit view_content viewcontent productview"
    " item_view ansicht angesehen play played listen stream watch read open product_page vue vista viewed_product"
    " product_detail_view wyswietlenie zobrazeni visualizzazione visto visualizacao visualizacion bekeken"
    " weergave visning katselu goruntuleme inceleme просмотр перегляд προβολή 浏览 瀏覽 閲覧 조회 عرض مشاهدة"
    " צפייה consultation prod_view prodview vu consulte voir ver gesehen aufruf aufgerufen produktansicht"
    " artikelansicht seitenaufruf bezoek obejrzano odslona wyswietlono zhlednuto goruntule goruntulendi"
    " goruntuledi visad visat vist katsottu megtekintes visualizzato visualizado visualizada vista_producto"
    " viewed_item preview previewed browsed visited"
    " mirar consulta watched reading streamed listened",
    "click": "click clicked clicks select_item product_clicked clk tap klick product_click"
    " select_content item_click fav favorite favourite like wishlist add_to_wishlist bookmark clic clique"
    " geklickt geklikt klikniecie kliknieto kliknuti kattintas"
    " tiklama tikladi klikkaus klikning klikk saved save bookmarked liked loved pinned favorited favourited"
    " favorites wishlisted wished wunschliste"
    " merkliste favoris favoritos ulubione verlanglijst поставил лайк клик избранное 点击 收藏"
    " クリック お気に入り 클릭 찜",
    "cart": "cart add_to_cart addtocart product_added basket cart_add atc add_to_basket addtobasket"
    " add_cart warenkorb added_to_cart add_to_bag in_cart carted cart_addition addcart add koszyk kosik carrello"
    " carrinho carrito winkelwagen varukorg ostoskori kosar sepet корзина кошик καλάθι 加购 加入购物车 加购物车"
    " 购物车 カート 買い物かご 购物袋 カート追加 장바구니 سلة"
    " السلة עגלה panier cesta kurv handlekurv sc_add scadd add2cart add_2_cart koszyka koszyku kosiku kosice"
    " carrinho_compras bag trolley cart_item"
    " sepete sepete_ekle sepete_ekleme carro cesto sacola cestino winkelmand winkelmandje kundvagn indkobskurv"
    " kosarba"
    " einkaufswagen ajout_panier aggiunto",
    "purchase": "purchase purchased purchases buy buys bought order ordered orders transaction"
    " order_completed checkout_completed sale paid kauf gekauft bestellung achat compra order_placed conversion"
    " product_purchased checkout_success completed_order invoice zakup nakup acquisto aankoop kop osto vasarlas"
    " satin_alma покупка αγορά 购买 支付 付款 下单 成交 購入 注文 결제 주문 구매 شراء רכישה sales sold bestilling"
    " tilaus zamowienie objednavka"
    " ordine pedido gekocht besteld aankopen verkoop verkopen bestellt bestellungen verkauf verkaufe auftrag"
    " achats achete commande commandes commander comprado compras compro ventas venta pedidos venda vendas ordini"
    " vendita vendite acquistato acquisti kupiono zakupiono zakupy zamowienia sprzedaz nakupy koupeno objednavky"
    " prodej"
    " satin_aldi satinalma satis satislar siparis siparisler alisveris kopt kopte bestallning ordre kjop kob salg"
    " ostettu ostos vasarlasok rendeles rendelesek eladas заказ заказы покупки продажа продажи оформление_заказа"
    " замовлення bought_item receipt receipts invoices orderline orderlines",
    "rate": "rate rated rating ratings review reviewed reviews score"
    " bewertung bewertungen bewertet avis note_produit ocena oceny opinia beoordeling beoordelingen valoracion"
    " valoraciones avaliacao avaliacoes recensione recensioni hodnoceni puan yorum degerlendirme betyg omdome"
    " anmeldelse"
    " arvostelu ertekeles отзыв отзывы оценка 评分 評価 평점",
}  # fmt: skip
_IGNORED = (
    "remove_from_cart removefromcart product_removed remove page_view session_start scroll user_engagement"
    " first_visit"
    " begin_checkout login logout signup sign_up checkout refund add_payment_info add_shipping_info view_cart"
    " checkout_started cart_viewed home register unsubscribe file_download form_start form_submit first_open"
    " view_promotion select_promotion cart_remove unlike dislike return returned cancel cancelled exit search_filter"
    " pageload page heartbeat error email_open checkout_step app_open"
    " sc_view sc_open sc_checkout scview scopen sccheckout active_on_site home_page_view category_page_view"
    " viewcategory"
    " view_category"
)


_ORDERED = frozenset({"checkout", "order", "payment", "purchase"})
_ENDED = frozenset({
    "complete", "completed", "success", "successful", "succeeded", "confirmed", "confirmation", "finished", "finish",
})  # fmt: skip
"""Words that together tell of a purchase (`checkout_complete`)."""
_BEGUN = frozenset({"begin", "began", "begun", "start", "started", "initiate", "initiated", "abandon", "abandoned",
                    "shipped", "fulfilled", "delivered"})  # fmt: skip
"""Words that together with those of orders tell of none, or of one that was told before."""
_UNDOING = (
    "remove removed removal delete deleted fail failed failure error refund refunded cancel canceled cancelled"
    " return returned unlike unsubscribe email newsletter coupon promotion promo banner notification entfernt"
    " verwijderd verwijderen supprime supprimer retire retirer eliminado eliminar quitado quitar removido"
    " rimosso usunieto usuniecie odebrano odstraneno cikar cikarma poistettu fjernet borttagen удалено удаление"
    " 削除 删除 移除 삭제"
    " 取消 キャンセル 退款 返品 취소 환불"
)
_UNDONE = frozenset(map(fold, _UNDOING.split()))
"""Words that make of others no engagement with a product (`wishlist_removed`)."""
_WEAK = frozenset({"add", "added", "open", "show", "shown", "detail", "details", "save", "saved"})
"""Words that count where no other does (`add_review`)."""
_LOOKING = frozenset({"search", "impression", "view", "click"})
_LINES_OF_ORDERS = ("detail", "details")


def event_kind(word: str) -> str | None:
    """The kind of event that a shop's word means; `ignored` for words that are no engagement, None = unknown."""
    plain = plain_name(word)
    plain = plain if plain in _every_word() else spelled_out(plain)
    if plain in _IGNORED.split():
        return "ignored"
    parts = _parts(plain)
    if _ENDED & set(parts) and _ORDERED & set(parts):
        return "purchase"
    for known, words in _event_words().items():
        if plain in words or plain.removesuffix("s") in words:
            return known
    if any(map(_is_undone, parts)) or (_BEGUN & set(parts) and _ORDERED & set(parts)):
        return "ignored"
    strong = [kind for part in parts if part not in _WEAK and (kind := _kind_of_part(part))]
    if strong:
        return _composed_kind(strong, parts)
    return next((kind for part in parts if (kind := _kind_of_part(part))), None)


def _kind_of_part(part: str) -> str | None:
    for kind, words in _event_words().items():
        if part in words:
            return kind
    begun = (kind for kind, stems in _stems().items() if part.startswith(stems))
    ended = (kind for kind, words in _event_words().items() for word in words if len(word) > 5 and part.endswith(word))
    return next(begun, None) or next(ended, None)  # `comprou`, `produktvisning`


def _is_undone(part: str) -> bool:
    return part in _UNDONE or part.startswith(_UNDONE_STEMS)


def _parts(plain: str) -> Sequence[str]:
    """The words of a plain name; those that a script writes without blanks are looked for (`상품조회`)."""
    words: list[str] = []
    for part in plain.split("_"):
        inner = [word for word in _written_together() if word in part] if _UNSPACED.search(part) else []
        words += inner or [part]
    return words


_UNSPACED = re.compile(r"[\u3041-\u30ff\u4e00-\u9fff\uac00-\ud7a3]")


@cache
def _every_word() -> frozenset[str]:
    return frozenset(word for words in _event_words().values() for word in words)


@cache
def _written_together() -> Sequence[str]:
    """Words for events, done or undone, of scripts without blanks."""
    every = {*_UNDONE, *_every_word()}
    return sorted(word for word in every if _UNSPACED.search(word))


_STEMS = {
    "search": "wyszuk szukan vyhled hledan hledat buscar buscou busqued pesquis recherch zoek gesuch ricerc поиск искал"
    " пошук",
    "view": "visuali wyswietl zobraz obejrz prohl consult goruntul incele aufgeruf angeseh betrach bekek bekij просм"
    " перегл katso katsel megtek vizuali",
    "click": "klik klick cliqu clicou tikla клик",
    "cart": "koszyk kosik kosar warenkorb einkaufsw winkelw winkelm varukorg indkobsk handlek ostosk carrell carrinh"
    " carrit panier sepet корзин кошик",
    "purchase": "compra compro acquist achet achat zakup zamow kupil kupion kupuj nakup objedn bestell gekauf kauf"
    " gekoch satin siparis покуп купил купит заказ замов ostett vasarl rendel",
    "rate": "bewert ocenil ocenion valorac avaliou avaliac recens hodnoc beoorde degerlen отзыв оцени",
}
_UNDONE_STEMS = ("usun", "odstran", "elimin", "quitar", "supprim", "retir", "entfern", "verwijder", "rimoss",
                 "remov", "удал", "видал", "anulow", "storn")  # fmt: skip


@cache
def _stems() -> dict[str, tuple[str, ...]]:
    """Kind = beginnings of the forms of its words in languages that inflect them (`comprar`, `comprou`)."""
    return {kind: tuple(map(fold, text.split())) for kind, text in _STEMS.items()}


def _composed_kind(kinds: Sequence[str], parts: Sequence[str]) -> str | None:
    """The kind of several words: what is done comes first or last (`search_result_click`); None where they disagree."""
    kinds_told = set(kinds)
    if len(kinds_told) == 1:
        return kinds[0]
    if kinds_told <= _LOOKING:
        clicked = "click" in (_kind_of_part(parts[0]), _kind_of_part(parts[-1]))
        return "click" if clicked else _UNITED.get(frozenset(kinds_told))
    added = "cart" in kinds_told and "purchase" not in kinds_told and bool({"add", "added", "atc"} & set(parts))
    return "cart" if added else _UNITED.get(frozenset(kinds_told))


_UNITED = {
    frozenset({"search", "impression"}): "impression",
    frozenset({"impression", "view"}): "impression",
    frozenset({"cart", "purchase"}): "purchase",
    frozenset({"cart", "view"}): "ignored",
    frozenset({"purchase", "view"}): "ignored",
}
"""Kinds that two words of an event tell of = the event's kind (`cart_view` is a look at the cart)."""


def may_be_purchase(word: str) -> bool:
    """True for a word that is no engagement in most logs and the only sign of a purchase in some (`CHECKOUT`)."""
    return bool({"checkout", "payment"} & set(plain_name(word).split("_")))


@cache
def _event_words() -> dict[str, frozenset[str]]:
    return {kind: frozenset(map(fold, text.split())) for kind, text in _EVENTS.items()}


def kind_of_file(path: str) -> str | None:
    """The kind of events that a file's name tells of (`clicks.csv`, `yoochoose-buys.dat`)."""
    stem = plain_name(re.sub(r"(\.[a-z0-9]+)+$", "", path.rpartition("/")[2].rpartition("::")[2], flags=re.IGNORECASE))
    for part in reversed(stem.split("_")):
        if part in _LINES_OF_ORDERS:
            continue
        kind = event_kind(part) or event_kind(part.removesuffix("s"))
        if kind not in (None, "ignored"):
            return kind
    return None
