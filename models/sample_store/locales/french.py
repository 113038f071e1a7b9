"""French of France, Belgium, Switzerland and Canada. Adjectives follow the noun and agree with it; feminine nouns are marked."""

from __future__ import annotations

from models.sample_store.locales.language import Language, NounForm, plain_letters, read_nouns, read_words
from models.sample_store.vocabulary import names

_FEMININE = {
    "noir": "noire",
    "blanc": "blanche",
    "gris": "grise",
    "vert": "verte",
    "bleu": "bleue",
    "violet": "violette",
}
_INVARIABLE = frozenset(
    names(
        "marron; orange; or; argent; crème; anthracite; turquoise; pas cher; haut de gamme; femme; homme; fille; garçon"
    )
)


def _ending(first_word: str) -> NounForm:
    return "mp" if first_word[-1] in "sx" and first_word not in ("tapis", "bas") else "m"


def _agree(adjective: str, form: NounForm) -> str:
    if adjective in _INVARIABLE or " " in adjective:
        return adjective
    if form.startswith("f"):
        adjective = _FEMININE.get(adjective, adjective)
    return adjective + "s" if form.endswith("p") and adjective[-1] not in "sx" else adjective


FRENCH = Language(
    code="fr",
    nouns=read_nouns("""
        sofa = canapé; canapé d'angle; canapé convertible; divan
        armchair = fauteuil; fauteuil de lecture; bergère/f
        coffee table = table basse/f; table de salon/f
        tv stand = meuble tv; banc tv
        bookcase = bibliothèque/f; étagère à livres/f
        desk = bureau; table de travail/f
        office chair = chaise de bureau/f; fauteuil de bureau
        bed frame = cadre de lit; lit; lit coffre
        dining table = table à manger/f; table extensible/f; table de cuisine/f
        rug = tapis; tapis de salon; tapis berbère
        cushion cover = housse de coussin/f; taie de coussin/f
        coffee maker = cafetière/f; machine à café/f; machine expresso/f
        kettle = bouilloire/f; bouilloire électrique/f
        air fryer = friteuse à air/f; friteuse sans huile/f; airfryer
        blender = blender; mixeur; machine à smoothie/f
        stand mixer = robot pâtissier; batteur sur socle
        frying pan = poêle/f; sauteuse/f; poêle à frire/f
        saucepan = casserole/f; marmite/f; faitout
        knife set = set de couteaux; bloc couteaux; couteaux de cuisine
        dinnerware set = service de table; service vaisselle; vaisselle/f
        food storage containers = boîtes de conservation/fp; boîtes alimentaires/fp; boîte repas/f
        television = télévision/f; téléviseur; télé/f; smart tv/f
        soundbar = barre de son/f
        headphones = casque audio; casque bluetooth; casque sans fil
        earbuds = écouteurs sans fil; écouteurs; écouteurs bluetooth
        smartphone = smartphone; téléphone portable; téléphone
        phone case = coque téléphone/f; étui téléphone; housse smartphone/f
        laptop = ordinateur portable; pc portable
        laptop sleeve = housse ordinateur portable/f; sacoche/f; sacoche ordinateur/f
        tablet = tablette/f; tablette tactile/f
        tablet case = housse tablette/f; coque tablette/f; étui tablette
        smartwatch = montre connectée/f; bracelet connecté
        computer mouse = souris sans fil/f; souris/f; souris gamer/f
        t-shirt = t-shirt; tee shirt; haut manches courtes
        shirt = chemise/f; chemisier
        jumper = pull; pull col roulé; pull-over
        hoodie = sweat à capuche; hoodie; sweat
        dress = robe/f; robe longue/f; robe de soirée/f
        jeans = jean; jean slim; pantalon en jean
        coat = manteau; doudoune/f; parka/f; trench
        leggings = legging; legging sport; legging de yoga
        trousers = pantalon; chino; pantalon cargo
        underwear = sous-vêtements; slip; culotte/f; culottes/fp; caleçon
        undershirt = maillot de corps; débardeur; tricot de peau
        waistcoat = gilet de costume; veston sans manches
        cardigan = gilet; cardigan; gilet en laine
        nightgown = chemise de nuit/f; nuisette/f
        socks = chaussettes/fp; socquettes/fp
        tights = collant; collants; bas
        handbag = sac à main; sac bandoulière; cabas
        wallet = portefeuille; porte-monnaie; porte-cartes
        trainers = baskets/fp; sneakers/fp; tennis/fp
        running shoes = chaussures de running/fp; chaussures de course/fp; running/fp
        boots = bottines/fp; boots; bottes/fp
        hiking boots = chaussures de randonnée/fp; chaussures de marche/fp
        sandals = sandales/fp; espadrilles/fp; nu-pieds
        heels = escarpins; talons hauts; chaussures à talons/fp
        slippers = chaussons; pantoufles/fp
        flip-flops = tongs/fp; claquettes/fp
        ballet flats = ballerines/fp; chaussures plates/fp
        yoga mat = tapis de yoga; tapis de gym; tapis de sport
        dumbbells = haltères; poids musculation; haltères réglables
        tent = tente/f; tente de camping/f
        sleeping bag = sac de couchage; duvet camping
        backpack = sac à dos; sac de randonnée; cartable
        bicycle = vélo; vtt; vélo de route
        bike helmet = casque vélo; casque de vélo
        tennis racket = raquette de tennis/f; raquette tennis/f
        water bottle = gourde/f; bouteille d'eau/f; gourde isotherme/f
        soccer ball = ballon de foot; ballon de football; ballon foot
        american football = ballon de football américain; ballon foot us
        building blocks = jeu de construction; briques de construction/fp; blocs de construction
        board game = jeu de société; jeu de plateau
        jigsaw puzzle = puzzle; puzzle en bois; casse-tête
        doll = poupée/f; poupon
        doll house = maison de poupée/f
        stuffed animal = peluche/f; doudou; nounours
        remote control car = voiture télécommandée/f; voiture rc/f
        craft kit = kit créatif; loisirs créatifs; kit de peinture
        patio set = salon de jardin; ensemble table jardin
        parasol = parasol; parasol déporté
        plant pot = pot de fleurs; cache-pot; jardinière/f
        garden hose = tuyau d'arrosage; tuyau de jardin
        lawn mower = tondeuse/f; tondeuse à gazon/f; robot tondeuse
        hedge trimmer = taille-haie; taille haie électrique
        barbecue grill = barbecue; barbecue à gaz; bbq
        outdoor lights = éclairage extérieur; lampes solaires/fp; guirlande extérieure/f
        face moisturiser = crème visage/f; crème hydratante/f; crème de jour/f
        serum = sérum; sérum visage
        shampoo = shampoing; shampooing
        hair dryer = sèche-cheveux; seche cheveux
        lipstick = rouge à lèvres; rouge à lèvre; gloss
        perfume = parfum; eau de parfum/f; eau de toilette/f
        electric shaver = rasoir électrique; tondeuse barbe/f
        make-up brush set = pinceaux maquillage; set de pinceaux
        dog bed = panier chien; lit pour chien; coussin chien
        dog lead = laisse chien/f; laisse/f
        dog harness = harnais chien; harnais
        dog food = croquettes chien/fp; nourriture chien/f; pâtée chien/f
        cat tree = arbre à chat; griffoir
        cat litter box = litière chat/f; bac à litière; maison de toilette chat/f
        cat food = croquettes chat/fp; pâtée chat/f; nourriture chat/f
        aquarium = aquarium; bocal à poisson
        cordless drill = perceuse/f; visseuse/f; perceuse sans fil/f
        drill bit set = forets; coffret forets; mèches perceuse/fp
        circular saw = scie circulaire/f; scie sauteuse/f
        tool set = boîte à outils/f; caisse à outils/f; coffret outils
        hammer = marteau; maillet
        ladder = échelle/f; escabeau
        work gloves = gants de travail; gants de jardin
        work light = projecteur de chantier; lampe de travail/f; baladeuse/f
        flashlight = lampe torche/f; lampe de poche/f; lampe frontale/f
        blow torch = chalumeau; lampe à souder/f
        potato crisps = chips/fp; chips de pomme de terre/fp
        frozen fries = frites/fp; frites surgelées/fp; frites au four/fp
    """),
    colours=read_words(
        "Black = noir; White = blanc; Grey = gris; Charcoal = anthracite; Silver = argent; Cream = crème; Beige = beige; "
        "Brown = marron; Oak = chêne; Burgundy = bordeaux; Red = rouge; Orange = orange; Mustard = jaune moutarde; "
        "Yellow = jaune; Gold = or; Pink = rose; Blush = rose poudré; Purple = violet; Navy = bleu marine; Blue = bleu; "
        "Sky = bleu ciel; Teal = bleu canard; Turquoise = turquoise; Mint = vert menthe; Sage = vert sauge; "
        "Olive = vert olive; Forest = vert foncé; Green = vert; Multicolour = multicolore"
    ),
    materials=read_words(
        "Velvet = velours | en velours; Linen = en lin; Leather = cuir | en cuir; Faux Leather = simili cuir; "
        "Solid Oak = chêne massif; Solid Pine = en pin; Bamboo = bambou | en bambou; Rattan = rotin | en rotin; "
        "Metal = métal | en métal; Stainless Steel = inox; Cast Iron = en fonte; Aluminium = en aluminium; Glass = en verre; "
        "Marble = en marbre; Ceramic = céramique | en céramique; Silicone = silicone; Plastic = plastique; Cotton = coton | en coton; "
        "Organic Cotton = coton bio; Wool = en laine; Merino Wool = laine mérinos; Cashmere = cachemire; Suede = en daim; "
        "Silk = en soie; Satin = satin; Corduroy = velours côtelé; Rubber = caoutchouc; Teak = en teck; Wood = bois | en bois"
    ),
    audiences=read_words("Women's = femme; Men's = homme; Girls' = fille; Boys' = garçon; Unisex = mixte"),
    prices=(("pas cher",), ("abordable",), (), ("de qualité",), ("haut de gamme", "de luxe")),
    inch="pouces",
    before=frozenset(),
    plain=plain_letters("àâçéèêëîïôûùü", "aaceeeeiiouuu", œ="oe"),
    ending=_ending,
    agree=_agree,
)

FRENCH_DIALECTS = {
    "fr-FR": {},
    "fr-BE": read_nouns("""
        handbag = sacoche/f; sac à main; sacoche femme/f
        laptop sleeve = housse ordinateur portable/f; mallette pc portable/f
        smartphone = gsm; smartphone; téléphone
        undershirt = singlet; maillot de corps; débardeur
        trainers = baskets/fp; sneakers/fp
        slippers = pantoufles/fp; chaussons
        backpack = sac à dos; mallette d'école/f
        cushion cover = taie de coussin/f; housse de coussin/f
        frozen fries = frites/fp; frites surgelées/fp
        flip-flops = tongs/fp; slaches/fp
    """),
    "fr-CH": read_nouns("""
        cardigan = jaquette/f; jaquette en laine/f; cardigan
        smartphone = natel; téléphone portable; smartphone
        hair dryer = foehn; sèche-cheveux
        slippers = pantoufles/fp; chaussons
        frozen fries = pommes frites/fp; frites/fp
        backpack = sac à dos; sac d'école
        saucepan = casserole/f; marmite/f
    """),
    "fr-CA": read_nouns("""
        sofa = divan; sofa; causeuse/f; sofa sectionnel
        handbag = sacoche/f; sac à main; bourse/f
        laptop sleeve = étui portable; housse ordinateur portable/f
        trainers = espadrilles/fp; souliers de course; chaussures sport/fp
        running shoes = souliers de jogging; espadrilles de course/fp; chaussures de course/fp
        sandals = sandales/fp; sandales d'été/fp
        socks = bas; bas de laine; bas courts
        tights = collants; bas-culotte; bas de nylon
        jumper = chandail; chandail en laine; tricot
        hoodie = chandail à capuche; coton ouaté; kangourou
        t-shirt = t-shirt; gaminet; chandail manches courtes
        undershirt = camisole/f; camisole de coton/f
        nightgown = jaquette/f; robe de nuit/f; jaquette de nuit/f
        underwear = bobettes/fp; sous-vêtements; boxers; petites culottes/fp
        cardigan = veste de laine/f; cardigan; veste tricotée/f
        flip-flops = gougounes/fp; sandales de plage/fp
        saucepan = chaudron; casserole/f; marmite/f
        frying pan = poêlon; poêle à frire/f; poêle/f
        soccer ball = ballon de soccer; ballon soccer
        american football = ballon de football; ballon football
        potato crisps = croustilles/fp; chips/fp
        frozen fries = frites/fp; frites surgelées/fp; patates frites/fp
        smartphone = cellulaire; téléphone cellulaire; téléphone intelligent
        phone case = étui cellulaire; étui téléphone
        bicycle = vélo; bicycle; bicyclette/f; vélo de montagne
        backpack = sac à dos; sac d'école
        stuffed animal = toutou; peluche/f
        television = télévision/f; télé/f; téléviseur
        flashlight = lampe de poche/f; lampe frontale/f
        work light = lampe de travail/f; lumière de travail/f
        blow torch = torche/f; torche au propane/f; chalumeau
        hair dryer = séchoir à cheveux; sèche-cheveux
        earbuds = écouteurs sans fil; écouteurs boutons
        shampoo = shampooing; shampoing
    """),
}
