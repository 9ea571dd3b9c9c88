"""The analyser through BM25: which products are found first, language by language."""

import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from txrec.config import TextConfig
from txrec.errors import BundleError, DataError
from txrec.index.sources.lexical import Lexical
from txrec.text import Analyser, Synonyms, normalise
from txrec.text.segmentation import WORD

FILLERS = [f"{colour} {thing}" for colour in ("blue", "large") for thing in ("chair", "rope", "mug", "lamp", "table")]


def index(titles: Sequence[str], *languages: str, synonyms: Synonyms | None = None) -> Lexical:
    """BM25 over titles; the language is told from them where none is declared."""
    texts = [normalise(title) for title in titles]
    items = pa.table({"item_id": [f"id-{title}" for title in titles], "title": list(titles), "text": texts})
    analyser = Analyser.of_catalogue(TextConfig(languages=languages), items)
    return Lexical.fit(items, analyser if synonyms is None else analyser.with_synonyms(synonyms))


def first(source: Lexical, titles: Sequence[str], query: str, count: int = 1) -> list[str]:
    """Titles of the first products for a query."""
    return [titles[idx - 1] for idx in source.first([normalise(query)], count)[0] if idx]


@pytest.mark.parametrize(
    ("language", "query", "product", "decoy"),
    [
        ("vi", "xit chong nang", "Xịt chống nắng SPF50", "Xe đạp trẻ em"),
        ("fr", "the vert", "Thé vert à la menthe", "The green mug"),
        ("fr", "oeufs", "Œufs de Pâques", "Menthol drops"),
        ("fr", "loreal shampooing", "Shampoing L'Oréal, shampooing doux", "Loge de théâtre"),
        ("es", "camiones", "Camión de juguete", "Camisa de niño"),
        ("pt", "botao", "Botão de madeira", "Bota de couro"),
        ("es", "luces", "Luz led", "Lucha libre"),
        ("pt", "aneis", "Anel dourado", "Anis estrelado"),
        ("pt", "caes", "Cão de peluche", "Café"),
        ("uk", "лампи", "Лампа червона", "Лампадка"),
        ("uk", "червоний стілець", "Червона лампа, стілець", "Чорний стілець"),
        ("ja", "いす", "イス 赤", "いか"),
        ("it", "caffettiere", "Caffettiera in alluminio", "Caffè in grani"),
        ("pl", "lyzka", "Łyżka żeliwna", "Lyra harp"),
        ("cs", "zlute tricko", "Žluté tričko dětské", "Zlato ring"),
        ("tr", "ışık", "IŞIK LAMBASI", "Isot biber"),
        ("tr", "isik", "Işık lambası", "Isot biber"),
        ("da", "roedbeder", "Rødbeder på glas", "Rod holder"),
        ("de", "strasse", "Straße aus Holz", "Strass Kette"),
        ("de", "mueller milch", "Müller Milch", "Muelle Feder"),
        ("de", "muller milch", "Müller Milch", "Mull Milch"),
        ("de", "bücher", "Buch mit Bildern", "Becher aus Ton"),
        ("ru", "елка", "Ёлка искусственная", "Ель лапа"),
        ("ru", "чайники", "Чайник стальной", "Чай зелёный"),
        ("el", "καρεκλα", "Καρέκλα κήπου", "Καρφί"),
        ("ar", "كتاب", "كِتَابٌ قديم", "كتف خروف"),
        ("ar", "احمر", "قميص أحمر", "قميص أخضر"),
        ("he", "שלום", "שָׁלוֹם ספר", "שולחן עץ"),
        ("hi", "साडी", "लाल साड़ी", "साँड़ खिलौना"),
        ("hi", "घड़ी", "नया घड़ी", "नया घोड़ा"),
        ("th", "ร่ม", "ร่มสีแดง", "รีม กระดาษ"),
        ("lo", "ເສື້ອ", "ເສື້ອສີແດງ", "ເສືອ ຂອງຫຼິ້ນ"),
        ("km", "អាវ", "អាវពណ៌ក្រហម", "អង្ករ ស"),
        ("zh", "手机壳", "透明手机壳", "手套 机械"),
        ("ja", "イヤホン", "ワイヤレスイヤホン", "イヤリング"),
        ("ja", "ｲﾔﾎﾝ", "ワイヤレスイヤホン", "イヤリング"),
        ("ko", "이어폰", "무선이어폰", "이어링"),
    ],
)
def test_the_right_product_is_first_in_every_language(language: str, query: str, product: str, decoy: str) -> None:
    titles = [decoy, *FILLERS, product]
    assert first(index(titles, language), titles, query) == [product]


@pytest.mark.parametrize(
    ("one", "many", "decoy"),
    [
        ("battery", "batteries", "Batter bowl"),
        ("box", "boxes", "Boxer shorts"),
        ("knife", "knives", "Knitting wool"),
        ("lens", "lenses", "Lensatic compass"),
        ("bus", "buses", "Bust form"),
        ("mouse", "mice", "Mouth guard"),
        ("movie", "movies", "Moving kit"),
        ("brush", "brushes", "Brushed tap"),
        ("scissors", "scissor", "Scissor lift"),
        ("headache", "headaches", "Head band"),
        ("woman", "women", "Wombat toy"),
        ("potato", "potatoes", "Pot holder"),
    ],
)
def test_either_number_of_an_english_word_finds_both(one: str, many: str, decoy: str) -> None:
    titles = [decoy, *FILLERS, f"red {one}", f"Set of {many}, small"]
    source = index(titles, "en")
    for query in (one, many):
        assert set(first(source, titles, query, 2)) == set(titles[-2:])


@pytest.mark.parametrize("query", ["tshirt", "t-shirt", "t shirt"])
def test_joined_and_split_words_find_each_other(query: str) -> None:
    titles = ["Shirt rack", *FILLERS, "Red T-Shirt", "Blue tshirt", "Green t shirt"]
    assert set(first(index(titles, "en"), titles, query, 3)) == set(titles[-3:])


def test_a_word_that_titles_write_apart_is_found_joined_and_the_other_way_round() -> None:
    titles = ["Ear warmer", *FILLERS, "Wireless ear buds", "Hairdryer, 2000 W", "Hair clip"]
    source = index(titles, "en")
    assert first(source, titles, "earbuds") == ["Wireless ear buds"]
    assert first(source, titles, "hair dryer") == ["Hairdryer, 2000 W"]


def test_german_compounds_are_found_by_their_parts_and_parts_by_the_compound() -> None:
    titles = [
        *(
            "Jacke rot",
            "Jacke für Damen",
            "Winter Mütze",
            "Winter Decke",
            "Damen Schuhe",
            "Küchen Regal",
            "Messer scharf",
        ),
        *("Messer lang", "Küchen Uhr", "Damenwinterjacke", "Küchenmesser aus Stahl", "Kinderwagen", "Stuhl", "Tisch"),
    ]
    source = index(titles, "de")
    assert "Damenwinterjacke" in first(source, titles, "winterjacke", 1)
    assert "Damenwinterjacke" in first(source, titles, "damen winter jacke", 1)
    assert first(source, titles, "Messer Küche") == ["Küchenmesser aus Stahl"]
    assert set(first(source, titles, "jackendamen", 2)) & {"Jacke für Damen", "Damenwinterjacke"}
    assert first(source, titles, "wagen") == ["Kinderwagen"]  # a part that no title has alone


def test_english_words_are_not_cut_like_compounds() -> None:
    titles = ["Head band", "Head torch", "Phone case", "Phone stand", "Headphones black"]
    assert "phone" not in index(titles, "en").analyser.tokens("headphones")


@pytest.mark.parametrize(
    "query", ['13.3" laptop', "13,3 zoll laptop", "laptop 13.3 inch", "13.3-inch laptop", "laptop 13.3in"]
)
def test_a_quantity_is_found_however_it_is_written(query: str) -> None:
    sizes = ['Laptop 15.6", grey', "Laptop 13 zoll 3 ports", 'Laptop 13.3" silver', "Laptop 17 inch"]
    titles = [*FILLERS, *sizes]
    assert first(index(titles, "en"), titles, query) == ['Laptop 13.3" silver']


def test_a_quantity_is_found_in_another_unit_of_the_same_measure() -> None:
    titles = ["Bottle 500 ml", "Bottle 1.5 liter", "Bottle 15 l", "SSD 1 TB", "SSD 250 GB"]
    source = index(titles, "en")
    assert first(source, titles, "bottle 1500ml") == ["Bottle 1.5 liter"]
    assert first(source, titles, "1000gb ssd") == ["SSD 1 TB"]


@pytest.mark.parametrize(("query", "spelled_so"), [("crème", "Crème dessert"), ("creme", "Creme dessert")])
def test_both_spellings_are_found_and_the_exact_one_is_first(query: str, spelled_so: str) -> None:
    titles = [*FILLERS, "Creme dessert", "Crème dessert"]
    found = first(index(titles, "fr"), titles, query, 2)
    assert (found[0], set(found)) == (spelled_so, {"Creme dessert", "Crème dessert"})


def test_thousands_in_a_quantity_are_found_by_their_larger_unit() -> None:
    titles = [*FILLERS, "Mehl 500 g", "Mehl 1 kg", "Mehl 2 kg"]
    assert first(index(titles, "de"), titles, "1.000 g mehl") == ["Mehl 1 kg"]


def test_katakana_and_hiragana_are_both_found_and_the_typed_one_is_first() -> None:
    titles = [*FILLERS, "りんご 赤", "リンゴ 赤"]
    for query in ("りんご", "リンゴ"):
        found = first(index(titles, "ja"), titles, query, 2)
        assert (found[0], set(found)) == (f"{query} 赤", set(titles[-2:]))


def test_a_word_of_a_hundred_thousand_letters_is_no_compound_to_take_apart() -> None:
    analyser = index(["Winter Jacke", "Winter Decke", "Damen Jacke"], "de").analyser
    assert analyser.vocabulary.compound_parts("winterjacke" * 10_000) == ()
    assert analyser.vocabulary.compound_parts("winterjacke") == ("winter", "jacke")


def test_synonyms_find_each_other_and_an_arrow_goes_one_way() -> None:
    titles = [*FILLERS, "Leather sofa", "Television stand", "Washer, white", "TV antenna"]
    synonyms = Synonyms.of([["sofa", "couch"], ["washing machine", "washer"]], [("telly", ["television"])])
    source = index(titles, "en", synonyms=synonyms)
    assert first(source, titles, "couches") == ["Leather sofa"] or first(source, titles, "couch") == ["Leather sofa"]
    assert first(source, titles, "washing machine") == ["Washer, white"]
    assert first(source, titles, "telly") == ["Television stand"]
    before = index(titles, "en")
    assert first(before, titles, "couch") != ["Leather sofa"]
    assert first(before.with_synonyms(synonyms), titles, "couch") == ["Leather sofa"]


def test_a_file_of_synonyms_is_read_with_its_comments_and_arrows(tmp_path: Path) -> None:
    file = tmp_path / "synonyms.csv"
    file.write_text("# ours\nsofa, Couch ,settee\n\nTV => television\n", encoding="utf-8")
    found = Synonyms.read(file).phrases
    assert found["sofa"] == ("couch", "settee")
    assert found["tv"] == ("television",)
    assert "television" not in found


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"sofa, couch\nalone\n", "line 2"), (b"tv =>\n", "line 1"), (b"caf\xe9, bar\n", "UTF-8")],
)
def test_a_file_of_synonyms_that_cannot_be_read_says_where(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "synonyms.csv"
    file.write_bytes(content)
    with pytest.raises(DataError, match=said):
        Synonyms.read(file)
    with pytest.raises(DataError, match="nowhere"):
        Synonyms.read(tmp_path / "nowhere.csv")


def test_an_analyser_answers_alike_after_saving_and_opening(tmp_path: Path) -> None:
    titles = ["Damenwinterjacke", "Winter Jacke", "Winter Jacke Damen", "Crème", "Creme", "ear buds", "T-Shirt"]
    analyser = index(titles, "de", synonyms=Synonyms.of([["jacke", "mantel"]])).analyser
    analyser.save(tmp_path / "analyser.json")
    opened = Analyser.open(tmp_path / "analyser.json")
    for text in ("damenwinterjacke", "crème", "earbuds", "mantel 13,3 zoll", "t shirt"):
        assert opened.query_terms(text) == analyser.query_terms(text)
        assert opened.document_tokens(text, text) == analyser.document_tokens(text, text)


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "analyser.json").write_text('{"format": 99}')
    with pytest.raises(BundleError, match="format 99"):
        Analyser.open(tmp_path / "analyser.json")
    with pytest.raises(BundleError, match="txrec prepare"):
        Analyser.open(tmp_path / "missing.json")


@pytest.mark.parametrize(
    ("titles", "language"),
    [
        (["Red lamp for the garden", "Wooden chair with arms", "Kitchen knife and board", "Steel bottle, small"], "en"),
        (["Rote Lampe für den Garten", "Stuhl aus Holz mit Lehne", "Messer und Brett für die Küche"], "de"),
        (["Lampe rouge pour le jardin", "Chaise en bois avec accoudoirs", "Couteau de cuisine et planche"], "fr"),
        (["Красная лампа для сада", "Деревянный стул с подлокотниками", "Кухонный нож и доска"], "ru"),
        (["เสื้อยืดผู้ชายสีแดง", "กระเป๋าผู้หญิงสีดำ", "รองเท้าเด็กสีขาว", "โคมไฟตั้งโต๊ะ"], "th"),
    ],
)
def test_the_language_is_told_from_the_titles(titles: list[str], language: str) -> None:
    assert index(titles).analyser.languages[0] == language


def test_declared_languages_are_taken_as_they_are() -> None:
    assert index(["Red lamp for the garden"], "de", "fr").analyser.languages == ("de", "fr")


def test_every_combining_mark_of_unicode_belongs_to_the_word_before_it() -> None:
    marks = [chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code))[0] == "M"]
    assert len(marks) > 2_000
    assert [mark for mark in marks if WORD.fullmatch(f"a{mark}") is None] == []
