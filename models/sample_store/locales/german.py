"""German: shoppers put the noun first and leave adjectives as they are, "sofa grau". Also the dialects of Austria, Switzerland."""

from __future__ import annotations

from dataclasses import replace

from models.sample_store.locales.language import Language, Noun, plain_letters, read_nouns, read_words

GERMAN = Language(
    code="de",
    nouns=read_nouns("""
        sofa = sofa; couch; schlafsofa; ecksofa
        armchair = sessel; ohrensessel; lesesessel
        coffee table = couchtisch; wohnzimmertisch
        tv stand = tv-schrank; fernsehtisch; lowboard
        bookcase = bücherregal; bücherschrank
        desk = schreibtisch; computertisch
        office chair = bürostuhl; schreibtischstuhl; drehstuhl
        bed frame = bettgestell; bettrahmen; polsterbett
        dining table = esstisch; küchentisch
        rug = teppich; läufer; hochflorteppich
        cushion cover = kissenbezug; kissenhülle; zierkissenbezug
        coffee maker = kaffeemaschine; espressomaschine; filterkaffeemaschine
        kettle = wasserkocher; teekocher
        air fryer = heißluftfritteuse; airfryer
        blender = standmixer; mixer; smoothie maker
        stand mixer = küchenmaschine; knetmaschine; rührmaschine
        frying pan = bratpfanne; pfanne
        saucepan = kochtopf; topf; stielkasserolle
        knife set = messerset; messerblock; küchenmesser set
        dinnerware set = geschirrset; tafelservice; kombiservice
        food storage containers = frischhaltedosen; vorratsdosen; brotdosen
        television = fernseher; smart tv; flachbildfernseher
        soundbar = soundbar; tv lautsprecher
        headphones = kopfhörer; bluetooth kopfhörer; over-ear kopfhörer
        earbuds = in-ear kopfhörer; ohrhörer; earbuds
        smartphone = handy; smartphone; mobiltelefon
        phone case = handyhülle; handytasche; smartphone hülle
        laptop = laptop; notebook
        laptop sleeve = laptoptasche; laptophülle; notebooktasche
        tablet = tablet; tablet pc
        tablet case = tablet hülle; tablet tasche
        smartwatch = smartwatch; fitnessuhr; fitnessarmband
        computer mouse = computermaus; funkmaus; gaming maus
        t-shirt = t-shirt; kurzarmshirt; shirt
        shirt = hemd; bluse; oberhemd
        jumper = pullover; pulli; strickpullover
        hoodie = kapuzenpullover; hoodie; kapuzenjacke
        dress = kleid; sommerkleid; abendkleid
        jeans = jeans; jeanshose
        coat = mantel; winterjacke; parka; wintermantel
        leggings = leggings; sportleggings; yogahose
        trousers = hose; stoffhose; chinohose; culotte
        underwear = unterhose; slip; unterwäsche; boxershorts
        undershirt = unterhemd; feinripp unterhemd
        waistcoat = weste; anzugweste; herrenweste
        cardigan = strickjacke; cardigan
        nightgown = nachthemd; sleepshirt
        socks = socken; strümpfe; sneakersocken
        tights = strumpfhose; feinstrumpfhose
        handbag = handtasche; umhängetasche; damentasche
        wallet = geldbörse; portemonnaie; geldbeutel; brieftasche
        trainers = sneaker; turnschuhe; freizeitschuhe
        running shoes = laufschuhe; joggingschuhe
        boots = stiefeletten; stiefel; ankle boots
        hiking boots = wanderschuhe; wanderstiefel; trekkingschuhe
        sandals = sandalen; sandaletten; espadrilles
        heels = pumps; high heels; stöckelschuhe
        slippers = hausschuhe; pantoffeln
        flip-flops = zehentrenner; badelatschen; flip flops
        ballet flats = ballerinas; flache schuhe
        yoga mat = yogamatte; gymnastikmatte; sportmatte
        dumbbells = hanteln; kurzhanteln; hantelset
        tent = zelt; campingzelt; kuppelzelt
        sleeping bag = schlafsack; mumienschlafsack
        backpack = rucksack; wanderrucksack; schulrucksack
        bicycle = fahrrad; mountainbike; rennrad
        bike helmet = fahrradhelm; radhelm
        tennis racket = tennisschläger; tennis racket
        water bottle = trinkflasche; wasserflasche; thermosflasche
        soccer ball = fußball; lederfußball; trainingsfußball
        american football = football; american football ball
        building blocks = bausteine; bauklötze; baukasten
        board game = brettspiel; gesellschaftsspiel; familienspiel
        jigsaw puzzle = puzzle; holzpuzzle
        doll = puppe; babypuppe; ankleidepuppe
        doll house = puppenhaus; puppenstube
        stuffed animal = kuscheltier; plüschtier; stofftier; teddy
        remote control car = ferngesteuertes auto; rc auto
        craft kit = bastelset; malset
        patio set = gartenmöbel set; gartengarnitur; sitzgruppe garten
        parasol = sonnenschirm; ampelschirm
        plant pot = blumentopf; pflanzkübel; übertopf
        garden hose = gartenschlauch; wasserschlauch
        lawn mower = rasenmäher; mähroboter
        hedge trimmer = heckenschere; akku heckenschere
        barbecue grill = grill; gasgrill; holzkohlegrill
        outdoor lights = gartenleuchten; solarleuchten; lichterkette außen
        face moisturiser = gesichtscreme; feuchtigkeitscreme; tagescreme
        serum = gesichtsserum; serum
        shampoo = shampoo; haarshampoo
        hair dryer = föhn; haartrockner; fön
        lipstick = lippenstift; lipgloss
        perfume = parfum; parfüm; eau de toilette
        electric shaver = elektrorasierer; rasierapparat; bartschneider
        make-up brush set = make-up pinsel; pinselset; kosmetikpinsel
        dog bed = hundebett; hundekorb; hundekissen
        dog lead = hundeleine; leine
        dog harness = hundegeschirr; brustgeschirr
        dog food = hundefutter; trockenfutter hund
        cat tree = kratzbaum; katzenbaum; kratztonne
        cat litter box = katzenklo; katzentoilette
        cat food = katzenfutter; nassfutter katze
        aquarium = aquarium; fischbecken
        cordless drill = akkuschrauber; akkubohrer; bohrmaschine
        drill bit set = bohrer set; bitset; steinbohrer
        circular saw = kreissäge; handkreissäge; stichsäge
        tool set = werkzeugset; werkzeugkoffer; steckschlüsselsatz
        hammer = hammer; gummihammer
        ladder = leiter; trittleiter; teleskopleiter
        work gloves = arbeitshandschuhe; gartenhandschuhe
        work light = arbeitsleuchte; baustrahler; werkstattlampe
        flashlight = taschenlampe; stirnlampe
        blow torch = lötlampe; gasbrenner; flambierbrenner
        potato crisps = chips; kartoffelchips
        frozen fries = pommes; pommes frites; backofenpommes
    """),
    colours=read_words(
        "Black = schwarz; White = weiß; Grey = grau; Charcoal = anthrazit; Silver = silber; Cream = creme; Beige = beige; "
        "Brown = braun; Oak = eiche; Walnut = nussbaum; Burgundy = weinrot | bordeaux; Red = rot; Orange = orange; "
        "Mustard = senfgelb; Yellow = gelb; Gold = gold; Pink = pink | rosa; Blush = rosa; Purple = lila; Navy = dunkelblau; "
        "Blue = blau; Sky = hellblau; Teal = petrol; Turquoise = türkis; Mint = mint; Olive = olivgrün; "
        "Forest = dunkelgrün; Green = grün; Multicolour = bunt"
    ),
    materials=read_words(
        "Velvet = samt; Linen = leinen; Leather = leder | echtleder; Faux Leather = kunstleder; Solid Oak = eiche massiv; "
        "Solid Pine = kiefer; Bamboo = bambus; Rattan = rattan; Metal = metall; Stainless Steel = edelstahl; "
        "Cast Iron = gusseisen; Aluminium = aluminium; Glass = glas; Marble = marmor; Ceramic = keramik; Silicone = silikon; "
        "Plastic = kunststoff | plastik; Cotton = baumwolle; Organic Cotton = bio baumwolle; Wool = wolle; "
        "Merino Wool = merinowolle; Cashmere = kaschmir; Down = daunen; Suede = wildleder; Silk = seide; Satin = satin; "
        "Corduroy = cord; Rubber = gummi; Teak = teak; Wood = holz; Plush = plüsch"
    ),
    audiences=read_words("Women's = damen; Men's = herren; Girls' = mädchen; Boys' = jungen; Unisex = unisex"),
    prices=(("günstig", "billig"), ("preiswert",), (), ("hochwertig",), ("premium", "luxus")),
    inch="zoll",
    before=frozenset({"audience"}),
    plain=plain_letters("é", "e", ä="ae", ö="oe", ü="ue", ß="ss"),
)

# Switzerland writes no "ß".
SWISS_GERMAN = replace(
    GERMAN,
    nouns={name: tuple(Noun(noun.text.replace("ß", "ss")) for noun in nouns) for name, nouns in GERMAN.nouns.items()},
    colours={name: tuple(said.replace("ß", "ss") for said in listed) for name, listed in GERMAN.colours.items()},
)

GERMAN_DIALECTS = {
    "de-DE": {},
    "de-AT": read_nouns("""
        armchair = fauteuil; ohrensessel; polstersessel
        office chair = bürosessel; schreibtischsessel; drehsessel
        trainers = turnschuhe; sneaker; sportschuhe
        slippers = patschen; hausschuhe; hauspatschen
        flip-flops = schlapfen; badeschlapfen; flip flops
        wallet = geldbörse; geldtasche; portemonnaie
        t-shirt = t-shirt; leiberl; shirt
        saucepan = kochtopf; reindl; topf
        waistcoat = gilet; anzuggilet; weste
        soccer ball = fußball; matchball
        parasol = sonnenschirm; ampelschirm
    """),
}

SWISS_DIALECTS = {
    "de-CH": read_nouns("""
        sofa = sofa; couch; polstergruppe
        armchair = fauteuil; polstersessel; sessel
        saucepan = pfanne; kochtopf; stielpfanne
        frying pan = bratpfanne; grillpfanne
        bicycle = velo; mountainbike; rennvelo
        bike helmet = velohelm; fahrradhelm
        dress = rock; kleid; sommerkleid
        slippers = finken; hausschuhe; pantoffeln
        smartphone = natel; handy; smartphone
        wallet = portemonnaie; geldbeutel
        waistcoat = gilet; anzuggilet
        barbecue grill = grill; gasgrill; holzkohlegrill
        potato crisps = chips; pommes chips
        frozen fries = pommes frites; pommes
        undershirt = unterleibchen; unterhemd
        soccer ball = fussball; lederfussball
        hair dryer = föhn; haartrockner
        dinnerware set = geschirrset; tafelservice
        trainers = turnschuhe; sneaker
    """),
}
