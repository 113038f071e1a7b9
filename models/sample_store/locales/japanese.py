"""Japanese. Shoppers part the words of a query by blanks, the noun as often first as last; brands stay in Latin letters."""

# ruff: noqa: RUF001 - letters of Japanese

from __future__ import annotations

from models.sample_store.locales.language import Language, Nouns, read_nouns, read_words

JAPANESE = Language(
    code="ja",
    nouns=read_nouns("""
        sofa = ソファ; ソファー; ソファーベッド; カウチソファ
        armchair = 一人掛けソファ; アームチェア; ラウンジチェア
        coffee table = ローテーブル; センターテーブル; リビングテーブル
        tv stand = テレビ台; テレビボード; ローボード
        bookcase = 本棚; 書棚; ブックシェルフ
        desk = デスク; 机; パソコンデスク; 学習机
        office chair = オフィスチェア; デスクチェア; 事務椅子
        bed frame = ベッドフレーム; ベッド; すのこベッド
        dining table = ダイニングテーブル; 食卓; 食卓テーブル
        rug = ラグ; カーペット; ラグマット; 絨毯
        cushion cover = クッションカバー; 座布団カバー
        coffee maker = コーヒーメーカー; エスプレッソマシン
        kettle = 電気ケトル; ケトル; 湯沸かしポット
        air fryer = ノンフライヤー; エアフライヤー
        blender = ミキサー; ブレンダー; スムージーメーカー
        stand mixer = スタンドミキサー; パンこね機; キッチンミキサー
        frying pan = フライパン; スキレット
        saucepan = 鍋; 片手鍋; 両手鍋; ソースパン
        knife set = 包丁セット; ナイフセット; 包丁
        dinnerware set = 食器セット; お皿セット; 食器
        food storage containers = 保存容器; タッパー; 弁当箱
        television = テレビ; 液晶テレビ; 有機elテレビ
        soundbar = サウンドバー; テレビスピーカー
        headphones = ヘッドホン; ヘッドフォン; ワイヤレスヘッドホン
        earbuds = ワイヤレスイヤホン; イヤホン; 完全ワイヤレスイヤホン
        smartphone = スマホ; スマートフォン; 携帯電話
        phone case = スマホケース; 携帯ケース; 手帳型ケース
        laptop = ノートパソコン; ノートpc; ラップトップ
        laptop sleeve = パソコンケース; ノートパソコンケース; pcバッグ
        tablet = タブレット; タブレット端末; 液晶タブレット
        tablet case = タブレットケース; タブレットカバー
        smartwatch = スマートウォッチ; 活動量計; スマートバンド
        computer mouse = ワイヤレスマウス; マウス; ゲーミングマウス
        t-shirt = tシャツ; ティーシャツ; 半袖tシャツ
        shirt = シャツ; ワイシャツ; ブラウス
        jumper = セーター; ニット; タートルネック
        hoodie = パーカー; フーディー; トレーナー
        dress = ワンピース; ドレス; ロングワンピース
        jeans = ジーンズ; デニムパンツ; ジーパン
        coat = コート; ダウンジャケット; ジャンパー; トレンチコート
        leggings = レギンス; ヨガパンツ; スパッツ
        trousers = ズボン; パンツ; チノパン; スラックス
        underwear = 下着; ショーツ; ボクサーパンツ; ブリーフ
        undershirt = 肌着; インナーシャツ; アンダーシャツ
        waistcoat = ベスト; スーツベスト; ジレ
        cardigan = カーディガン; ニットカーディガン; 羽織り
        nightgown = ネグリジェ; ナイトガウン; ワンピースパジャマ
        socks = 靴下; ソックス; くるぶしソックス
        tights = タイツ; ストッキング; パンスト
        handbag = ハンドバッグ; ショルダーバッグ; トートバッグ
        wallet = 財布; 長財布; 二つ折り財布
        trainers = スニーカー; 運動靴; ズック
        running shoes = ランニングシューズ; ジョギングシューズ
        boots = ブーツ; ショートブーツ; アンクルブーツ
        hiking boots = 登山靴; トレッキングシューズ; ハイキングシューズ
        sandals = サンダル; ストラップサンダル; エスパドリーユ
        heels = パンプス; ハイヒール; ヒール
        slippers = スリッパ; ルームシューズ; 室内履き
        flip-flops = ビーチサンダル; ビーサン; トングサンダル
        ballet flats = バレエシューズ; フラットシューズ; ぺたんこ靴
        yoga mat = ヨガマット; トレーニングマット; エクササイズマット
        dumbbells = ダンベル; 可変式ダンベル; 鉄アレイ
        tent = テント; キャンプテント; ドームテント
        sleeping bag = 寝袋; シュラフ
        backpack = リュック; バックパック; リュックサック
        bicycle = 自転車; マウンテンバイク; クロスバイク
        bike helmet = 自転車ヘルメット; サイクルヘルメット
        tennis racket = テニスラケット; 硬式テニスラケット
        water bottle = 水筒; ウォーターボトル; マイボトル
        soccer ball = サッカーボール; フットサルボール
        american football = アメフトボール; アメリカンフットボール
        building blocks = 積み木; ブロック おもちゃ; ブロック
        board game = ボードゲーム; テーブルゲーム
        jigsaw puzzle = ジグソーパズル; パズル; 木製パズル
        doll = 人形; 着せ替え人形; お人形
        doll house = ドールハウス; 人形の家
        stuffed animal = ぬいぐるみ; テディベア; くまのぬいぐるみ
        remote control car = ラジコンカー; ラジコン; リモコンカー
        craft kit = 工作キット; 手芸キット; クラフトキット
        patio set = ガーデンテーブルセット; ガーデン家具; ガーデンファニチャー
        parasol = ガーデンパラソル; パラソル; 日よけ傘
        plant pot = 植木鉢; 鉢; プランター
        garden hose = 散水ホース; ホース; ホースリール
        lawn mower = 芝刈り機; 草刈り機; ロボット芝刈り機
        hedge trimmer = ヘッジトリマー; 生垣バリカン; 植木バリカン
        barbecue grill = バーベキューコンロ; bbqグリル; バーベキューグリル
        outdoor lights = ガーデンライト; ソーラーライト; 屋外ライト
        face moisturiser = 保湿クリーム; フェイスクリーム; 乳液
        serum = 美容液; セラム
        shampoo = シャンプー; ヘアシャンプー
        hair dryer = ドライヤー; ヘアドライヤー
        lipstick = 口紅; リップ; リップスティック
        perfume = 香水; オードトワレ; フレグランス
        electric shaver = 電気シェーバー; 髭剃り; シェーバー
        make-up brush set = メイクブラシ; 化粧筆; メイクブラシセット
        dog bed = 犬用ベッド; 犬ベッド; ペットベッド
        dog lead = 犬 リード; 犬用リード; 散歩リード
        dog harness = 犬 ハーネス; 犬用ハーネス; 胴輪
        dog food = ドッグフード; 犬の餌; 犬用ごはん
        cat tree = キャットタワー; 爪とぎポール
        cat litter box = 猫トイレ; 猫砂トイレ
        cat food = キャットフード; 猫の餌; 猫缶
        aquarium = 水槽; アクアリウム; 金魚鉢
        cordless drill = 電動ドライバー; 電動ドリル; インパクトドライバー
        drill bit set = ドリルビット; ドリル刃セット; ドライバービット
        circular saw = 丸ノコ; 電動丸のこ; ジグソー
        tool set = 工具セット; ツールセット; 工具箱セット
        hammer = ハンマー; 金槌; トンカチ
        ladder = はしご; 脚立; 踏み台はしご
        work gloves = 作業手袋; 軍手; 作業用手袋
        work light = 作業灯; ワークライト; 投光器
        flashlight = 懐中電灯; ledライト 懐中電灯; ヘッドライト
        blow torch = ガスバーナー; トーチバーナー; バーナー
        potato crisps = ポテトチップス; ポテチ
        frozen fries = 冷凍フライドポテト; フライドポテト; 冷凍ポテト
    """),
    colours=read_words(
        "Black = 黒 | ブラック; White = 白 | ホワイト; Grey = グレー | 灰色; Charcoal = チャコール; "
        "Silver = シルバー | 銀; Cream = クリーム色; Beige = ベージュ; Brown = 茶色 | ブラウン; Oak = オーク; "
        "Walnut = ウォールナット; Natural = ナチュラル; Burgundy = ワインレッド; Red = 赤 | レッド; "
        "Orange = オレンジ; Yellow = 黄色 | イエロー; Gold = ゴールド | 金; Pink = ピンク; Purple = 紫 | パープル; "
        "Navy = 紺 | ネイビー; Blue = 青 | ブルー; Sky = 水色; Turquoise = ターコイズ; Mint = ミント; "
        "Olive = オリーブ | カーキ; Forest = 深緑; Green = 緑 | グリーン; Multicolour = カラフル"
    ),
    materials=read_words(
        "Velvet = ベルベット; Linen = 麻 | リネン; Leather = 本革 | 革 | レザー; Faux Leather = 合皮; "
        "Solid Oak = オーク材; Solid Pine = パイン材; Bamboo = 竹; Rattan = ラタン | 籐; Metal = 金属; "
        "Steel = スチール; Stainless Steel = ステンレス; Cast Iron = 鋳鉄; Aluminium = アルミ; Glass = ガラス; "
        "Marble = 大理石; Ceramic = 陶器 | セラミック; Silicone = シリコン; Plastic = プラスチック; "
        "Cotton = 綿 | コットン; Organic Cotton = オーガニックコットン; Wool = ウール; Merino Wool = メリノウール; "
        "Cashmere = カシミヤ; Fleece = フリース; Suede = スエード; Silk = シルク; Satin = サテン; "
        "Corduroy = コーデュロイ; Rubber = ゴム; Teak = チーク; Wood = 木製; Canvas = キャンバス"
    ),
    audiences=read_words(
        "Women's = レディース; Men's = メンズ; Girls' = 女の子; Boys' = 男の子; Unisex = ユニセックス"
    ),
    prices=(("安い", "激安"), ("お買い得",), (), ("高品質",), ("高級",)),
    inch="インチ",
    before=frozenset({"audience"}),
    plain={},
)

JAPANESE_DIALECTS: dict[str, Nouns] = {"ja-JP": {}}
