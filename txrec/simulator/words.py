# ruff: noqa: E501 - one type a line reads better than any wrapping
"""Words of the generated shop: product types, brands, colours and their synonyms."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ProductType:
    """A kind of product.

    Attributes:
        name: the noun that titles use, singular; `plural` and `chinese` are its other forms.
        synonyms: other words that users search by; titles never use these, only clicks connect them.
        department: first level of the category path; `aisle` is the second, the type itself the third.
        price: median price.
        qualities: adjectives, one of which each product carries.
        sizes: sizes, empty where the type has none.
        accessories: names of the types that are bought after this one.
        series: products are numbered volumes that follow each other.
    """

    name: str
    plural: str
    chinese: str
    synonyms: tuple[str, ...]
    department: str
    aisle: str
    price: float
    qualities: tuple[str, ...]
    sizes: tuple[str, ...] = ()
    accessories: tuple[str, ...] = ()
    series: bool = False


# singular / plural / Chinese | synonyms | department / aisle | median price | qualities | sizes | accessories or "series"
_TABLE = """
headphone / headphones / 耳机 | earphones, headset, cans | Electronics / Audio | 120 | wireless, noise cancelling, over-ear, studio |  | charging cable
speaker / speakers / 音箱 | boombox, sound box | Electronics / Audio | 90 | bluetooth, portable, waterproof, bookshelf |  | charging cable
smartphone / smartphones / 手机 | mobile phone, cell phone, cellphone | Electronics / Phones | 480 | 5g, dual sim, rugged, compact | 64GB, 128GB, 256GB | phone case, charging cable
phone case / phone cases / 手机壳 | phone cover, bumper | Electronics / Phones | 19 | leather, clear, shockproof, slim
charging cable / charging cables / 充电线 | usb cord, charger lead | Electronics / Phones | 12 | braided, fast, magnetic, reinforced | 1m, 2m, 3m
laptop / laptops / 笔记本电脑 | notebook computer, ultrabook | Electronics / Computers | 850 | thin, gaming, business, convertible | 13in, 15in, 17in | laptop sleeve, computer mouse
laptop sleeve / laptop sleeves / 电脑包 | notebook bag, computer pouch | Electronics / Computers | 28 | felt, padded, waterproof, slim | 13in, 15in, 17in
computer mouse / computer mice / 鼠标 | pointing device, wireless mouse | Electronics / Computers | 32 | ergonomic, silent, gaming, vertical
camera / cameras / 相机 | dslr, mirrorless | Electronics / Photo | 620 | compact, full-frame, action, instant |  | memory card, tripod
memory card / memory cards / 存储卡 | sd card, flash storage | Electronics / Photo | 24 | fast, endurance, professional, everyday | 64GB, 128GB, 256GB
tripod / tripods / 三脚架 | camera stand, photo mount | Electronics / Photo | 65 | travel, carbon, flexible, sturdy
game controller / game controllers / 游戏手柄 | gamepad, joypad | Electronics / Games | 55 | wireless, pro, retro, programmable
video game / video games / 电子游戏 | console title, pc title | Electronics / Games | 45 | adventure, racing, puzzle, strategy |  | series
kettle / kettles / 水壶 | water boiler, tea boiler | Kitchen / Appliances | 45 | electric, gooseneck, glass, cordless | 1l, 1.7l
coffee machine / coffee machines / 咖啡机 | espresso maker, coffeemaker | Kitchen / Appliances | 260 | automatic, capsule, filter, italian |  | coffee beans, descaler
coffee beans / coffee beans / 咖啡豆 | espresso roast, whole bean | Kitchen / Pantry | 15 | dark, mild, organic, decaf | 250g, 500g, 1kg
descaler / descalers / 除垢剂 | limescale remover, machine cleaner | Kitchen / Pantry | 9 | liquid, tablet, natural, strong
blender / blenders / 搅拌机 | smoothie maker, liquidiser | Kitchen / Appliances | 75 | powerful, hand, personal, quiet
frying pan / frying pans / 煎锅 | skillet, saute pan | Kitchen / Cookware | 38 | nonstick, cast iron, ceramic, steel | 20cm, 24cm, 28cm
chef knife / chef knives / 菜刀 | kitchen blade, cook's knife | Kitchen / Cookware | 58 | damascus, forged, ceramic, japanese | 16cm, 20cm
water bottle / water bottles / 水杯 | drinking flask, thermos | Kitchen / Tableware | 22 | insulated, steel, leakproof, glass | 500ml, 750ml, 1l
table lamp / table lamps / 台灯 | desk light, reading light | Home / Lighting | 42 | dimmable, vintage, adjustable, bedside |  | light bulb
light bulb / light bulbs / 灯泡 | led lamp, globe | Home / Lighting | 8 | warm, daylight, smart, filament | 4W, 8W, 12W
cushion / cushions / 靠垫 | throw pillow, sofa pillow | Home / Textiles | 24 | velvet, linen, knitted, patterned | 40cm, 50cm
duvet cover / duvet covers / 被套 | quilt cover, comforter cover | Home / Textiles | 55 | cotton, linen, satin, flannel | single, double, king
office chair / office chairs / 办公椅 | desk chair, swivel seat | Home / Furniture | 210 | ergonomic, mesh, executive, compact
bookshelf / bookshelves / 书架 | bookcase, shelving unit | Home / Furniture | 130 | oak, corner, ladder, open
cordless drill / cordless drills / 电钻 | power screwdriver, drill driver | DIY / Power tools | 115 | compact, brushless, hammer, heavy-duty | 12V, 18V | drill bit set, tool battery
drill bit set / drill bit sets / 钻头 | drilling bits, borers | DIY / Power tools | 26 | titanium, masonry, wood, universal
tool battery / tool batteries / 工具电池 | accu pack, power pack | DIY / Power tools | 62 | slim, extended, fast-charging, rugged | 12V, 18V
wall paint / wall paints / 墙漆 | emulsion, interior colour | DIY / Decorating | 34 | matt, silk, washable, low-odour | 1l, 2.5l, 5l | paint roller
paint roller / paint rollers / 油漆滚筒 | roller brush, decorating roller | DIY / Decorating | 11 | microfibre, foam, mini, telescopic
tent / tents / 帐篷 | camping shelter, dome | Outdoor / Camping | 190 | lightweight, family, pop-up, four-season | 2-person, 4-person | sleeping bag, camping stove
sleeping bag / sleeping bags / 睡袋 | mummy bag, bedroll | Outdoor / Camping | 85 | down, summer, winter, compact
camping stove / camping stoves / 露营炉 | gas burner, portable cooker | Outdoor / Camping | 48 | titanium, windproof, folding, double
backpack / backpacks / 背包 | rucksack, knapsack | Outdoor / Bags | 78 | hiking, commuter, waterproof, roll-top | 20l, 35l, 50l
bicycle helmet / bicycle helmets / 自行车头盔 | bike helmet, cycling hat | Outdoor / Cycling | 59 | road, mountain, urban, aerodynamic | S, M, L | bike light
bike light / bike lights / 车灯 | cycle lamp, bicycle torch | Outdoor / Cycling | 27 | rechargeable, bright, rear, clip-on
running shoe / running shoes / 跑鞋 | trainers, sneakers | Fashion / Shoes | 105 | cushioned, trail, lightweight, stability | 36, 38, 40, 42, 44
hiking boot / hiking boots / 登山靴 | walking boots, trekking shoes | Fashion / Shoes | 140 | leather, waterproof, ankle, vegan | 36, 38, 40, 42, 44
rain jacket / rain jackets / 雨衣 | raincoat, waterproof coat | Fashion / Clothing | 95 | packable, hooded, breathable, long | XS, S, M, L, XL
t-shirt / t-shirts / T恤 | tee, tshirt | Fashion / Clothing | 22 | cotton, organic, striped, oversized | XS, S, M, L, XL
jeans / jeans / 牛仔裤 | denim trousers, denims | Fashion / Clothing | 68 | slim, straight, relaxed, high-rise | XS, S, M, L, XL
wristwatch / wristwatches / 手表 | timepiece, analogue watch | Fashion / Accessories | 160 | automatic, quartz, diver, minimalist
novel / novels / 小说 | fiction book, paperback | Books / Fiction | 13 | crime, fantasy, historical, romantic |  | series
comic / comics / 漫画 | graphic novel, manga | Books / Fiction | 12 | superhero, mystery, funny, space |  | series
jigsaw puzzle / jigsaw puzzles / 拼图 | puzzle game, jigsaw | Toys / Games | 18 | wooden, panorama, landscape, animal | 500 pieces, 1000 pieces
building set / building sets / 积木 | construction bricks, blocks kit | Toys / Construction | 52 | castle, space, city, train |  | series
"""


def _read(line: str) -> ProductType:
    names, synonyms, place, price, qualities, sizes, after = [*line.split(" | "), "", ""][:7]
    name, plural, chinese = names.split(" / ")
    department, aisle = place.split(" / ")
    return ProductType(
        name=name,
        plural=plural,
        chinese=chinese,
        synonyms=_words(synonyms),
        department=department,
        aisle=aisle,
        price=float(price),
        qualities=_words(qualities),
        sizes=_words(sizes),
        accessories=() if after == "series" else _words(after),
        series=after == "series",
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(", ")) if text else ()


TYPES: tuple[ProductType, ...] = tuple(_read(line) for line in _TABLE.strip().splitlines())

BRANDS: dict[str, tuple[str, ...]] = {
    "Electronics": ("Lumora", "Voltek", "Sonaris", "Kyber", "Nordwave", "Pixelon", "Orbita"),
    "Kitchen": ("Brewly", "Casa Verde", "Steelhaus", "Morinda", "Pantrio", "Kettler & Sons"),
    "Home": ("Habitus", "Linnea", "Woodrow", "Glimmer", "Nest & Co", "Fjordhem"),
    "DIY": ("Torqwell", "Hammerle", "Ironbark", "Protec", "Malva", "Rivet"),
    "Outdoor": ("Alpenruh", "Trailmark", "Summiteer", "Wildfen", "Pedalo", "Kestrel"),
    "Fashion": ("Avenue 9", "Marlowe", "Stride", "Kumo", "Tessuto", "Northerly"),
    "Books": ("Quill House", "Lantern Press", "Inkwell", "Blue Heron"),
    "Toys": ("Playmont", "Brixo", "Tumble", "Woodling"),
}
CHINESE_BRANDS: tuple[str, ...] = ("海星", "云山", "明月", "小禾")
LINES: tuple[str, ...] = (
    "Aria", "Nova", "Atlas", "Echo", "Terra", "Vega", "Luna", "Flux", "Delta", "Orion", "Sierra", "Polar", "Ember",
    "Cobalt", "Juniper", "Harbor", "Mistral", "Zephyr", "Onyx", "Saffron",
)  # fmt: skip
COLOURS: tuple[str, ...] = ("black", "white", "blue", "red", "green", "grey", "pink", "yellow")
CHINESE_COLOURS: tuple[str, ...] = ("黑色", "白色", "蓝色", "红色", "绿色", "灰色", "粉色", "黄色")
PRAISE: tuple[str, ...] = (
    "made for every day", "a favourite for years", "light and easy to keep", "built to last",
    "designed with care", "simple, quiet and reliable", "tested in hard use", "a thoughtful gift",
)  # fmt: skip
