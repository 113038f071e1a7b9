"""Swedish. Adjectives stand before the noun; plurals take -a, and for the rest hasty shoppers leave the ending off."""

from __future__ import annotations

from models.sample_store.locales.language import Language, NounForm, Nouns, plain_letters, read_nouns, read_words

_INVARIABLE = {"rosa", "lila", "beige", "orange", "dam", "herr", "flicka", "pojke", "unisex"}


def _ending(first_word: str) -> NounForm:
    return "mp" if first_word.endswith(("or", "ar", "er")) else "m"


def _agree(adjective: str, form: NounForm) -> str:
    if adjective in _INVARIABLE or " " in adjective or form != "mp":
        return adjective
    return adjective + "a" if adjective[-1] not in "aåe" else adjective


SWEDISH = Language(
    code="sv",
    nouns=read_nouns("""
        sofa = soffa; bäddsoffa; hörnsoffa; divansoffa
        armchair = fåtölj; läsfåtölj
        coffee table = soffbord; vardagsrumsbord
        tv stand = tv-bänk/m; tv bänk/m; mediabänk/m
        bookcase = bokhylla; hylla för böcker
        desk = skrivbord; datorbord
        office chair = kontorsstol; skrivbordsstol
        bed frame = sängram; säng; ramsäng
        dining table = matbord; köksbord
        rug = matta; ryamatta; gångmatta
        cushion cover = kuddfodral; prydnadskudde; kuddöverdrag
        coffee maker = kaffebryggare/m; kaffemaskin; espressomaskin
        kettle = vattenkokare/m; tekokare/m
        air fryer = airfryer/m; luftfritös
        blender = mixer/m; blender/m; smoothiemaskin
        stand mixer = köksmaskin; köksassistent; bakmaskin
        frying pan = stekpanna; gjutjärnspanna
        saucepan = kastrull; gryta
        knife set = knivset; köksknivar; knivblock
        dinnerware set = servis; matservis; porslin
        food storage containers = matlådor; förvaringsburkar; matlåda
        television = tv; smart tv; platt-tv
        soundbar = soundbar/m; ljudlimpa
        headphones = hörlurar; trådlösa hörlurar; over-ear hörlurar
        earbuds = in-ear hörlurar; öronsnäckor; trådlösa öronproppar
        smartphone = mobil; mobiltelefon; smartphone
        phone case = mobilskal; mobilfodral; telefonskal
        laptop = laptop; bärbar dator/m
        laptop sleeve = datorväska; laptopfodral; datorfodral
        tablet = surfplatta; läsplatta; ritplatta
        tablet case = surfplattefodral; fodral surfplatta
        smartwatch = smartklocka; aktivitetsarmband; träningsklocka
        computer mouse = trådlös mus; datormus; gamingmus
        t-shirt = t-shirt; t-tröja; kortärmad tröja
        shirt = skjorta; blus
        jumper = tröja; stickad tröja; polotröja
        hoodie = huvtröja; hoodie; munkjacka
        dress = klänning; sommarklänning; långklänning
        jeans = jeans/mp; jeansbyxor
        coat = jacka; vinterjacka; kappa; rock; parkas
        leggings = leggings/mp; träningstights/mp
        trousers = byxor; chinos/mp; kostymbyxor
        underwear = underkläder; kalsonger; trosor
        undershirt = linne; undertröja
        waistcoat = väst; kostymväst
        cardigan = kofta; cardigan; stickad kofta
        nightgown = nattlinne; nattskjorta
        socks = strumpor; sockor; ankelstrumpor
        tights = strumpbyxor; nylonstrumpor
        handbag = handväska; axelväska; väska dam
        wallet = plånbok; korthållare/m
        trainers = sneakers/mp; gympaskor; fritidsskor
        running shoes = löparskor; löpskor; joggingskor
        boots = stövletter; boots/mp; kängor
        hiking boots = vandringskängor; vandringsskor
        sandals = sandaler; sandaletter; espadriller
        heels = pumps/mp; högklackade skor; klackskor
        slippers = tofflor; inneskor; morgontofflor
        flip-flops = flip flops/mp; badtofflor; strandtofflor
        ballet flats = ballerinaskor; ballerinor
        yoga mat = yogamatta; träningsmatta; gymmatta
        dumbbells = hantlar; hantelset; vikter
        tent = tält; campingtält; kupoltält
        sleeping bag = sovsäck; mumiesovsäck
        backpack = ryggsäck; vandringsryggsäck; skolväska
        bicycle = cykel; mountainbike/m; racercykel
        bike helmet = cykelhjälm; hjälm cykel
        tennis racket = tennisracket; tennisrack
        water bottle = vattenflaska; termos; sportflaska
        soccer ball = fotboll; läderfotboll; matchboll
        american football = amerikansk fotboll; boll amerikansk fotboll
        building blocks = byggklossar; klossar; byggsats
        board game = brädspel; sällskapsspel; familjespel
        jigsaw puzzle = pussel; träpussel
        doll = docka; babydocka
        doll house = dockskåp; dockhus
        stuffed animal = gosedjur; mjukdjur; nalle
        remote control car = radiostyrd bil; rc bil
        craft kit = pysselset; pyssellåda; målarset
        patio set = utemöbler; trädgårdsmöbler; utegrupp
        parasol = parasoll; frihängande parasoll
        plant pot = blomkruka; kruka; ytterkruka
        garden hose = trädgårdsslang; vattenslang
        lawn mower = gräsklippare/m; robotgräsklippare/m
        hedge trimmer = häcksax; häcktrimmer/m
        barbecue grill = grill; gasolgrill; kolgrill
        outdoor lights = utebelysning; solcellslampor; ljusslinga utomhus
        face moisturiser = ansiktskräm; dagkräm; fuktkräm
        serum = ansiktsserum; serum
        shampoo = schampo; shampoo
        hair dryer = hårtork; fön
        lipstick = läppstift; läppglans
        perfume = parfym; eau de toilette
        electric shaver = rakapparat; skäggtrimmer/m
        make-up brush set = sminkborstar; sminkpenslar
        dog bed = hundbädd; hundsäng; hundkudde
        dog lead = hundkoppel; koppel
        dog harness = hundsele; sele hund
        dog food = hundmat; hundfoder; torrfoder hund
        cat tree = klösträd; klätterträd katt
        cat litter box = kattlåda; katttoalett
        cat food = kattmat; kattfoder; våtfoder katt
        aquarium = akvarium
        cordless drill = skruvdragare/m; borrmaskin; borrskruvdragare/m
        drill bit set = borrset; borrar; bitssats
        circular saw = cirkelsåg; sticksåg
        tool set = verktygssats; verktygslåda; hylsnyckelsats
        hammer = hammare/m; gummiklubba
        ladder = stege; trappstege; teleskopstege
        work gloves = arbetshandskar; trädgårdshandskar
        work light = arbetslampa; byggstrålkastare/m
        flashlight = ficklampa; pannlampa
        blow torch = gasbrännare/m; blåslampa
        potato crisps = chips; potatischips
        frozen fries = pommes frites; pommes; frysta pommes
    """),
    colours=read_words(
        "Black = svart; White = vit; Grey = grå; Charcoal = mörkgrå; Silver = silver; Cream = gräddvit; Beige = beige; "
        "Brown = brun; Oak = ek; Burgundy = vinröd; Red = röd; Orange = orange; Mustard = senapsgul; Yellow = gul; Gold = guld; "
        "Pink = rosa; Purple = lila; Navy = marinblå; Blue = blå; Sky = ljusblå; Teal = petrol; Turquoise = turkos; "
        "Mint = mintgrön; Olive = olivgrön; Forest = mörkgrön; Green = grön; Multicolour = flerfärgad"
    ),
    materials=read_words(
        "Velvet = sammet | i sammet; Linen = linne | i linne; Leather = läder | i läder | skinn; Faux Leather = konstläder; "
        "Solid Oak = massiv ek; Solid Pine = furu; Bamboo = bambu; Rattan = rotting; Metal = metall; "
        "Stainless Steel = rostfri | rostfritt stål; Cast Iron = gjutjärn; Aluminium = aluminium; Glass = glas; Marble = marmor; "
        "Ceramic = keramik; Silicone = silikon; Plastic = plast; Cotton = bomull | i bomull; Organic Cotton = ekologisk bomull; "
        "Wool = ull | i ull; Merino Wool = merinoull; Cashmere = kashmir; Suede = mocka; Silk = siden; Satin = satin; "
        "Corduroy = manchester; Rubber = gummi; Teak = teak; Wood = trä | i trä; Plush = plysch"
    ),
    audiences=read_words("Women's = dam; Men's = herr; Girls' = flicka; Boys' = pojke; Unisex = unisex"),
    prices=(("billig",), ("prisvärd",), (), ("bra kvalitet",), ("lyxig", "exklusiv")),
    inch="tum",
    before=frozenset({"colour", "price", "brand"}),
    plain=plain_letters("åäöé", "aaoe"),
    ending=_ending,
    agree=_agree,
)

SWEDISH_DIALECTS: dict[str, Nouns] = {"sv-SE": {}}
