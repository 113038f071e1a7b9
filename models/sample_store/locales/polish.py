"""Polish. Adjectives mostly follow the noun in searches, "sukienka czarna", and agree with it by its ending."""

from __future__ import annotations

from models.sample_store.locales.language import Language, NounForm, Nouns, plain_letters, read_nouns, read_words

_INVARIABLE = {"beż", "bordo", "khaki", "ecru", "multikolor", "premium", "tanio"}


def _ending(first_word: str) -> NounForm:
    """ "mp" stands for the plural and, as their adjectives end alike, for the neuter."""
    return {"a": "f", "y": "mp", "i": "mp", "e": "mp", "o": "mp"}.get(first_word[-1], "m")


def _agree(adjective: str, form: NounForm) -> str:
    if adjective in _INVARIABLE or " " in adjective or adjective[-1] not in "yi":
        return adjective
    stem = adjective[:-1] if adjective[-1] == "y" or adjective.endswith("ki") else adjective
    if form == "f":
        return stem + "a"
    if form == "m":
        return adjective
    return adjective + "e" if adjective[-1] == "i" else stem + "e"


POLISH = Language(
    code="pl",
    nouns=read_nouns("""
        sofa = sofa; kanapa; narożnik; wersalka
        armchair = fotel; fotel uszak
        coffee table = stolik kawowy; ława
        tv stand = szafka rtv; stolik rtv
        bookcase = regał na książki; regał; biblioteczka
        desk = biurko; biurko komputerowe
        office chair = fotel biurowy; krzesło biurowe; krzesło obrotowe
        bed frame = łóżko; rama łóżka; stelaż łóżka; łóżko tapicerowane
        dining table = stół; stół do jadalni; stół rozkładany
        rug = dywan; chodnik; dywanik
        cushion cover = poszewka na poduszkę; poszewka dekoracyjna
        coffee maker = ekspres do kawy; ekspres ciśnieniowy; kawiarka
        kettle = czajnik elektryczny; czajnik
        air fryer = frytkownica beztłuszczowa; air fryer; frytownica na powietrze
        blender = blender; blender kielichowy
        stand mixer = robot planetarny; mikser stojący; robot kuchenny
        frying pan = patelnia; patelnia nieprzywierająca
        saucepan = garnek; rondel; garnek z pokrywką
        knife set = zestaw noży; noże kuchenne; blok z nożami
        dinnerware set = zestaw obiadowy; serwis obiadowy; zastawa stołowa
        food storage containers = pojemniki na żywność; pojemniki kuchenne; lunch box
        television = telewizor; smart tv
        soundbar = soundbar; głośnik do telewizora
        headphones = słuchawki nauszne; słuchawki bezprzewodowe; słuchawki bluetooth
        earbuds = słuchawki douszne; słuchawki dokanałowe; pchełki
        smartphone = telefon; smartfon; telefon komórkowy
        phone case = etui na telefon; pokrowiec na telefon; etui
        laptop = laptop; notebook
        laptop sleeve = torba na laptopa; etui na laptopa; pokrowiec na laptopa
        tablet = tablet; tablet graficzny
        tablet case = etui na tablet; pokrowiec na tablet
        smartwatch = smartwatch; zegarek sportowy; opaska fitness
        computer mouse = myszka bezprzewodowa; myszka; mysz gamingowa
        t-shirt = koszulka; t-shirt; koszulka z krótkim rękawem
        shirt = koszula; bluzka koszulowa
        jumper = sweter; golf; pulower
        hoodie = bluza z kapturem; bluza; hoodie
        dress = sukienka; suknia; sukienka maxi
        jeans = jeansy; dżinsy; spodnie jeansowe
        coat = płaszcz; kurtka zimowa; parka; kurtka puchowa
        leggings = legginsy; getry
        trousers = spodnie; chinosy; spodnie bojówki
        underwear = majtki; bielizna; bokserki; figi
        undershirt = podkoszulek; koszulka termoaktywna
        waistcoat = kamizelka; kamizelka garniturowa
        cardigan = kardigan; sweter rozpinany
        nightgown = koszula nocna; koszula do spania
        socks = skarpetki; skarpety; stopki
        tights = rajstopy; pończochy
        handbag = torebka; torebka damska; listonoszka
        wallet = portfel; portmonetka; portfel męski
        trainers = sneakersy; trampki; buty sportowe; adidasy
        running shoes = buty do biegania; buty biegowe
        boots = botki; kozaki; sztyblety
        hiking boots = buty trekkingowe; buty górskie
        sandals = sandały; sandałki; espadryle
        heels = szpilki; czółenka; buty na obcasie
        slippers = kapcie; pantofle domowe; papucie; bambosze
        flip-flops = japonki; klapki basenowe; klapki
        ballet flats = baleriny; baletki; balerinki
        yoga mat = mata do jogi; mata do ćwiczeń
        dumbbells = hantle; ciężarki; sztangielki
        tent = namiot; namiot turystyczny
        sleeping bag = śpiwór; śpiwór mumia
        backpack = plecak; plecak turystyczny; plecak szkolny
        bicycle = rower; rower górski; rower szosowy
        bike helmet = kask rowerowy; kask na rower
        tennis racket = rakieta tenisowa; rakieta do tenisa
        water bottle = bidon; butelka na wodę; termos
        soccer ball = piłka nożna; piłka do nogi; piłka
        american football = piłka do futbolu amerykańskiego; piłka futbol amerykański
        building blocks = klocki; klocki konstrukcyjne; klocki drewniane
        board game = gra planszowa; planszówka; gra rodzinna
        jigsaw puzzle = puzzle; układanka; puzzle drewniane
        doll = lalka; lalka bobas
        doll house = domek dla lalek
        stuffed animal = pluszak; maskotka; miś pluszowy
        remote control car = samochód zdalnie sterowany; auto na pilota
        craft kit = zestaw kreatywny; zestaw plastyczny
        patio set = meble ogrodowe; zestaw mebli ogrodowych
        parasol = parasol ogrodowy; parasol
        plant pot = doniczka; donica; osłonka na doniczkę
        garden hose = wąż ogrodowy; szlauch
        lawn mower = kosiarka; kosiarka do trawy; robot koszący
        hedge trimmer = nożyce do żywopłotu; nożyce elektryczne do żywopłotu
        barbecue grill = grill; grill gazowy; grill ogrodowy
        outdoor lights = lampy ogrodowe; lampy solarne; girlanda ogrodowa
        face moisturiser = krem do twarzy; krem nawilżający; krem na dzień
        serum = serum do twarzy; serum
        shampoo = szampon; szampon do włosów
        hair dryer = suszarka do włosów; suszarka
        lipstick = szminka; pomadka; błyszczyk
        perfume = perfumy; woda perfumowana; woda toaletowa
        electric shaver = golarka; golarka elektryczna; trymer do brody
        make-up brush set = pędzle do makijażu; zestaw pędzli
        dog bed = legowisko dla psa; posłanie dla psa
        dog lead = smycz; smycz dla psa
        dog harness = szelki dla psa; szelki
        dog food = karma dla psa; sucha karma dla psa
        cat tree = drapak; drapak dla kota; drzewko dla kota
        cat litter box = kuweta; kuweta dla kota
        cat food = karma dla kota; mokra karma dla kota
        aquarium = akwarium
        cordless drill = wkrętarka; wiertarka; wiertarko-wkrętarka
        drill bit set = zestaw wierteł; wiertła; bity do wkrętarki
        circular saw = piła tarczowa; pilarka; wyrzynarka
        tool set = zestaw narzędzi; skrzynka z narzędziami; zestaw kluczy
        hammer = młotek; młotek gumowy
        ladder = drabina; drabina aluminiowa
        work gloves = rękawice robocze; rękawiczki robocze
        work light = lampa warsztatowa; naświetlacz led
        flashlight = latarka; latarka czołowa; czołówka
        blow torch = palnik gazowy; lutlampa
        potato crisps = chipsy; czipsy; chipsy ziemniaczane
        frozen fries = frytki; frytki mrożone; frytki do piekarnika
    """),
    colours=read_words(
        "Black = czarny; White = biały; Grey = szary; Charcoal = grafitowy; Silver = srebrny; Cream = kremowy; Beige = beżowy; "
        "Brown = brązowy; Oak = dąb; Burgundy = bordowy; Red = czerwony; Orange = pomarańczowy; Mustard = musztardowy; "
        "Yellow = żółty; Gold = złoty; Pink = różowy; Purple = fioletowy; Navy = granatowy; Blue = niebieski; Sky = błękitny; "
        "Teal = morski; Turquoise = turkusowy; Mint = miętowy; Olive = oliwkowy; Forest = butelkowa zieleń; Green = zielony; "
        "Multicolour = kolorowy"
    ),
    materials=read_words(
        "Velvet = welur | aksamit; Linen = len | z lnu; Leather = skóra | ze skóry; Faux Leather = ekoskóra; Solid Oak = lity dąb; "
        "Solid Pine = drewno sosnowe; Bamboo = bambus; Rattan = rattan; Metal = metal | z metalu; Stainless Steel = stal nierdzewna; "
        "Cast Iron = żeliwo; Aluminium = aluminium; Glass = szkło | ze szkła; Marble = marmur; Ceramic = ceramika; "
        "Silicone = silikon; Plastic = plastik; Cotton = bawełna | z bawełny; Organic Cotton = bawełna organiczna; "
        "Wool = wełna | z wełny; Cashmere = kaszmir; Suede = zamsz; Silk = jedwab; Satin = satyna; Corduroy = sztruks; "
        "Rubber = guma; Wood = drewno | z drewna; Plush = plusz"
    ),
    audiences=read_words(
        "Women's = damski; Men's = męski; Girls' = dla dziewczynki; Boys' = dla chłopca; Unisex = unisex"
    ),
    prices=(("tani",), ("w dobrej cenie",), (), ("dobrej jakości",), ("premium", "luksusowy")),
    inch="cali",
    before=frozenset(),
    plain=plain_letters("ąćęłńóśźż", "acelnoszz"),
    ending=_ending,
    agree=_agree,
)

POLISH_DIALECTS: dict[str, Nouns] = {"pl-PL": {}}
