"""Portuguese of Brazil and Portugal: the same grammar, and many other words for the same things."""

from __future__ import annotations

from dataclasses import replace

from models.sample_store.locales.language import Language, NounForm, Nouns, plain_letters, read_nouns, read_words
from models.sample_store.vocabulary import names

_INVARIABLE = frozenset(
    names("rosa; laranja; bege; creme; violeta; turquesa; cinza; prata; vinho; premium; menina; menino; unissex")
)


def _ending(first_word: str) -> NounForm:
    gender = "f" if first_word.rstrip("s")[-1] == "a" else "m"
    return gender + ("p" if first_word.endswith("s") else "")


def _agree(adjective: str, form: NounForm) -> str:
    if adjective in _INVARIABLE or " " in adjective:
        return adjective
    if form.startswith("f") and adjective.endswith("o"):
        adjective = adjective[:-1] + "a"
    if not form.endswith("p"):
        return adjective
    return {"azul": "azuis", "marrom": "marrons"}.get(adjective, adjective + "s")


PORTUGUESE = Language(
    code="pt",
    nouns=read_nouns("""
        sofa = sofá; sofá cama; sofá retrátil
        armchair = poltrona; poltrona decorativa
        coffee table = mesa de centro; mesinha de centro
        tv stand = rack para tv; painel tv; estante tv/f
        bookcase = estante de livros/f; estante/f; livreiro
        desk = escrivaninha; mesa de escritório; mesa para computador
        office chair = cadeira de escritório; cadeira giratória; cadeira executiva
        bed frame = cama; base de cama; cama box
        dining table = mesa de jantar; mesa de cozinha; mesa extensível
        rug = tapete; tapete sala; passadeira
        cushion cover = capa de almofada; capa almofada; almofada decorativa
        coffee maker = cafeteira; máquina de café; cafeteira elétrica
        kettle = chaleira elétrica; chaleira
        air fryer = airfryer/f; fritadeira elétrica; fritadeira sem óleo
        blender = liquidificador; mixer
        stand mixer = batedeira; batedeira planetária
        frying pan = frigideira; frigideira antiaderente
        saucepan = panela; caçarola; panela de pressão
        knife set = jogo de facas; conjunto de facas; facas de cozinha
        dinnerware set = aparelho de jantar; jogo de pratos; jogo de jantar
        food storage containers = potes herméticos; marmitas; potes de vidro
        television = televisão/f; tv/f; smart tv/f; televisor
        soundbar = soundbar/m; caixa de som para tv
        headphones = fone de ouvido bluetooth/m; headphone; fone de ouvido/m
        earbuds = fone sem fio/m; fones intra auriculares
        smartphone = celular; smartphone; aparelho celular
        phone case = capinha celular; capa de celular; case celular/f
        laptop = notebook; laptop
        laptop sleeve = capa notebook; pasta notebook; mala para notebook
        tablet = tablet; mesa digitalizadora
        tablet case = capa tablet; capa para tablet
        smartwatch = smartwatch; relógio inteligente; pulseira inteligente
        computer mouse = mouse; mouse sem fio; mouse gamer
        t-shirt = camiseta; camiseta manga curta; blusinha
        shirt = camisa; camisa social; blusa
        jumper = suéter; blusa de lã; pulôver
        hoodie = moletom; moletom com capuz; blusa de moletom
        dress = vestido; vestido longo; vestido de festa
        jeans = calça jeans; jeans
        coat = casaco; jaqueta; sobretudo; jaqueta puffer
        leggings = legging/f; calça legging
        trousers = calça; calça social; calça chino; calça cargo
        underwear = cueca; calcinha; roupa íntima
        undershirt = camiseta regata; regata interna; segunda pele/f
        waistcoat = colete; colete social
        cardigan = cardigã; casaquinho; cardigan
        nightgown = camisola; camisola de dormir; camisola de cetim
        socks = meias; meia; meia soquete
        tights = meia-calça; meia calça; meia fina
        handbag = bolsa; bolsa feminina; bolsa transversal
        wallet = carteira; carteira masculina; porta cartões
        trainers = tênis/m; tênis casual/m; sapatênis
        running shoes = tênis de corrida/m; tênis para correr/m
        boots = botas; bota; coturno
        hiking boots = bota de trilha; bota trekking; tênis de trilha/m
        sandals = sandálias; sandália; rasteirinha; alpargatas
        heels = scarpin; salto alto; sapato de salto
        slippers = pantufas; chinelo de quarto; pantufa
        flip-flops = chinelo; chinelos; havaianas
        ballet flats = sapatilhas; sapatilha; sapatilha feminina
        yoga mat = tapete de yoga; colchonete; tapete yoga
        dumbbells = halteres; pesos academia; kit halteres
        tent = barraca de camping; barraca
        sleeping bag = saco de dormir
        backpack = mochila; mochila escolar; mochila trekking
        bicycle = bicicleta; bike/f; mountain bike/f
        bike helmet = capacete bike; capacete ciclismo
        tennis racket = raquete de tênis/f; raquete tênis/f
        water bottle = garrafa de água; garrafa térmica; squeeze
        soccer ball = bola de futebol; bola de campo; bola
        american football = bola de futebol americano; bola futebol americano
        building blocks = blocos de montar; blocos de construção
        board game = jogo de tabuleiro
        jigsaw puzzle = quebra-cabeça/m; quebra cabeça/m
        doll = boneca; boneca bebê
        doll house = casa de boneca; casa de bonecas
        stuffed animal = pelúcia; urso de pelúcia; bichinho de pelúcia
        remote control car = carrinho de controle remoto; carro controle remoto
        craft kit = kit artesanato; kit de pintura
        patio set = conjunto de jardim; móveis de jardim; mesa e cadeiras jardim
        parasol = guarda-sol; ombrelone/m; guarda sol
        plant pot = vaso de planta; vaso; cachepô
        garden hose = mangueira; mangueira de jardim
        lawn mower = cortador de grama; roçadeira
        hedge trimmer = podador de cerca viva; aparador de cerca viva
        barbecue grill = churrasqueira; churrasqueira a gás; churrasqueira a carvão
        outdoor lights = luminária de jardim; luz solar jardim; refletor solar
        face moisturiser = hidratante facial/m; creme facial; creme hidratante
        serum = sérum facial; sérum
        shampoo = shampoo; xampu
        hair dryer = secador de cabelo; secador
        lipstick = batom; gloss labial
        perfume = perfume; colônia; eau de parfum
        electric shaver = barbeador elétrico; aparador de barba; máquina de barbear
        make-up brush set = pincéis de maquiagem; kit pincéis
        dog bed = cama para cachorro; caminha cachorro; cama pet
        dog lead = guia para cachorro; coleira; guia cachorro
        dog harness = peitoral cachorro; peitoral
        dog food = ração cachorro; ração para cães; ração
        cat tree = arranhador; arranhador gato; torre para gatos
        cat litter box = caixa de areia; caixa de areia gato; bandeja de areia
        cat food = ração gato; ração para gatos; sachê gato
        aquarium = aquário
        cordless drill = furadeira; parafusadeira; furadeira sem fio
        drill bit set = jogo de brocas; brocas; bits parafusadeira
        circular saw = serra circular; serra tico-tico
        tool set = jogo de ferramentas; caixa de ferramentas; kit ferramentas
        hammer = martelo; marreta
        ladder = escada; escada dobrável
        work gloves = luvas de trabalho; luvas de jardinagem; luva de proteção
        work light = refletor de led; luminária de trabalho
        flashlight = lanterna; lanterna led; lanterna de cabeça
        blow torch = maçarico; maçarico a gás
        potato crisps = batata chips; salgadinho de batata; chips/fp
        frozen fries = batata frita; batata congelada; batata palito congelada
    """),
    colours=read_words(
        "Black = preto; White = branco; Grey = cinza; Charcoal = grafite; Silver = prata; Cream = creme; Beige = bege; "
        "Brown = marrom; Oak = carvalho; Burgundy = vinho; Red = vermelho; Orange = laranja; Mustard = mostarda; "
        "Yellow = amarelo; Gold = dourado; Pink = rosa; Blush = rosa claro; Purple = roxo; Navy = azul marinho; Blue = azul; "
        "Sky = azul claro; Teal = azul petróleo; Turquoise = turquesa; Mint = verde menta; Olive = verde oliva; "
        "Forest = verde escuro; Green = verde; Multicolour = colorido"
    ),
    materials=read_words(
        "Velvet = de veludo | veludo; Linen = de linho | linho; Leather = couro | de couro; Faux Leather = couro sintético; "
        "Solid Oak = carvalho maciço; Solid Pine = de pinho; Bamboo = bambu | de bambu; Rattan = rattan; Metal = de metal; "
        "Stainless Steel = inox | aço inox; Cast Iron = ferro fundido; Aluminium = alumínio; Glass = de vidro | vidro; "
        "Marble = mármore; Ceramic = cerâmica | de cerâmica; Silicone = silicone; Plastic = plástico; "
        "Cotton = algodão | de algodão; Organic Cotton = algodão orgânico; Wool = de lã; Cashmere = caxemira; Suede = camurça; "
        "Silk = seda | de seda; Satin = cetim; Corduroy = veludo cotelê; Rubber = borracha; Teak = teca; Wood = madeira | de madeira"
    ),
    audiences=read_words("Women's = feminino; Men's = masculino; Girls' = menina; Boys' = menino; Unisex = unissex"),
    prices=(("barato",), ("em conta",), (), ("de qualidade",), ("premium", "de luxo")),
    inch="polegadas",
    before=frozenset(),
    plain=plain_letters("áàâãçéêíóôõú", "aaaaceeiooou"),
    ending=_ending,
    agree=_agree,
)

EUROPEAN_PORTUGUESE = replace(
    PORTUGUESE,
    colours={**PORTUGUESE.colours, "Brown": ("castanho",), "Burgundy": ("bordô",), "Multicolour": ("multicolor",)},
)

PORTUGUESE_DIALECTS: dict[str, Nouns] = {"pt-BR": {}}

EUROPEAN_DIALECTS = {
    "pt-PT": read_nouns("""
        armchair = cadeirão; poltrona
        tv stand = móvel tv; móvel de televisão
        bookcase = estante/f; estante de livros/f
        desk = secretária; secretária de computador
        office chair = cadeira de escritório; cadeira de secretária
        bed frame = cama; estrado com cabeceira; cama de casal
        rug = tapete; carpete/f; passadeira
        coffee maker = máquina de café; cafeteira
        kettle = jarro elétrico; chaleira elétrica; fervedor
        air fryer = fritadeira sem óleo; fritadeira de ar; airfryer/f
        blender = liquidificadora; batedora de copo; misturadora de batidos
        stand mixer = batedeira; robô de cozinha/m
        frying pan = frigideira; sertã
        saucepan = tacho; panela; caçarola
        knife set = conjunto de facas; cepo de facas
        dinnerware set = serviço de jantar; serviço de mesa; loiça
        food storage containers = caixas herméticas; marmitas; tupperware
        headphones = auscultadores; auscultadores bluetooth; headphones
        earbuds = auriculares; auriculares sem fios; earbuds
        smartphone = telemóvel; smartphone
        phone case = capa telemóvel; capa de telemóvel
        laptop = portátil; computador portátil
        laptop sleeve = bolsa portátil; mala para portátil; pasta portátil
        computer mouse = rato sem fios; rato; rato gaming
        t-shirt = t-shirt/f; t-shirt manga curta/f
        jumper = camisola; camisola de lã; camisola de gola alta
        hoodie = sweatshirt com capuz/f; sweat com capuz/f; hoodie
        jeans = calças de ganga; jeans
        coat = casaco; casaco de inverno; sobretudo; parka
        leggings = leggings/fp; leggings desporto/fp
        trousers = calças; calças chino; calças cargo
        underwear = cuecas; boxers; roupa interior
        undershirt = camisola interior; camisola térmica interior
        cardigan = casaco de malha; cardigã
        nightgown = camisa de noite; camisa de dormir
        socks = meias; peúgas; meias desporto
        tights = collants; meias de vidro
        handbag = mala; carteira de senhora; mala de senhora; mala de mão
        wallet = carteira; porta-moedas; carteira de homem
        trainers = ténis/m; sapatilhas; sapatilhas casuais
        running shoes = ténis de corrida/m; sapatilhas de corrida
        boots = botins; botas; botas de cano curto
        hiking boots = botas de caminhada; botas de montanha
        heels = sapatos de salto alto; stilettos; saltos altos
        slippers = chinelos; pantufas; chinelos de quarto
        flip-flops = havaianas; chinelos de dedo; chinelos de praia
        ballet flats = sabrinas; sabrinas de senhora
        yoga mat = tapete de yoga; colchão de yoga/m
        dumbbells = halteres; pesos
        tent = tenda; tenda de campismo
        sleeping bag = saco-cama; saco cama
        tennis racket = raquete de ténis/f
        jigsaw puzzle = puzzle; quebra-cabeças/m
        stuffed animal = peluche; urso de peluche
        remote control car = carro telecomandado
        parasol = guarda-sol; chapéu de sol
        garden hose = mangueira; mangueira de jardim
        lawn mower = corta-relva; máquina de cortar relva/f
        hedge trimmer = corta-sebes/m
        barbecue grill = barbecue; grelhador; churrasqueira
        shampoo = champô; shampoo
        face moisturiser = creme hidratante; creme de rosto
        make-up brush set = pincéis de maquilhagem; conjunto pincéis
        electric shaver = máquina de barbear; aparador de barba
        perfume = perfume; água de colónia; eau de toilette
        outdoor lights = candeeiro de jardim; luzes solares jardim
        dog bed = cama para cão; cama cão
        dog lead = trela; trela para cão
        dog harness = peitoral cão; arnês cão/m
        dog food = ração cão; comida para cão
        cordless drill = berbequim; aparafusadora; berbequim sem fios
        drill bit set = conjunto de brocas; brocas
        circular saw = serra circular; serra tico-tico
        ladder = escadote; escada
        work light = projetor led; foco de trabalho
        potato crisps = batatas fritas de pacote; batatas fritas; batatas fritas onduladas
        frozen fries = batatas pré-fritas; batatas congeladas; batatas fritas congeladas
    """),
}
