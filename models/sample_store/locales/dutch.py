"""Dutch of the Netherlands and of Belgium. Shoppers put the noun first, "bank grijs", which needs no ending."""

from __future__ import annotations

from models.sample_store.locales.language import Language, plain_letters, read_nouns, read_words

DUTCH = Language(
    code="nl",
    nouns=read_nouns("""
        sofa = bank; hoekbank; slaapbank; bankstel
        armchair = fauteuil; leunstoel; relaxfauteuil
        coffee table = salontafel; bijzettafel
        tv stand = tv-meubel; tv kast; tv meubel
        bookcase = boekenkast; open kast
        desk = bureau; werktafel; computertafel
        office chair = bureaustoel; kantoorstoel
        bed frame = bedframe; ledikant; bed
        dining table = eettafel; keukentafel
        rug = vloerkleed; kleed; tapijt
        cushion cover = kussenhoes; sierkussenhoes; kussensloop bank
        coffee maker = koffiezetapparaat; koffiemachine; espressomachine
        kettle = waterkoker; waterketel elektrisch
        air fryer = airfryer; heteluchtfriteuse
        blender = blender; smoothiemaker
        stand mixer = keukenmachine; keukenmixer; deegkneder
        frying pan = koekenpan; braadpan; bakpan
        saucepan = pan; kookpan; steelpan; soeppan
        knife set = messenset; messenblok; koksmessen set
        dinnerware set = serviesset; servies; bordenset
        food storage containers = vershoudbakjes; vershouddozen; bewaarbakjes
        television = televisie; tv; smart tv
        soundbar = soundbar; tv speaker
        headphones = koptelefoon; hoofdtelefoon; draadloze koptelefoon
        earbuds = oordopjes draadloos; draadloze oordopjes; oortjes
        smartphone = telefoon; smartphone; mobiel; mobiele telefoon
        phone case = telefoonhoesje; telefoonhoes; hoesje telefoon
        laptop = laptop; notebook
        laptop sleeve = laptoptas; laptophoes; laptop sleeve
        tablet = tablet; tekentablet
        tablet case = tablethoes; tablet hoes
        smartwatch = smartwatch; sporthorloge; activity tracker
        computer mouse = draadloze muis; muis; computermuis; gaming muis
        t-shirt = t-shirt; shirt korte mouw; tshirt
        shirt = overhemd; blouse; hemd met kraag
        jumper = trui; coltrui; gebreide trui
        hoodie = hoodie; capuchontrui; sweater met capuchon
        dress = jurk; zomerjurk; maxi jurk
        jeans = spijkerbroek; jeans
        coat = jas; winterjas; parka; mantel
        leggings = legging; sportlegging
        trousers = broek; chino; pantalon; cargobroek
        underwear = ondergoed; onderbroek; boxershort; slip
        undershirt = hemd; onderhemd; thermohemd
        waistcoat = gilet; gilet bij pak
        cardigan = vest; gebreid vest; cardigan
        nightgown = nachthemd; nachtjapon; slaapshirt
        socks = sokken; enkelsokken; kousen
        tights = panty; maillot; panty's
        handbag = handtas; damestas; schoudertas
        wallet = portemonnee; portefeuille; beurs
        trainers = sneakers; gympen; vrijetijdsschoenen
        running shoes = hardloopschoenen; loopschoenen
        boots = enkellaarsjes; laarzen; enkellaarzen
        hiking boots = wandelschoenen; bergschoenen; wandelboots
        sandals = sandalen; espadrilles
        heels = pumps; hakken; hoge hakken
        slippers = pantoffels; sloffen; huissloffen
        flip-flops = slippers; teenslippers; badslippers
        ballet flats = ballerina's; platte schoenen
        yoga mat = yogamat; fitnessmat; sportmat
        dumbbells = dumbbells; halters; gewichten
        tent = tent; kampeertent; koepeltent
        sleeping bag = slaapzak; mummieslaapzak
        backpack = rugzak; rugtas; schooltas
        bicycle = fiets; mountainbike; racefiets
        bike helmet = fietshelm; wielrenhelm
        tennis racket = tennisracket; racket tennis
        water bottle = drinkfles; waterfles; thermosfles
        soccer ball = voetbal; leren voetbal; zaalvoetbal
        american football = american football bal; rugby bal amerikaans; american football
        building blocks = bouwblokken; blokken; bouwset
        board game = bordspel; gezelschapsspel
        jigsaw puzzle = puzzel; legpuzzel; houten puzzel
        doll = pop; babypop; speelpop
        doll house = poppenhuis; houten poppenhuis
        stuffed animal = knuffel; knuffelbeer; pluche beer
        remote control car = bestuurbare auto; rc auto
        craft kit = knutselset; knutselpakket; schilderset
        patio set = tuinset; tuinmeubelen; loungeset
        parasol = parasol; zweefparasol
        plant pot = bloempot; plantenbak; plantenpot
        garden hose = tuinslang; waterslang
        lawn mower = grasmaaier; robotmaaier
        hedge trimmer = heggenschaar; accu heggenschaar
        barbecue grill = barbecue; bbq; gasbarbecue
        outdoor lights = tuinverlichting; buitenlampen; solar lampen
        face moisturiser = gezichtscrème; dagcrème; vochtinbrengende crème
        serum = gezichtsserum; serum
        shampoo = shampoo; haarshampoo
        hair dryer = föhn; haardroger
        lipstick = lippenstift; lipgloss
        perfume = parfum; eau de toilette; geurtje
        electric shaver = scheerapparaat; baardtrimmer
        make-up brush set = make-up kwasten; kwastenset; make up kwasten
        dog bed = hondenmand; hondenkussen; hondenbed
        dog lead = hondenriem; hondenlijn; riem hond
        dog harness = hondentuig; hondenharnas; tuigje hond
        dog food = hondenvoer; hondenbrokken
        cat tree = krabpaal; kattenboom; kattenpaal
        cat litter box = kattenbak; kattentoilet
        cat food = kattenvoer; kattenbrokken; natvoer kat
        aquarium = aquarium; vissenkom
        cordless drill = accuboormachine; boormachine; schroefmachine
        drill bit set = borenset; boren; bitset
        circular saw = cirkelzaag; decoupeerzaag
        tool set = gereedschapset; gereedschapskist; gereedschapskoffer
        hammer = hamer; klauwhamer
        ladder = ladder; trap; huishoudtrap
        work gloves = werkhandschoenen; tuinhandschoenen
        work light = werklamp; bouwlamp; looplamp
        flashlight = zaklamp; hoofdlamp; zaklantaarn
        blow torch = gasbrander; soldeerbrander; crème brûlée brander
        potato crisps = chips; zak chips; ribbelchips
        frozen fries = patat; friet; ovenfriet; diepvriesfriet
    """),
    colours=read_words(
        "Black = zwart; White = wit; Grey = grijs; Charcoal = antraciet; Silver = zilver; Cream = crème; Beige = beige; "
        "Brown = bruin; Oak = eiken; Burgundy = bordeaux; Red = rood; Orange = oranje; Mustard = okergeel; Yellow = geel; "
        "Gold = goud; Pink = roze; Purple = paars; Navy = donkerblauw; Blue = blauw; Sky = lichtblauw; Teal = petrol; "
        "Turquoise = turquoise; Mint = mintgroen; Olive = olijfgroen; Forest = donkergroen; Green = groen; "
        "Multicolour = meerkleurig | gekleurd"
    ),
    materials=read_words(
        "Velvet = velvet | fluweel; Linen = linnen; Leather = leer; Faux Leather = kunstleer; Solid Oak = massief eiken; "
        "Solid Pine = grenen; Bamboo = bamboe; Rattan = rotan; Metal = metaal; Stainless Steel = rvs; "
        "Cast Iron = gietijzer; Aluminium = aluminium; Glass = glas; Marble = marmer; Ceramic = keramiek; "
        "Silicone = siliconen; Plastic = kunststof | plastic; Cotton = katoen; Organic Cotton = biologisch katoen; "
        "Wool = wol; Merino Wool = merino wol; Cashmere = kasjmier; Suede = suède; Silk = zijde; Satin = satijn; "
        "Corduroy = ribstof | corduroy; Rubber = rubber; Teak = teak; Wood = hout; Plush = pluche"
    ),
    audiences=read_words("Women's = dames; Men's = heren; Girls' = meisjes; Boys' = jongens; Unisex = unisex"),
    prices=(("goedkoop",), ("voordelig",), (), ("kwaliteit",), ("luxe", "premium")),
    inch="inch",
    before=frozenset({"audience"}),
    plain=plain_letters("éèëïöüû", "eeeiouu"),
)

DUTCH_DIALECTS = {
    "nl-NL": {},
    "nl-BE": read_nouns("""
        sofa = zetel; sofa; hoekzetel; salon
        armchair = zeteltje; eenpersoonszetel; relaxzetel
        rug = tapijt; karpet; vloertapijt
        dress = kleed; kleedje; zomerkleed
        shirt = hemd; overhemd; blouse
        jumper = pull; trui; rolkraagpull
        cardigan = gilet; gebreide gilet; cardigan
        waistcoat = kostuumvest; mouwloos vest; ondervest
        undershirt = onderlijfje; marcelleke; singlet
        smartphone = gsm; smartphone
        phone case = gsm hoesje; hoesje smartphone; gsm cover
        boots = botten; bottines; enkelbotjes
        slippers = pantoffels; sloefen
        flip-flops = slippers; teenslippers; sletsen
        handbag = sacoche; handtas; saccoche
        wallet = portefeuille; portemonnee; geldbeugel
        backpack = rugzak; boekentas; rugzakje
        frozen fries = frieten; diepvriesfrieten; ovenfrieten
        potato crisps = chips; zak chips
        saucepan = kookpot; kastrol; steelpan
        frying pan = pan; braadpan; bakpan
        trousers = broek; chino; kostuumbroek
        bicycle = fiets; velo; koersfiets
        bike helmet = fietshelm; koershelm
        hair dryer = haardroger; föhn
        running shoes = loopschoenen; joggingschoenen
        trainers = sneakers; baskets; sportschoenen
        desk = bureau; schrijftafel
        electric shaver = scheerapparaat; scheermachine
        board game = gezelschapsspel; bordspel
        ladder = ladder; trapladder
        hedge trimmer = haagschaar; elektrische haagschaar
        lawn mower = grasmachine; grasmaaier; robotmaaier
        coffee maker = koffiezet; koffiemachine; percolator
        underwear = ondergoed; onderbroek; slip; boxershort
        nightgown = slaapkleed; nachtkleed; nachthemd
    """),
}
