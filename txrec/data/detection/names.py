"""Column names and event words of shops with their usual meanings, in a few languages."""

import re
from functools import cache, lru_cache

from txrec.data.detection.composed_names import composed_fit
from txrec.text.folding import fold

_COLUMNS = {
    "user_id": "user_id userid user uid visitor_id visitorid visitor customer_id customerid customer"
    " customer_no customer_number customer_nr client_id clientid client member_id memberid account_id buyer_id"
    " shopper_id reviewer_id reviewerid person_id user_pseudo_id fullvisitorid full_visitor_id anonymous_id"
    " anonymousid device_id cookie_id cookie profile_id household_key msno username user_name customer_email"
    " email billing_email user_email kunde kundennr kunden_id kundennummer kunden_nr utilisateur id_client"
    " cliente id_cliente usuario id_usuario distinct_id userkey customer_key login reader_id listener_id"
    " player_id subject_id shopperid user_guid anonid anon_id user_token usertoken id_klienta klient klient_id"
    " nr_klienta zakaznik id_zakaznika cliente_id id_utente utente codice_cliente id_do_cliente klantnummer klant"
    " klant_id klantnr kundnummer kund_id kund kundnr kundenummer asiakasnumero asiakas asiakas_id ugyfel"
    " ugyfel_id vevo musteri musteri_no musteri_id kullanici kullanici_id клиент id_клиента пользователь"
    " id_пользователя покупатель клієнт користувач πελάτης 用户id 用户 会员id 買家id 顧客id 顧客 会員id"
    " ユーザーid ユーザー 고객id 고객 고객번호 회원id 사용자 معرف_العميل العميل معرف_المستخدم المستخدم לקוח"
    " מזהה_לקוח email_billing external_id member_number member_no member_nr cardholder card_number mcvisid visid_low"
    " kundenkarte kdnr kd_nr kunr knr kartennummer карта_лояльности дисконтная_карта"
    " learner_id student_id reader_id viewer_id traveler_id borrower_id rider_id"
    " loyalty_card loyalty_card_no loyalty_card_number loyalty_id loyalty_no loyalty_number clubcard"
    " club_card_no membership_no membership_id"
    " household_id hh_id contact_id contact_key subscriber_id subscriber_key amplitude_id post_visid_high visid_high"
    " kunnr kunag sold_to sold_to_party partner_id panelist_id consumer_id patron_id guest_id ga_client_id"
    " klantkaart klantenkaart kundkort bonuskarte karta_klienta carte_fidelite carta_fedelta tarjeta_cliente",
    "session_id": "session_id sessionid session visit_id visitid ga_session_id user_session sitzung"
    " session_key sid sess sessid phpsessid idvisit session_token"
    " visit_number sitzungs_id sesja sesja_id sessie sessie_id oturum oturum_id",
    "item_id": "item_id itemid item product_id productid product product_code productcode sku sku_id skuid"
    " asin parent_asin article_id articleid article article_no article_number stock_code stockcode movie_id"
    " movieid book_id bookid isbn isbn13 track_id trackid song_id songid artist_id artistid video_id game_id"
    " recipe_id anime_id business_id gmap_id listing_id offer_id variant_id variantid variant_sku lineitem_sku"
    " line_item_sku product_sku item_sku content_id contentid goods_id gtin ean upc handle artikel artikelnummer"
    " artikelnr artikel_nr artikel_id produkt_id produktnummer produkt produit id_produit producto id_producto"
    " news_id post_id itemnumber item_number item_code itemcode product_number material productno product_no"
    " prod_id pid iid product_uid item_uid aid object_id objectid reference ref id_produktu kod_produktu"
    " kod_towaru produkt_kod kod_zbozi zbozi id_zbozi codice_articolo codice_prodotto id_prodotto prodotto"
    " articolo id_produto produto codigo_produto cod_produto codigo_producto codigo_articulo referencia"
    " artikelcode productnummer tuotenumero tuote tuote_id tuotekoodi varenummer varenr termek termek_id cikkszam"
    " urun urun_kodu urun_id stok_kodu артикул товар id_товара код_товара код_продукта κωδικός κωδικός_προϊόντος"
    " προϊόν 商品id 商品 商品编号 产品id 商品番号 商品コード 品番 상품id 상품 상품번호 제품id معرف_المنتج المنتج"
    " מקט מזהה_מוצר clickurl click_url art_nr artnr matnr ean11 ean13 barcode plu"
    " product2_id stock_keeping_unit default_code internal_reference product_tmpl_id style_id target_entity_id"
    " target_item_id uniq_id mal_id doc_id stock_item_key menu_item_id wine_id beer_id dish_id episode_id clip_id"
    " lesson_id title_id show_id podcast_id hotel_id restaurant_id clicked_item clicked_product result_clicked"
    " clicked_result"
    " viewed_item viewed_product purchased_item purchased_product bought_item ordered_item ordered_product",
    "ts": "ts timestamp time datetime date event_time eventtime event_timestamp created_at createdat"
    " created date_time unix_review_time unixreviewtime review_time reviewtime invoice_date invoicedate"
    " order_date orderdate purchase_date purchased_at paid_at visit_time click_time server_time received_at"
    " occurred_at datum zeit zeitpunkt zeitstempel bestelldatum fecha rated_at played_at t_dat at event_date"
    " eventdate order_created_at date_created order_time transaction_date transaction_time utc_time local_time"
    " unix_time unixtime epoch heure rating_timestamp review_date sale_date fecha_compra date_commande horodatage"
    " timestamp_ms time_ms data data_zamowienia data_zakupu czas cas datum_objednavky data_ordine data_acquisto"
    " data_compra data_pedido data_hora besteldatum tijd tijdstip tidpunkt tid pvm paivamaara aika idopont tarih"
    " дата время дата_заказа дата_покупки час ημερομηνία ώρα 日時 日付 时间 日期 下单时间 購入日 일시 날짜 시간"
    " 주문일시 التاريخ تاريخ الوقت תאריך t started_at started tstamp collector_tstamp derived_tstamp client_tstamp"
    " transaction_dt hit_time_gmt erdat audat fkdat order_placed date_add sipariş_tarihi"
    " olay_zamani dvce_created_tstamp last_interaction zaman",
    "event": "event event_type eventtype event_name eventname action action_type actiontype behavior"
    " behaviour behavior_type behaviortype kind interaction interaction_type activity verb ereignis aktion evento"
    " type event_kind event_category activity_type evt ereignistyp aktionstyp akcja zdarzenie akce udalost azione"
    " event_list acao accion actie gebeurtenis handelse atgard tapahtuma toiminto esemeny islem olay действие событие"
    " тип_события дія подія ενέργεια hit_type metric se_action what_happened olay_tipi"
    " 行为 行動 アクション イベント 행동"
    " 이벤트 الحدث حدث פעולה אירוע",
    "query": "query q search_query searchquery search_term searchterm search_phrase searchphrase phrase"
    " keyword keywords search term search_text query_text site_search_term suchbegriff suche suchanfrage requete"
    " raw_query terms search_string user_query internal_search_term busqueda recherche suchwort"
    " site_search_keyword sitesearchkeyword fraza hledany_vyraz zoekterm sokord hakusana arama запрос"
    " srch_term searched_term suchanfrage zoekopdracht szukane"
    " поисковый_запрос запит αναζήτηση 搜索词 検索語 検索キーワード 검색어 بحث חיפוש",
    "request_id": "order_id orderid invoice invoice_no invoiceno invoice_number transaction_id transactionid"
    " order_number ordernumber order basket_id receipt_id request_id order_no bestellnummer bestellung_id"
    " rechnung commande pedido order_key checkout_id cart_id slate_id bestellnr order_name purchase_id"
    " transaction receipt ticket ticket_id basket bon vbeln"
    " sales_document billing_document document_no tran_seq_no inv_no inv_id order_reference txn trx",
    "value": "rating overall stars score value amount revenue unit_price price total lineitem_price"
    " item_price sales rating_value star_rating grade preis betrag prix precio unitprice play_count playcount"
    " plays weight quantity_price item_total line_total book_rating netwr purchaseamount"
    " total_price total_sales net_amount gross_amount total_amount bedrag kwota importe montant importo tutar belopp",
    "title": "title name product_name productname item_name itemname product_title producttitle"
    " item_title label designation track_name song_name movie_title artist_name book_title bezeichnung"
    " artikelbezeichnung"
    " titel nom libelle nombre titulo product_description lineitem_name prod_name produktname display_name"
    " original_title nazwa nazwa_produktu nazev nome nome_prodotto nome_produto naam productnaam benamning"
    " megnevezes naziv denumire pavadinimas nama headline heading bez artbez artikelbez omschrijving"
    " produktnamn namn navn nimi tuotenimi nev urun_adi название наименование назва τίτλος όνομα 商品名 商品名称"
    " 名称 标题 상품명 제품명 이름 الاسم اسم_المنتج שם שם_מוצר denominazione denominacion caption номенклатура"
    " maktx name_alias"
    " stock_item",
    "description": "description body body_html long_description short_description desc summary details"
    " beschreibung features about text descripcion overview plot synopsis detail_desc long_desc product_details"
    " langtext kurztext descricao descripcion descrizione omschrijving opis popis beskrivning beskrivelse kuvaus"
    " описание опис"
    " 描述 説明 상품설명 설명",
    "brand": "brand vendor manufacturer make marke hersteller marque marca brand_name brands store"
    " label_name publisher mfg manufacturer_name vendor_name supplier supplier_name lieferant leverancier"
    " fabricant fabricante marka merk varumarke merkki znacka producent бренд марка μάρκα"
    " 品牌 ブランド メーカー 브랜드 العلامة_التجارية מותג",
    "category": "category categories cat category_path category_code category_name product_type producttype"
    " genres genre department product_category google_product_category main_category kategorie kategorien"
    " categorie categoria breadcrumb breadcrumbs category_id categoryid taxonomy product_group_name section"
    " dept department_name subcategory sub_category product_line item_class product_class collection collections"
    " matkl prdha"
    " subject topic theme wgr warengrp artgrp wg groep productgroep artikelgroep category_tree"
    " product_category_tree cuisine cuisines"
    " listed_in categ_id"
    " category1 category_1 category_l1 cat_l1 level1 level_1 hierarchy_1 item_category tags warengruppe rubrique"
    " type product_type_name categorie_produit kategoria kategori osasto"
    " категория категорія κατηγορία 类别 分类 カテゴリ カテゴリー 카테고리 الفئة קטגוריה",
    "price": "price unit_price unitprice variant_price current_price preis prix precio selling_price"
    " regular_price list_price item_price sale_price verkaufspreis price_eur price_usd actual_price retail_price"
    " lineitem_price cena prezzo preco prijs pris hinta fiyat цена ціна τιμή 价格 単価 価格 値段 가격 السعر מחיר"
    " price_tax_incl price_tax_excl price_incl_tax price_excl_tax price_with_tax bruttopreis nettopreis"
    " netpr kbetr unit_retail unit_amount list_amount retail_amount selling_amount price_amount mrp list_value"
    " vkpreis vk_preis valor_unitario valor_venda importe_unitario montant_unitaire cena_jedn"
    " price_gross price_net msrp rrp uvp pvp sale regular",
    "available": "available availability in_stock verfugbarkeit availability_status stock_state"
    " lieferstatus instock stock_status is_in_stock stock inventory"
    " inventory_qty stock_quantity variant_inventory_qty lagernd verfuegbar verfugbar disponible is_available"
    " stock_level on_stock lagerbestand qty_in_stock disponibilite disponibilidad bestand dostepnosc dostupnost"
    " disponibilita disponibilidade voorraad lagersaldo saatavuus varastosaldo stok наличие остаток наявність"
    " διαθεσιμότητα 库存 在庫 재고 المخزون מלאי labst qoh soh avail available_quantity"
    " available_flag active_flag avail_phys avail_physical active is_active",
    "grade": "grade relevance relevance_score judgment judgement label rating esci_label score relevancy",
    "quantity": "quantity qty menge anzahl quantite cantidad units num_items lineitem_quantity"
    " kwmeng fkimg units_sold sales_qty item_count amount_of_items qty_ordered quantity_ordered order_qty"
    " ordered_qty ilosc mnozstvi quantita quantidade"
    " aantal antal maara adet количество кількість ποσότητα"
    " 数量 수량 الكمية כמות",
    "clock": "time time_of_day clock hour uhrzeit heure hora event_hour order_time timeframe time_ms ms erzet"
    " uzeit transaction_time event_clock tijd godzina cas ora saat klockslag",
}  # fmt: skip
_OF_PRODUCTS = ("product_", "item_", "article_", "sku_", "artikel_", "produit_", "producto_")
_SHORT = (
    "prod=product prd=product itm=item art=article cust=customer cst=customer usr=user mbr=member acct=account"
    " cd=code nbr=number num=number nm=name dsc=desc descr=desc desc=description typ=type flg=flag ind=flag"
    " dt=date dtm=datetime dttm=datetime dtime=datetime tm=time txn=transaction trx=transaction trn=transaction"
    " tran=transaction trans=transaction ord=order purch=purchase evt=event evnt=event actn=action act=action"
    " srch=search qry=query txt=text crt=created create=created amt=amount prc=price rtl=retail cnt=count"
    " grp=group cat=category catg=category ctgry=category ctg=category dept=department brnd=brand actv=active"
    " mfr=manufacturer stk=stock avail=available lvl=level sess=session sls=sales loy=loyalty lylty=loyalty"
    " ltem=item qnty=quantity qty=quantity oh=on_hand lst=list"
)
_ABBREVIATIONS = dict(pair.split("=") for pair in _SHORT.split())
"""Abbreviation = its word."""
_USER_FILES = frozenset({
    "user", "users", "customer", "customers", "member", "members", "profile", "profiles", "client", "clients",
    "visitor", "visitors", "shopper", "shoppers", "account", "accounts", "kunde", "kunden", "cliente", "clientes",
    "utilisateurs", "usuarios", "demographic", "demographics", "userinfo", "people", "reviewers", "subscribers",
    "households", "klienci", "zakaznici", "klanten", "kunder", "asiakkaat", "musteriler", "клиенты", "клієнти",
})  # fmt: skip
"""Words in the names of files that list users."""
_PERSONAL = frozenset({
    "email", "mail", "phone", "tel", "telephone", "mobile", "firstname", "lastname", "first_name", "last_name",
    "full_name", "name", "surname", "username", "user_name", "nickname", "address", "street", "house", "password",
    "ip", "birthday", "birthdate", "birth_date", "date_of_birth", "dob", "iban", "location", "vorname", "nachname",
    "telefon", "strasse", "adresse", "geburtsdatum", "friends", "url", "link", "image", "avatar",
})  # fmt: skip
"""Words in the names of columns that tell who a user is."""


def plain_name(name: str) -> str:
    """A column name in one form: `Customer ID`, `customerId` and `customer.id` are `customer_id`."""
    name = re.sub(r"(?<=\w) ?#$", " no", name.strip())  # `Invoice #`
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name.strip())
    return re.sub(r"[^a-z0-9\u0370-\uffff]+", "_", fold(parted.lower())).strip("_")


def spelled_out(plain: str) -> str:
    """A plain name with the usual abbreviations of warehouses spelled out: `cust_nm` is `customer_name`."""
    return "_".join(_ABBREVIATIONS.get(part, part) for part in plain.split("_"))


@cache
def _ranks() -> dict[str, dict[str, float]]:
    """Canonical column = plain name = how well it fits, at most 1: earlier names of the list fit better."""
    return {
        role: {fold(name): 1.0 - 0.4 * place / len(names) for place, name in enumerate(names)}
        for role, text in _COLUMNS.items()
        if (names := text.split())
    }


@lru_cache(maxsize=1 << 16)
def fit(role: str, name: str) -> float:
    """Fit of a column name to a canonical column: 1 = its usual name, 0 = nothing in common."""
    ranks = _ranks()[role]
    name = name.removesuffix(":joined")
    full = plain_name(name)
    if role in ("user_id", "session_id") and full.startswith(_OF_PRODUCTS):
        return 0.0
    if role in ("title", "item_id") and "_" in full and composed_fit("category", full):  # `category_name`
        return 0.0
    last = plain_name(name.rpartition(".")[2])
    squeezed = full.replace("_", "")
    best = max(ranks.get(full, 0.0), 0.97 * ranks.get(last, 0.0) if last != "id" else 0.0, ranks.get(squeezed, 0.0))
    if last == "id":  # `orders.customer.id`
        best = max(best, 0.98 * ranks.get(plain_name(".".join(name.split(".")[-2:])), 0.0))
    if (spelled := spelled_out(full)) != full:
        best = max(best, 0.95 * fit(role, spelled))
    bare = re.sub(r"_(hash|hashed|uuid|guid|raw|enc|en|de|fr|es|it|nl|pt|pl|sv|us|uk)$", "", last)
    best = max(best, 0.95 * ranks.get(bare, 0.0) if bare != last else 0.0)
    if role == "item_id" and last.endswith("s"):  # a list of products
        best = max(best, 0.9 * ranks.get(last.removesuffix("s"), 0.0), 0.9 * ranks.get(squeezed.removesuffix("s"), 0.0))
    best = max(best, composed_fit(role, full), 0.97 * composed_fit(role, last))
    if best:
        return best
    if role == "item_id" and full == "id":
        return 0.4
    parts = full.split("_")
    ends = ["_".join(parts[first:]) for first in range(1, len(parts))]
    starts = ["_".join(parts[:last]) for last in range(1, len(parts))]
    inner = max((ranks.get(end, 0.0) for end in ends), default=0.0)
    outer = max((ranks.get(start, 0.0) for start in starts), default=0.0)
    return max(0.55 * inner, 0.35 * outer)


def is_known_name(name: str) -> bool:
    """True where a word is the usual name of some column."""
    return any(fit(role, name) >= 0.55 for role in _COLUMNS) or plain_name(name) == "id"


def is_users_file(path: str) -> bool:
    """True where a file's name says that it lists users (`customers.csv`, `u.user`)."""
    words = set(re.split(r"[^\w]+|_", plain_name(path.rpartition("/")[2].rpartition("::")[2])))
    return bool(words & _USER_FILES)


def is_personal(name: str) -> bool:
    """True where a column holds names, addresses and the like, which are no properties for recommendations."""
    plain = plain_name(name)
    return plain in _PERSONAL or any(part in _PERSONAL for part in (plain.rpartition("_")[2], plain.partition("_")[0]))


def names_a_person(name: str) -> bool:
    """True where a name holds a word for users (`Customer Name`)."""
    return any(composed_fit("user_id", word) for word in plain_name(name).split("_"))


def is_count_of_products(name: str) -> bool:
    """True for the plural of products, which counts them where its values are numbers."""
    return plain_name(name.rpartition(".")[2]) in ("items", "products", "articles")
