"""Turkish. All that describes a noun stands before it and never changes."""

# ruff: noqa: RUF001 - letters of Turkish

from __future__ import annotations

from models.sample_store.locales.language import Language, Nouns, plain_letters, read_nouns, read_words

TURKISH = Language(
    code="tr",
    nouns=read_nouns("""
        sofa = kanepe; koltuk takımı; köşe koltuk; divan
        armchair = tekli koltuk; berjer; koltuk
        coffee table = orta sehpa; sehpa
        tv stand = tv ünitesi; televizyon sehpası; tv sehpası
        bookcase = kitaplık; kitap rafı
        desk = çalışma masası; bilgisayar masası; ofis masası
        office chair = ofis koltuğu; çalışma sandalyesi; ofis sandalyesi
        bed frame = karyola; baza; yatak başlığı ve baza
        dining table = yemek masası; mutfak masası
        rug = halı; kilim; yolluk
        cushion cover = kırlent kılıfı; yastık kılıfı kırlent; kırlent
        coffee maker = kahve makinesi; filtre kahve makinesi; espresso makinesi
        kettle = su ısıtıcı; kettle; elektrikli çaydanlık
        air fryer = airfryer; yağsız fritöz; sıcak hava fritözü
        blender = blender; smoothie blender; sürahi blender
        stand mixer = stand mikser; mutfak şefi; hamur yoğurma makinesi
        frying pan = tava; kızartma tavası
        saucepan = tencere; sos tenceresi; sütlük
        knife set = bıçak seti; mutfak bıçağı seti
        dinnerware set = yemek takımı; tabak takımı
        food storage containers = saklama kabı; saklama kabı seti; beslenme kutusu
        television = televizyon; tv; smart tv
        soundbar = soundbar; tv hoparlörü; ses sistemi tv
        headphones = kulaküstü kulaklık; bluetooth kulaklık; kafa üstü kulaklık
        earbuds = kulak içi kulaklık; kablosuz kulaklık
        smartphone = cep telefonu; telefon; akıllı telefon
        phone case = telefon kılıfı; kılıf; telefon kabı
        laptop = laptop; dizüstü bilgisayar; notebook
        laptop sleeve = laptop çantası; laptop kılıfı; notebook çantası
        tablet = tablet; grafik tablet
        tablet case = tablet kılıfı; tablet kabı
        smartwatch = akıllı saat; akıllı bileklik
        computer mouse = mouse; kablosuz mouse; fare
        t-shirt = tişört; t-shirt; kısa kollu tişört
        shirt = gömlek; bluz
        jumper = kazak; triko kazak; boğazlı kazak
        hoodie = kapüşonlu sweatshirt; sweatshirt; kapşonlu
        dress = elbise; abiye elbise; yazlık elbise
        jeans = kot pantolon; jean; kot
        coat = mont; kaban; palto; trençkot
        leggings = tayt; spor tayt
        trousers = pantolon; kumaş pantolon; kargo pantolon
        underwear = külot; iç çamaşırı; boxer; slip
        undershirt = atlet; fanila; iç giyim atlet
        waistcoat = yelek; takım elbise yeleği
        cardigan = hırka; örgü hırka
        nightgown = gecelik; uzun gecelik
        socks = çorap; patik çorap; soket çorap
        tights = külotlu çorap; ince çorap
        handbag = el çantası; kol çantası; omuz çantası; kadın çanta
        wallet = cüzdan; kartlık; deri cüzdan
        trainers = spor ayakkabı; sneaker; günlük ayakkabı
        running shoes = koşu ayakkabısı; yürüyüş ayakkabısı
        boots = bot; çizme; postal
        hiking boots = outdoor bot; trekking botu; dağcı botu
        sandals = sandalet; yazlık sandalet; espadril
        heels = topuklu ayakkabı; stiletto; gece ayakkabısı
        slippers = ev terliği; panduf; ev ayakkabısı
        flip-flops = parmak arası terlik; plaj terliği; terlik
        ballet flats = babet; düz ayakkabı
        yoga mat = yoga matı; pilates minderi; egzersiz matı
        dumbbells = dambıl; ağırlık seti; dambıl seti
        tent = çadır; kamp çadırı
        sleeping bag = uyku tulumu
        backpack = sırt çantası; okul çantası; dağcı çantası
        bicycle = bisiklet; dağ bisikleti
        bike helmet = bisiklet kaskı; kask bisiklet
        tennis racket = tenis raketi; raket
        water bottle = su matarası; matara; termos
        soccer ball = futbol topu; top; maç topu
        american football = amerikan futbolu topu; ragbi topu
        building blocks = yapı blokları; bloklar; ahşap bloklar
        board game = kutu oyunu; masa oyunu
        jigsaw puzzle = puzzle; yapboz; ahşap puzzle
        doll = oyuncak bebek; et bebek
        doll house = oyuncak ev; bebek evi
        stuffed animal = peluş oyuncak; peluş; oyuncak ayı
        remote control car = uzaktan kumandalı araba; kumandalı araba
        craft kit = hobi seti; el işi seti; boyama seti
        patio set = bahçe takımı; bahçe mobilyası; balkon takımı
        parasol = bahçe şemsiyesi; güneş şemsiyesi
        plant pot = saksı; çiçek saksısı
        garden hose = bahçe hortumu; hortum; su hortumu
        lawn mower = çim biçme makinesi; çim biçici
        hedge trimmer = çit budama makinesi; çit kesme makinesi
        barbecue grill = mangal; barbekü; gazlı barbekü
        outdoor lights = bahçe aydınlatma; solar bahçe lambası; bahçe lambası
        face moisturiser = yüz kremi; nemlendirici krem; nemlendirici
        serum = yüz serumu; serum
        shampoo = şampuan; saç şampuanı
        hair dryer = saç kurutma makinesi; fön makinesi
        lipstick = ruj; mat ruj; dudak parlatıcısı
        perfume = parfüm; koku; edt parfüm
        electric shaver = tıraş makinesi; sakal kesme makinesi
        make-up brush set = makyaj fırçası seti; makyaj fırçası
        dog bed = köpek yatağı; köpek minderi
        dog lead = köpek tasması; köpek gezdirme kayışı
        dog harness = köpek göğüs tasması; göğüs tasması
        dog food = köpek maması; kuru köpek maması
        cat tree = kedi tırmalama tahtası; tırmalama direği; kedi evi tırmalama
        cat litter box = kedi tuvaleti; kum kabı; kedi kum kabı
        cat food = kedi maması; yaş kedi maması
        aquarium = akvaryum; balık akvaryumu
        cordless drill = akülü matkap; matkap; şarjlı vidalama
        drill bit set = matkap ucu seti; matkap ucu
        circular saw = daire testere; dekupaj testere
        tool set = alet seti; takım çantası; el aletleri seti
        hammer = çekiç; lastik çekiç
        ladder = merdiven; katlanır merdiven
        work gloves = iş eldiveni; bahçe eldiveni
        work light = çalışma lambası; led projektör
        flashlight = el feneri; fener; kafa lambası
        blow torch = pürmüz; gaz pürmüz; çakmak pürmüz
        potato crisps = cips; patates cipsi
        frozen fries = dondurulmuş patates; parmak patates; donuk patates
    """),
    colours=read_words(
        "Black = siyah; White = beyaz; Grey = gri; Charcoal = antrasit; Silver = gümüş; Cream = krem; Beige = bej; "
        "Brown = kahverengi; Oak = meşe; Walnut = ceviz; Burgundy = bordo; Red = kırmızı; Orange = turuncu; Mustard = hardal; "
        "Yellow = sarı; Gold = altın; Pink = pembe; Blush = pudra; Fuchsia = fuşya; Purple = mor; Navy = lacivert; Blue = mavi; "
        "Sky = açık mavi; Teal = petrol mavisi; Turquoise = turkuaz; Mint = mint yeşili; Olive = haki; Forest = koyu yeşil; "
        "Green = yeşil; Multicolour = renkli"
    ),
    materials=read_words(
        "Velvet = kadife; Linen = keten; Leather = deri | hakiki deri; Faux Leather = suni deri; Solid Oak = masif meşe; "
        "Solid Pine = çam; Bamboo = bambu; Rattan = rattan; Metal = metal; Stainless Steel = paslanmaz çelik; Cast Iron = döküm; "
        "Aluminium = alüminyum; Glass = cam; Marble = mermer; Ceramic = seramik; Silicone = silikon; Plastic = plastik; "
        "Cotton = pamuklu; Organic Cotton = organik pamuk; Wool = yün; Cashmere = kaşmir; Suede = süet; Silk = ipek; "
        "Satin = saten; Corduroy = fitilli kadife; Rubber = kauçuk; Wood = ahşap; Plush = peluş"
    ),
    audiences=read_words(
        "Women's = kadın | bayan; Men's = erkek; Girls' = kız çocuk; Boys' = erkek çocuk; Unisex = unisex"
    ),
    prices=(("ucuz",), ("uygun fiyatlı",), (), ("kaliteli",), ("lüks", "premium")),
    inch="inç",
    before=frozenset({"colour", "material", "audience", "size", "brand", "price"}),
    plain=plain_letters("çğıöşüâ", "cgiosua"),
)

TURKISH_DIALECTS: dict[str, Nouns] = {"tr-TR": {}}
