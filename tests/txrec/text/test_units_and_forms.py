"""Units, digits and inflected words by language: which of a shop's products is first."""

import pytest

from tests.txrec.text.test_analyser import first, index

UNITS = {
    "pl": (["Woda 500 ml", "Woda 1,5 litra", "Garnek 5 litrów"], {"woda 0,5 litra": 0, "woda 1500ml": 1}),
    "cs": (["Voda 500 ml", "Voda 1,5 litru", "Hrnec 5 litrů"], {"voda 1500ml": 1, "hrnec 5l": 2}),
    "fi": (["Vesi 500 ml", "Vesi 1,5 litraa", "Kattila 5 litraa"], {"vesi 1500ml": 1, "kattila 5 l": 2}),
    "hu": (["Víz 500 ml", "Víz 1,5 liter", "Fazék 5 literes"], {"viz 1500ml": 1, "fazek 5l": 2}),
    "tr": (["Su 500 ml", "Su 1,5 litre", "Tencere 5 litrelik"], {"su 0,5 lt": 0, "tencere 5l": 2}),
    "el": (["Νερό 500 ml", "Νερό 1,5 λίτρα", "Αλεύρι 1 κιλό"], {"νερο 0,5 λ": 0, "αλευρι 1000 γρ": 2}),
    "uk": (["Вода 500 мл", "Вода 1,5 літра", "Борошно 1 кілограм"], {"вода 1500мл": 1, "борошно 1кг": 2}),
    "hi": (
        ["पानी 500 मिली", "पानी 1.5 लीटर", "आटा 1 किलो"],
        {"पानी ०.५ लीटर": 0, "पानी 1500ml": 1, "आटा १ किलोग्राम": 2},
    ),
    "bn": (["পানি 500 মিলি", "পানি ১.৫ লিটার", "আটা ১ কেজি"], {"পানি ৫০০ মিলি": 0, "পানি 1500ml": 1, "আটা 1kg": 2}),
    "ta": (["தண்ணீர் 500 மிலி", "தண்ணீர் 1.5 லிட்டர்"], {"தண்ணீர் ௫௦௦ மிலி": 0, "தண்ணீர் 1500ml": 1}),
    "vi": (["Nước 500 ml", "Nước 1,5 lít"], {"nuoc 0,5 lít": 0, "nước 1500ml": 1}),
    "ko": (["생수 500ml", "생수 1.5리터", "밀가루 1킬로"], {"생수 1500ml": 1, "밀가루 1kg": 2}),
    "th": (["น้ำ 500 มล.", "น้ำ 1.5 ลิตร", "แป้ง 1 กิโลกรัม"], {"น้ำ ๕๐๐ มล": 0, "น้ำ1500ml": 1, "แป้ง 1 กก.": 2}),
    "fa": (["آب ۵۰۰ میلی‌لیتر", "آب ۱٫۵ لیتر", "آرد ۱ کیلو"], {"آب 500ml": 0, "آب 1500ml": 1, "آرد 1kg": 2}),
    "he": (['מים 500 מ"ל', "מים 1.5 ליטר", 'קמח 1 ק"ג'], {"מים 1500 מ״ל": 1, "קמח 1 קילו": 2, "מים 0.5 ליטר": 0}),
    "ar": (["ماء ٥٠٠ مل", "ماء ١٫٥ لتر", "دقيق ١ كجم"], {"ماء ٠٫٥ لتر": 0, "ماء 1500 مل": 1, "دقيق 1 كيلو": 2}),
    "ja": (["水 500ml", "水 1.5リットル", "小麦粉 1キロ"], {"水 1500ml": 1, "小麦粉1kg": 2}),
    "zh": (["矿泉水500毫升", "矿泉水1.5升", "面粉1公斤"], {"矿泉水1500ml": 1, "面粉 1千克": 2}),
}
FORMS = {
    "cs": (["Stůl dubový", "Nůž na chléb", "Lampička stolní"], {"stoly": 0, "nože": 1, "noze": 1, "lampicky": 2}),
    "uk": (
        ["Стілець кухонний", "Ніж кухонний", "Стіл дубовий", "Полиця дерев'яна"],
        {"стільці": 0, "стільця": 0, "ножі": 1, "ножа": 1, "столи": 2, "дерев’яна полиця": 3},
    ),
    "fi": (["Veitsi keittiöön", "Pöytä tammea", "Lasten kirja"], {"veitset": 0, "poydat": 1, "kirjoja": 2}),
    "hu": (["Gyerek könyv", "Tölgy asztal", "Kávés csésze"], {"konyvek": 0, "asztalok": 1, "csészék": 2}),
    "tr": (["Çocuk kitabı", "Bıçak seti", "Kahve fincanı"], {"kitaplar": 0, "bicak": 1, "FİNCAN": 2}),
    "hi": (["रसोई कुर्सी", "बच्चों की किताब", "कॉफ़ी कप"], {"कुर्सियाँ": 0, "किताबें": 1, "कॉफी कप": 2}),
    "ta": (["சமையலறை நாற்காலி", "குழந்தைகள் புத்தகம்"], {"நாற்காலிகள்": 0, "புத்தகங்கள்": 1}),
    "id": (["Kursi dapur", "Buku anak"], {"kursinya": 0, "buku-buku": 1}),
    "fa": (["چراغ قرمز", "صندلی آشپزخانه"], {"چراغ‌ها": 0, "چراغها": 0, "صندلي": 1}),
}
CASES = [
    (language, query, titles, place)
    for cases in (UNITS, FORMS)
    for language, (titles, queries) in cases.items()
    for query, place in queries.items()
]


@pytest.mark.parametrize(("language", "query", "titles", "place"), CASES)
def test_a_unit_or_an_inflected_word_finds_its_product_first(
    language: str, query: str, titles: list[str], place: int
) -> None:
    others = [title for title in reversed(titles) if title != titles[place]]
    shop = [*others, titles[place]]  # equal scores would not put it first
    assert first(index(shop, language), shop, query) == [titles[place]]
