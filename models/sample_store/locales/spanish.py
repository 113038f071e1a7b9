"""Spanish of Spain, Mexico, Argentina and Chile. Adjectives follow the noun and agree with it."""

from __future__ import annotations

from models.sample_store.locales.language import Language, NounForm, plain_letters, read_nouns, read_words
from models.sample_store.vocabulary import names

_INVARIABLE = frozenset(
    names(
        "rosa; naranja; beige; crema; violeta; turquesa; plata; oro; antracita; "
        "premium; mujer; hombre; niña; niño; unisex"
    )
)


def _ending(first_word: str) -> NounForm:
    gender = "f" if first_word.rstrip("s")[-1] == "a" else "m"
    return gender + ("p" if first_word.endswith("s") else "")


def _agree(adjective: str, form: NounForm) -> str:
    if adjective in _INVARIABLE or " " in adjective:
        return adjective
    if form.startswith("f") and adjective.endswith("o"):
        adjective = adjective[:-1] + "a"
    if form.endswith("p"):
        adjective = adjective.replace("ón", "on") + ("s" if adjective[-1] in "aeo" else "es")
    return adjective


SPANISH = Language(
    code="es",
    nouns=read_nouns("""
        sofa = sofá; sofá cama; sofá esquinero
        armchair = sillón; butaca; sillón orejero
        coffee table = mesa de centro/f; mesita de salón/f; mesa baja/f
        tv stand = mueble tv/m; mesa para tv/f; mueble de televisión/m
        bookcase = estantería; librería; estante para libros/m
        desk = escritorio; mesa de estudio/f; mesa de oficina/f
        office chair = silla de oficina; silla de escritorio; silla ergonómica
        bed frame = estructura de cama; canapé abatible; canapé; cama
        dining table = mesa de comedor; mesa extensible; mesa de cocina
        rug = alfombra; alfombra de salón
        cushion cover = funda de cojín; fundas cojines
        coffee maker = cafetera; cafetera expreso; máquina de café
        kettle = hervidor de agua; hervidor; hervidor eléctrico
        air fryer = freidora de aire; freidora sin aceite; airfryer
        blender = batidora de vaso; batidora
        stand mixer = amasadora; robot de repostería/m; batidora amasadora
        frying pan = sartén/f; sartén antiadherente/f
        saucepan = cazo; olla; cacerola
        knife set = juego de cuchillos; set de cuchillos; cuchillos de cocina
        dinnerware set = vajilla; juego de platos; vajilla completa
        food storage containers = recipientes herméticos; tuppers; fiambreras
        television = televisor; televisión/f; tele/f; smart tv/f
        soundbar = barra de sonido
        headphones = auriculares; cascos; auriculares bluetooth
        earbuds = auriculares inalámbricos; auriculares de botón
        smartphone = móvil; smartphone; teléfono móvil
        phone case = funda móvil; carcasa móvil; funda para teléfono
        laptop = portátil; ordenador portátil
        laptop sleeve = funda portátil; maletín portátil/m
        tablet = tablet/f; tableta
        tablet case = funda tablet; funda para tablet
        smartwatch = reloj inteligente; smartwatch; pulsera de actividad
        computer mouse = ratón inalámbrico; ratón; ratón gaming
        t-shirt = camiseta; camiseta manga corta
        shirt = camisa; blusa
        jumper = jersey; suéter; jersey de punto
        hoodie = sudadera con capucha; sudadera
        dress = vestido; vestido largo; vestido de fiesta
        jeans = vaqueros; pantalón vaquero; tejanos
        coat = abrigo; parka; plumífero; gabardina
        leggings = mallas; leggings/mp; mallas deportivas
        trousers = pantalones; pantalón; pantalones chinos; pantalón cargo
        underwear = ropa interior; calzoncillos; bragas; bóxer
        undershirt = camiseta interior; camiseta térmica
        waistcoat = chaleco; chaleco de traje
        cardigan = chaqueta de punto; cárdigan; rebeca
        nightgown = camisón; camisón de algodón
        socks = calcetines; calcetines tobilleros
        tights = medias; panty; pantis
        handbag = bolso; bolso de mano; bolso bandolera
        wallet = cartera; monedero; billetera
        trainers = zapatillas; deportivas; playeras; zapatillas deportivas
        running shoes = zapatillas running; zapatillas de correr
        boots = botines; botas; botines chelsea
        hiking boots = botas de montaña; botas de senderismo
        sandals = sandalias; alpargatas; sandalias de verano
        heels = zapatos de tacón; tacones; stilettos
        slippers = zapatillas de casa; pantuflas; zapatillas de estar por casa
        flip-flops = chanclas; chancletas; chanclas de playa
        ballet flats = bailarinas; manoletinas; zapatos planos
        yoga mat = esterilla yoga; esterilla; colchoneta de gimnasia
        dumbbells = mancuernas; pesas; mancuernas ajustables
        tent = tienda de campaña; tienda de camping
        sleeping bag = saco de dormir; saco momia
        backpack = mochila; mochila de senderismo; mochila escolar
        bicycle = bicicleta; bici; bicicleta de montaña
        bike helmet = casco bicicleta; casco de ciclismo
        tennis racket = raqueta de tenis; raqueta tenis
        water bottle = botella de agua; cantimplora; botella térmica
        soccer ball = balón de fútbol; balón; pelota de fútbol
        american football = balón de fútbol americano; balón nfl
        building blocks = bloques de construcción; juego de construcción; bloques
        board game = juego de mesa; juego de tablero
        jigsaw puzzle = puzzle; puzle; puzzle de madera
        doll = muñeca; muñeca bebé; muñeco bebé
        doll house = casa de muñecas
        stuffed animal = peluche; oso de peluche
        remote control car = coche teledirigido; coche rc; coche radiocontrol
        craft kit = kit de manualidades; manualidades; set de pintura
        patio set = conjunto de jardín; muebles de jardín
        parasol = sombrilla; sombrilla de jardín; parasol
        plant pot = maceta; macetero; tiesto
        garden hose = manguera; manguera de jardín
        lawn mower = cortacésped; robot cortacésped
        hedge trimmer = cortasetos/m; cortasetos eléctrico/m
        barbecue grill = barbacoa; barbacoa de gas; parrilla
        outdoor lights = luces de jardín/fp; luces solares/fp; guirnalda exterior
        face moisturiser = crema facial; crema hidratante; crema de día
        serum = sérum facial; sérum
        shampoo = champú; champú para el pelo
        hair dryer = secador de pelo; secador
        lipstick = pintalabios; barra de labios; labial
        perfume = perfume; colonia; eau de toilette
        electric shaver = afeitadora eléctrica; máquina de afeitar; recortadora de barba
        make-up brush set = brochas de maquillaje; set de brochas; pinceles de maquillaje
        dog bed = cama para perro; cama perro; colchón perro
        dog lead = correa perro; correa
        dog harness = arnés perro/m; arnés para perro/m
        dog food = pienso perro; comida para perros; pienso para perros
        cat tree = rascador gato; árbol para gatos; rascador
        cat litter box = arenero gato; arenero; bandeja de arena
        cat food = comida para gatos; pienso gato; comida húmeda gato
        aquarium = acuario; pecera
        cordless drill = taladro; taladro inalámbrico; atornillador
        drill bit set = juego de brocas; brocas; puntas de destornillador
        circular saw = sierra circular; sierra de calar
        tool set = juego de herramientas; caja de herramientas; maletín de herramientas
        hammer = martillo; mazo
        ladder = escalera; escalera plegable
        work gloves = guantes de trabajo; guantes de jardín
        work light = foco led trabajo; lámpara de trabajo
        flashlight = linterna; linterna led; linterna frontal
        blow torch = soplete; soplete de gas
        potato crisps = patatas fritas; patatas fritas de bolsa; chips/fp
        frozen fries = patatas fritas congeladas; patatas para freír; patatas prefritas
    """),
    colours=read_words(
        "Black = negro; White = blanco; Grey = gris; Charcoal = antracita; Silver = plateado; Cream = crema; Beige = beige; "
        "Brown = marrón; Oak = roble; Burgundy = burdeos; Red = rojo; Orange = naranja; Mustard = mostaza; Yellow = amarillo; "
        "Gold = dorado; Pink = rosa; Blush = rosa palo; Fuchsia = fucsia; Purple = morado; Navy = azul marino; Blue = azul; "
        "Sky = azul claro; Teal = verde azulado; Turquoise = turquesa; Mint = verde menta; Olive = verde oliva; "
        "Forest = verde oscuro; Green = verde; Multicolour = multicolor"
    ),
    materials=read_words(
        "Velvet = de terciopelo; Linen = de lino; Leather = de piel | de cuero; Faux Leather = polipiel; "
        "Solid Oak = roble macizo; Solid Pine = de pino; Bamboo = de bambú; Rattan = de ratán; Metal = de metal; "
        "Stainless Steel = acero inoxidable; Cast Iron = hierro fundido; Aluminium = aluminio; Glass = de cristal; "
        "Marble = de mármol; Ceramic = de cerámica; Silicone = silicona; Plastic = de plástico; Cotton = algodón | de algodón; "
        "Organic Cotton = algodón orgánico; Wool = de lana; Merino Wool = lana merino; Cashmere = cachemira; Suede = de ante; "
        "Silk = de seda; Satin = de satén; Corduroy = de pana; Rubber = de goma; Teak = de teca; Wood = madera | de madera"
    ),
    audiences=read_words("Women's = mujer; Men's = hombre; Girls' = niña; Boys' = niño; Unisex = unisex"),
    prices=(("barato",), ("económico",), (), ("de calidad",), ("premium", "de lujo")),
    inch="pulgadas",
    before=frozenset(),
    plain=plain_letters("áéíóúüñ", "aeiouun"),
    ending=_ending,
    agree=_agree,
)

SPANISH_DIALECTS = {
    "es-ES": {},
    "es-MX": read_nouns("""
        sofa = sala; sillón; sofá; sofá cama
        armchair = sillón individual; butaca; sillón reclinable individual
        rug = tapete; alfombra
        bookcase = librero; repisa para libros
        bed frame = base de cama; cama; cabecera con base
        smartphone = celular; teléfono celular; smartphone
        phone case = funda celular; funda para celular; protector celular
        laptop = laptop/f; computadora portátil
        laptop sleeve = funda laptop; portafolio laptop/m
        computer mouse = mouse; mouse inalámbrico; mouse gamer
        headphones = audífonos diadema; audífonos bluetooth; diadema
        earbuds = audífonos inalámbricos; audífonos
        television = pantalla; tele/f; televisión/f; smart tv/f
        t-shirt = playera; playeras; playera manga corta
        shirt = camisa; blusa
        jumper = suéter; suéter tejido
        hoodie = sudadera; sudadera con gorro
        jeans = pantalón de mezclilla; jeans; mezclilla
        coat = abrigo; chamarra; chamarra de invierno; gabardina
        leggings = leggings/mp; mallones
        underwear = calzones; ropa interior; trusa; bóxer; pantaletas
        undershirt = camiseta; camiseta interior
        cardigan = cárdigan; suéter abierto
        tights = medias; pantimedias; mallas
        socks = calcetines; calcetas; tines
        handbag = bolsa; bolsa de mano; bolsa de mujer; bolso
        wallet = cartera; billetera; monedero
        trainers = tenis/mp; tenis casuales/mp
        running shoes = tenis para correr/mp; tenis running/mp
        heels = zapatillas; zapatillas de tacón; tacones
        slippers = pantuflas; pantuflas de casa
        flip-flops = chanclas; sandalias de baño; chanclas de playa
        ballet flats = flats/mp; balerinas; zapatos de piso
        sandals = huaraches; sandalias
        blender = licuadora; licuadora de vaso
        stand mixer = batidora; batidora de pedestal
        kettle = hervidor de agua; tetera eléctrica
        saucepan = olla; cacerola; pocillo
        food storage containers = recipientes herméticos; toppers; contenedores de comida
        dog food = croquetas para perro; alimento para perro
        cat food = croquetas para gato; alimento para gato
        remote control car = carro a control remoto; coche control remoto
        barbecue grill = asador; asador de gas; parrilla
        jigsaw puzzle = rompecabezas/m; puzzle
        soccer ball = balón de fútbol; balón; pelota de fútbol
        american football = balón de fútbol americano; balón nfl
        potato crisps = papas; papas fritas; papitas
        frozen fries = papas a la francesa; papas a la francesa congeladas
        flashlight = lámpara de mano; linterna; lámpara led de mano
        water bottle = botella de agua; termo; cilindro para agua
        lawn mower = podadora; podadora de pasto
        parasol = sombrilla; sombrilla de jardín
        yoga mat = tapete de yoga; mat de yoga/m
        face moisturiser = crema facial; crema hidratante
        lipstick = labial; lápiz labial
        tent = casa de campaña; tienda de campaña
        office chair = silla de oficina; silla ejecutiva
        make-up brush set = brochas de maquillaje; kit de brochas
    """),
    "es-AR": read_nouns("""
        sofa = sillón; sillón de 3 cuerpos; sofá; sillón esquinero
        armchair = sillón individual; butaca; poltrona
        bookcase = biblioteca; estante para libros/m
        bed frame = cama; sommier con base; respaldo y base de cama
        coffee table = mesa ratona/f; mesita ratona/f
        tv stand = rack tv; mueble para tv
        kettle = pava eléctrica; pava; hervidor
        blender = licuadora; licuadora de vaso
        stand mixer = batidora; batidora planetaria
        air fryer = freidora de aire; freidora sin aceite
        smartphone = celular; celu; smartphone
        phone case = funda celular; funda de celu
        laptop = notebook/f; compu portátil/f
        laptop sleeve = funda notebook; maletín notebook/m
        computer mouse = mouse; mouse inalámbrico; mouse gamer
        headphones = auriculares; auriculares bluetooth; vincha auricular
        television = tele/f; televisor; smart tv/m
        t-shirt = remera; remera manga corta; remera básica
        jumper = pulóver; polera; sweater
        hoodie = buzo; buzo con capucha; buzo canguro
        cardigan = saco de lana; cárdigan; saquito tejido
        coat = campera; tapado; campera de abrigo; piloto
        jeans = jean; jeans; pantalón de jean
        leggings = calzas; calzas deportivas; calza
        underwear = ropa interior; bombachas; calzoncillos; bóxer
        undershirt = camiseta; camiseta térmica; musculosa interior
        socks = medias; soquetes; medias deportivas
        tights = medibachas; cancanes; can can
        handbag = cartera; cartera de cuero; bandolera
        wallet = billetera; billetera de cuero; monedero
        trainers = zapatillas; zapatillas urbanas
        running shoes = zapatillas running; zapatillas para correr
        flip-flops = ojotas; ojotas de playa
        slippers = pantuflas; pantuflas de abrigo
        ballet flats = chatitas; balerinas; ballerinas
        heels = zapatos de taco; tacos; stilettos
        boots = botas; borcegos; botitas
        frying pan = sartén/f; sartén antiadherente/f
        saucepan = olla; cacerola; jarrito
        food storage containers = tuppers; recipientes herméticos; viandas
        tent = carpa; carpa de camping
        sleeping bag = bolsa de dormir
        yoga mat = mat de yoga/m; colchoneta yoga
        soccer ball = pelota de fútbol; pelota
        american football = pelota de fútbol americano
        potato crisps = papas fritas; papitas; papas fritas de paquete
        frozen fries = papas bastón; papas congeladas; papas fritas congeladas
        remote control car = auto a control remoto; auto radiocontrol
        jigsaw puzzle = rompecabezas/m; puzzle
        doll = muñeca; bebote
        barbecue grill = parrilla; parrilla a gas; asador; chulengo
        lawn mower = cortadora de pasto; cortacésped; bordeadora
        dog food = alimento para perros; alimento perro
        cat food = alimento para gatos; alimento gato
        cat litter box = bandeja sanitaria gato; piedritas bandeja
        lipstick = labial; lápiz labial
        office chair = silla de escritorio; silla de oficina; silla gamer
        drill bit set = mechas; juego de mechas
    """),
    "es-CL": read_nouns("""
        sofa = sofá; sofá seccional; sofá cama
        armchair = sitial; sillón; bergere/f; butaca
        bed frame = cama; marco de cama; cama europea
        kettle = hervidor; tetera; hervidor eléctrico
        blender = licuadora; juguera
        stand mixer = batidora; batidora de pedestal
        smartphone = celular; teléfono celular; smartphone
        phone case = carcasa celular; funda celular
        laptop = notebook/m; computador portátil
        laptop sleeve = funda notebook; bolso notebook/m
        computer mouse = mouse; mouse inalámbrico; mouse gamer
        headphones = audífonos over ear; audífonos bluetooth; audífonos de diadema
        earbuds = audífonos; audífonos inalámbricos; audífonos in ear
        television = televisor; tele/f; smart tv/m
        t-shirt = polera; polera manga corta; polera básica
        jumper = chaleco; sweater; chaleco de lana
        hoodie = polerón; polerón con capucha
        waistcoat = chaleco de vestir; chaleco de traje
        coat = abrigo; parka; chaqueta de invierno
        leggings = calzas; leggings/mp
        underwear = ropa interior; calzones; calzoncillos; bóxer
        undershirt = camiseta; primera capa
        socks = calcetines; calcetas; soquetes
        tights = panty; pantys; medias panty
        handbag = cartera; cartera mujer; bandolera
        wallet = billetera; billetera de cuero; monedero
        trainers = zapatillas; zapatillas urbanas
        running shoes = zapatillas running; zapatillas para correr
        flip-flops = chalas; hawaianas; chalas de playa
        slippers = pantuflas; pantuflas de casa
        ballet flats = ballerinas; zapatos planos
        heels = zapatos de taco; tacos; stilettos
        tent = carpa; carpa de camping
        soccer ball = pelota de fútbol; balón de fútbol
        potato crisps = papas fritas; papas fritas bolsa
        frozen fries = papas prefritas; papas fritas congeladas
        remote control car = auto a control remoto; auto radiocontrol
        jigsaw puzzle = rompecabezas/m; puzzle
        barbecue grill = parrilla; parrilla a gas; asador
        lawn mower = cortadora de pasto; cortacésped
        parasol = quitasol; toldo quitasol
        dog food = alimento perro; comida para perros
        cat food = alimento gato; comida para gatos
        lipstick = labial; lápiz labial
        bookcase = librero; estante libros/m
        tv stand = rack tv; mueble tv
    """),
}
