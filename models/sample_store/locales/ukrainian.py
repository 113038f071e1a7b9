"""Ukrainian, in Cyrillic letters. Adjectives mostly follow the noun in searches and agree with it by its ending."""

# ruff: noqa: RUF001 - letters of Ukrainian

from __future__ import annotations

from models.sample_store.locales.language import Language, NounForm, Nouns, read_nouns, read_words


def _ending(first_word: str) -> NounForm:
    return {"а": "f", "я": "f", "и": "mp", "і": "mp", "ї": "mp", "о": "n", "е": "n"}.get(first_word[-1], "m")


def _agree(adjective: str, form: NounForm) -> str:
    if " " in adjective or not adjective.endswith(("ий", "ій")) or form == "m":
        return adjective
    hard, soft = {"f": ("а", "я"), "n": ("е", "є")}.get(form, ("і", "і"))
    return adjective[:-2] + (soft if adjective.endswith("синій") else hard)


UKRAINIAN = Language(
    code="uk",
    nouns=read_nouns("""
        sofa = диван; кутовий диван; софа
        armchair = крісло; м'яке крісло
        coffee table = журнальний столик; кавовий столик
        tv stand = тумба під телевізор; тв тумба
        bookcase = книжкова шафа; стелаж для книг; книжкова полиця
        desk = письмовий стіл; комп'ютерний стіл; робочий стіл
        office chair = офісне крісло; комп'ютерне крісло; офісний стілець
        bed frame = ліжко; каркас ліжка; двоспальне ліжко
        dining table = обідній стіл; кухонний стіл; стіл розкладний
        rug = килим; килимова доріжка; палас
        cushion cover = наволочка декоративна; чохол на подушку
        coffee maker = кавоварка; кавомашина; крапельна кавоварка
        kettle = електрочайник; чайник електричний; чайник
        air fryer = аерогриль; аерофритюрниця; мультипіч
        blender = блендер; блендер стаціонарний; шейкер для смузі
        stand mixer = планетарний міксер; кухонна машина; тістоміс
        frying pan = сковорода; пательня; сковорідка
        saucepan = каструля; ківш; каструля з кришкою
        knife set = набір ножів; кухонні ножі
        dinnerware set = столовий сервіз; набір посуду; набір тарілок
        food storage containers = контейнери для їжі; харчові контейнери; ланч бокс
        television = телевізор; смарт тв; тв
        soundbar = саундбар; колонка для телевізора
        headphones = навушники накладні; навушники bluetooth; повнорозмірні навушники
        earbuds = бездротові навушники; навушники вкладиші; вакуумні навушники
        smartphone = смартфон; телефон; мобільний телефон
        phone case = чохол на телефон; чохол для телефону; бампер на телефон
        laptop = ноутбук; ультрабук
        laptop sleeve = сумка для ноутбука; чохол для ноутбука
        tablet = планшет; графічний планшет
        tablet case = чохол для планшета; чохол на планшет
        smartwatch = смарт годинник; розумний годинник; фітнес браслет
        computer mouse = мишка бездротова; комп'ютерна миша; ігрова миша
        t-shirt = футболка; теніска
        shirt = сорочка; блузка
        jumper = светр; джемпер; пуловер; гольф
        hoodie = худі/n; толстовка; кофта з капюшоном
        dress = сукня; плаття/n; вечірня сукня
        jeans = джинси; джинсові штани
        coat = пальто; куртка зимова; пуховик; плащ
        leggings = легінси; лосини
        trousers = штани; брюки; чиноси
        underwear = труси; трусики; нижня білизна; боксери
        undershirt = майка; натільна майка; термофутболка
        waistcoat = жилет; жилетка; костюмний жилет
        cardigan = кардиган; кофта на ґудзиках
        nightgown = нічна сорочка; нічнушка
        socks = шкарпетки; носки; короткі шкарпетки
        tights = колготки; капронові колготки; панчохи
        handbag = сумка жіноча; сумочка; сумка через плече
        wallet = гаманець; портмоне; кардхолдер
        trainers = кеди; кросівки; снікерси
        running shoes = кросівки для бігу; бігові кросівки
        boots = черевики; ботильйони; чоботи; челсі
        hiking boots = трекінгові черевики; гірські черевики
        sandals = сандалі; босоніжки; еспадрильї
        heels = туфлі на підборах; туфлі; туфлі човники
        slippers = капці; домашні тапочки; тапочки
        flip-flops = в'єтнамки; шльопанці; пляжні шльопанці
        ballet flats = балетки; туфлі без підборів
        yoga mat = килимок для йоги; каремат для фітнесу; йога мат
        dumbbells = гантелі; гантелі розбірні; набір гантелей
        tent = намет; туристичний намет; палатка
        sleeping bag = спальник; спальний мішок
        backpack = рюкзак; шкільний рюкзак; туристичний рюкзак
        bicycle = велосипед; гірський велосипед
        bike helmet = велошолом; шолом велосипедний
        tennis racket = тенісна ракетка; ракетка для тенісу
        water bottle = пляшка для води; спортивна пляшка; термос
        soccer ball = футбольний м'яч; м'яч футбольний; м'яч
        american football = м'яч для американського футболу; м'яч для регбі
        building blocks = конструктор; кубики; дерев'яні кубики
        board game = настільна гра; настолка
        jigsaw puzzle = пазл; пазли; дерев'яний пазл
        doll = лялька; пупс
        doll house = ляльковий будиночок; будинок для ляльок
        stuffed animal = м'яка іграшка; плюшевий ведмедик; іграшка плюшева
        remote control car = машинка на радіокеруванні; машинка на пульті
        craft kit = набір для творчості; набір для малювання
        patio set = садові меблі; комплект садових меблів
        parasol = садова парасоля; пляжна парасоля
        plant pot = горщик для квітів; вазон; кашпо
        garden hose = садовий шланг; шланг для поливу; шланг
        lawn mower = газонокосарка; робот газонокосарка
        hedge trimmer = кущоріз; кущоріз акумуляторний
        barbecue grill = гриль; мангал; барбекю
        outdoor lights = садові світильники; вуличні ліхтарі; гірлянда вулична
        face moisturiser = крем для обличчя; зволожуючий крем; денний крем
        serum = сироватка для обличчя; сироватка
        shampoo = шампунь; шампунь для волосся
        hair dryer = фен; фен для волосся
        lipstick = помада; губна помада; блиск для губ
        perfume = парфуми; духи; туалетна вода
        electric shaver = електробритва; бритва електрична; тример для бороди
        make-up brush set = пензлі для макіяжу; набір пензлів
        dog bed = лежак для собаки; лежанка для собак
        dog lead = повідець; повідець для собаки; поводок
        dog harness = шлейка; шлея для собаки
        dog food = корм для собак; сухий корм для собак
        cat tree = кігтеточка; дряпка; будиночок для кота
        cat litter box = лоток для кота; котячий туалет; лоток
        cat food = корм для котів; вологий корм для котів
        aquarium = акваріум; акваріум для рибок
        cordless drill = шуруповерт; дриль; акумуляторний дриль
        drill bit set = набір свердел; свердла; набір біт
        circular saw = циркулярна пила; дискова пила; електролобзик
        tool set = набір інструментів; ящик з інструментами; набір ключів
        hammer = молоток; киянка
        ladder = драбина; стрем'янка
        work gloves = робочі рукавиці; рукавички робочі
        work light = прожектор світлодіодний; робоча лампа; лампа для гаража
        flashlight = ліхтарик; ліхтар; налобний ліхтар
        blow torch = газовий пальник; паяльна лампа
        potato crisps = чіпси; картопляні чіпси
        frozen fries = картопля фрі; заморожена картопля фрі; фрі
    """),
    colours=read_words(
        "Black = чорний; White = білий; Grey = сірий; Charcoal = графітовий; Silver = сріблястий; Cream = кремовий; "
        "Beige = бежевий; Brown = коричневий; Oak = дуб; Burgundy = бордовий; Red = червоний; Coral = кораловий; "
        "Orange = помаранчевий; Mustard = гірчичний; Yellow = жовтий; Gold = золотий; Pink = рожевий; Purple = фіолетовий; "
        "Lavender = лавандовий; Navy = темно-синій; Blue = синій; Sky = блакитний; Turquoise = бірюзовий; Mint = м'ятний; "
        "Olive = оливковий; Forest = темно-зелений; Green = зелений; Multicolour = різнокольоровий"
    ),
    materials=read_words(
        "Velvet = велюр | оксамит; Linen = льон | з льону; Leather = шкіра | зі шкіри; Faux Leather = екошкіра; "
        "Solid Oak = масив дуба; Solid Pine = сосна; Bamboo = бамбук; Rattan = ротанг; Metal = метал; "
        "Stainless Steel = нержавіюча сталь; Cast Iron = чавун; Aluminium = алюміній; Glass = скло; Marble = мармур; "
        "Ceramic = кераміка; Silicone = силікон; Plastic = пластик; Cotton = бавовна | з бавовни; Wool = вовна; "
        "Cashmere = кашемір; Fleece = фліс; Suede = замша; Silk = шовк; Satin = атлас; Corduroy = вельвет; Rubber = гума; "
        "Wood = дерево | з дерева; Plush = плюш"
    ),
    audiences=read_words(
        "Women's = жіночий; Men's = чоловічий; Girls' = для дівчинки; Boys' = для хлопчика; Unisex = унісекс"
    ),
    prices=(("дешевий", "недорого"), ("бюджетний",), (), ("якісний",), ("преміум", "люкс")),
    inch="дюймів",
    before=frozenset(),
    plain={},
    ending=_ending,
    agree=_agree,
)

UKRAINIAN_DIALECTS: dict[str, Nouns] = {"uk-UA": {}}
