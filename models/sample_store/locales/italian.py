"""Italian. Adjectives follow the noun and agree with it; nouns whose ending misleads are marked."""

from __future__ import annotations

from models.sample_store.locales.language import Language, NounForm, Nouns, plain_letters, read_nouns, read_words
from models.sample_store.vocabulary import names

_INVARIABLE = frozenset(
    names("blu; rosa; viola; beige; crema; bordeaux; oro; argento; antracite; fucsia; premium; uomo; bambino")
)


def _ending(first_word: str) -> NounForm:
    return {"a": "f", "i": "mp", "e": "fp"}.get(first_word[-1], "m")


def _agree(adjective: str, form: NounForm) -> str:
    if adjective in _INVARIABLE or " " in adjective:
        return adjective
    stem, last = adjective[:-1], adjective[-1]
    if last == "e":
        return stem + "i" if form.endswith("p") else adjective
    if last == "o":
        plural = stem if stem.endswith("i") else stem + "i"  # grigio, grigi
        hard = stem + "h" if stem[-1] in "cg" else stem  # bianco, bianche; giallo, gialle
        if adjective == "bianco":
            plural = "bianchi"
        return {"m": adjective, "f": stem + "a", "mp": plural, "fp": hard + "e"}[form]
    return adjective


ITALIAN = Language(
    code="it",
    nouns=read_nouns("""
        sofa = divano; divano letto; divano angolare
        armchair = poltrona; poltroncina
        coffee table = tavolino; tavolino da salotto; tavolino da caffè
        tv stand = mobile tv/m; porta tv/m
        bookcase = libreria; scaffale libri/m
        desk = scrivania; scrittoio; scrivania pc
        office chair = sedia da ufficio; sedia ufficio; poltrona ufficio
        bed frame = letto; struttura letto; giroletto
        dining table = tavolo da pranzo; tavolo allungabile; tavolo cucina
        rug = tappeto; tappeto salotto; passatoia
        cushion cover = copricuscino; fodera cuscino; federa cuscino
        coffee maker = macchina da caffè; macchina caffè; macchina espresso
        kettle = bollitore; bollitore elettrico
        air fryer = friggitrice ad aria/f; friggitrice senza olio/f; airfryer
        blender = frullatore; frullatore smoothie
        stand mixer = impastatrice/f; planetaria
        frying pan = padella; padella antiaderente; saltapasta
        saucepan = pentola; casseruola; pentolino
        knife set = set coltelli; ceppo coltelli; coltelli da cucina
        dinnerware set = servizio piatti; servizio da tavola; set piatti
        food storage containers = contenitori alimenti; contenitori ermetici; vaschette alimenti
        television = televisore; tv/f; televisione/f; smart tv/f
        soundbar = soundbar/f; cassa per tv
        headphones = cuffie; cuffie bluetooth; cuffie wireless
        earbuds = auricolari bluetooth; auricolari; cuffiette/fp
        smartphone = smartphone; cellulare/m; telefonino
        phone case = cover; custodia cellulare; cover cellulare
        laptop = portatile/m; computer portatile; notebook
        laptop sleeve = custodia pc portatile; borsa pc; borsa porta pc
        tablet = tablet; tavoletta grafica
        tablet case = custodia tablet; cover tablet
        smartwatch = smartwatch; orologio smart; fitness tracker
        computer mouse = mouse wireless; mouse; mouse gaming
        t-shirt = t-shirt/f; maglietta; maglietta maniche corte
        shirt = camicia; camicetta
        jumper = maglione/m; pullover; golf; dolcevita/m
        hoodie = felpa con cappuccio; felpa
        dress = vestito; abito; abito lungo
        jeans = jeans/mp; pantaloni jeans
        coat = cappotto; piumino; giaccone/m; parka
        leggings = leggings/mp; leggings sportivi/mp
        trousers = pantaloni; pantaloni chino; pantaloni cargo
        underwear = mutande; slip; boxer uomo; culotte/f; intimo
        undershirt = canottiera; maglia intima; maglietta intima
        waistcoat = gilet; panciotto; gilet elegante
        cardigan = cardigan; giacca di maglia; golfino
        nightgown = camicia da notte; camicia notte
        socks = calzini; calze; fantasmini
        tights = collant/mp; calze collant; calzamaglia
        handbag = borsa; borsetta; borsa a tracolla
        wallet = portafoglio; portafogli; portamonete/m
        trainers = sneakers/fp; scarpe sportive; scarpe da ginnastica
        running shoes = scarpe da running; scarpe da corsa
        boots = stivaletti; stivali; anfibi
        hiking boots = scarponi; scarpe da trekking; scarponcini
        sandals = sandali; espadrillas/fp
        heels = décolleté/fp; scarpe con tacco; tacchi alti
        slippers = pantofole; ciabatte da casa; babbucce
        flip-flops = infradito; ciabatte mare; ciabatte da spiaggia
        ballet flats = ballerine; scarpe basse
        yoga mat = tappetino yoga; materassino yoga; tappetino fitness
        dumbbells = manubri; pesi palestra; manubri regolabili
        tent = tenda da campeggio; tenda campeggio
        sleeping bag = sacco a pelo
        backpack = zaino; zaino trekking; zainetto
        bicycle = bicicletta; bici/f; mountain bike/f
        bike helmet = casco bici; casco bicicletta
        tennis racket = racchetta da tennis; racchetta tennis
        water bottle = borraccia; bottiglia termica; borraccia termica
        soccer ball = pallone da calcio; pallone/m; palla da calcio
        american football = pallone da football; palla football americano
        building blocks = costruzioni; mattoncini; blocchi da costruzione
        board game = gioco da tavolo; gioco di società
        jigsaw puzzle = puzzle; puzzle in legno
        doll = bambola; bambolotto
        doll house = casa delle bambole; casa bambole
        stuffed animal = peluche; orsacchiotto; pupazzo
        remote control car = macchina telecomandata; auto telecomandata/f
        craft kit = kit creativo; kit pittura; lavoretti creativi
        patio set = salotto da giardino; set giardino; tavolo e sedie giardino
        parasol = ombrellone/m; ombrellone giardino/m
        plant pot = vaso; vaso per piante; portavaso
        garden hose = tubo giardino; tubo irrigazione; canna dell'acqua
        lawn mower = tagliaerba/m; rasaerba/m; robot tagliaerba
        hedge trimmer = tagliasiepi/m; tagliasiepi a batteria/m
        barbecue grill = barbecue; barbecue a gas; griglia
        outdoor lights = luci da giardino/fp; luci solari/fp; lampade da esterno
        face moisturiser = crema viso; crema idratante; crema giorno
        serum = siero viso; siero
        shampoo = shampoo; shampoo capelli
        hair dryer = asciugacapelli; phon; fon
        lipstick = rossetto; lucidalabbra/m
        perfume = profumo; eau de parfum/f; eau de toilette/f
        electric shaver = rasoio elettrico; regolabarba/m
        make-up brush set = pennelli trucco; set pennelli; pennelli make up
        dog bed = cuccia cane; lettino cane; cuscino per cane
        dog lead = guinzaglio; guinzaglio cane
        dog harness = pettorina cane; pettorina
        dog food = crocchette cane; cibo per cani; mangime cani
        cat tree = tiragraffi; albero per gatti
        cat litter box = lettiera gatto; lettiera; toilette gatto
        cat food = crocchette gatto; cibo per gatti; cibo umido gatto
        aquarium = acquario; vasca per pesci
        cordless drill = trapano; avvitatore; trapano a batteria
        drill bit set = punte trapano; set punte; inserti avvitatore
        circular saw = sega circolare; seghetto alternativo
        tool set = set attrezzi; cassetta attrezzi; valigetta attrezzi
        hammer = martello; mazzuolo
        ladder = scala; scala telescopica; scaletta
        work gloves = guanti da lavoro; guanti giardinaggio
        work light = faro da lavoro; lampada da lavoro; faretto led cantiere
        flashlight = torcia; torcia led; lampada frontale
        blow torch = cannello; cannello a gas; saldatore a gas
        potato crisps = patatine; patatine in busta; chips/fp
        frozen fries = patatine fritte; patate fritte surgelate; patatine surgelate
    """),
    colours=read_words(
        "Black = nero; White = bianco; Grey = grigio; Charcoal = antracite; Silver = argento; Cream = crema; Beige = beige; "
        "Brown = marrone; Oak = rovere; Burgundy = bordeaux; Red = rosso; Orange = arancione; Mustard = senape; "
        "Yellow = giallo; Gold = oro; Pink = rosa; Blush = rosa cipria; Fuchsia = fucsia; Purple = viola; Navy = blu scuro; "
        "Blue = blu; Sky = azzurro; Teal = verde petrolio; Mint = verde menta; Olive = verde oliva; Forest = verde scuro; "
        "Green = verde; Multicolour = multicolor"
    ),
    materials=read_words(
        "Velvet = velluto | in velluto; Linen = lino | in lino; Leather = pelle | in pelle; Faux Leather = ecopelle; "
        "Solid Oak = rovere massello; Solid Pine = in pino; Bamboo = bambù | in bambù; Rattan = rattan; Metal = metallo | in metallo; "
        "Stainless Steel = acciaio inox; Cast Iron = ghisa | in ghisa; Aluminium = alluminio; Glass = vetro | in vetro; "
        "Marble = marmo | in marmo; Ceramic = ceramica | in ceramica; Silicone = silicone; Plastic = plastica; "
        "Cotton = cotone | in cotone; Organic Cotton = cotone biologico; Wool = lana | in lana; Merino Wool = lana merino; "
        "Cashmere = cashmere; Suede = camoscio; Silk = seta | in seta; Satin = raso; Corduroy = velluto a coste; "
        "Rubber = gomma; Teak = teak; Wood = legno | in legno"
    ),
    audiences=read_words("Women's = donna; Men's = uomo; Girls' = bambina; Boys' = bambino; Unisex = unisex"),
    prices=(("economico",), ("conveniente",), (), ("di qualità",), ("premium", "di lusso")),
    inch="pollici",
    before=frozenset(),
    plain=plain_letters("àèéìòù", "aeeiou"),
    ending=_ending,
    agree=_agree,
)

ITALIAN_DIALECTS: dict[str, Nouns] = {"it-IT": {}}
