r"""Phrases of injection in languages other than English, for ``injection.*``.

Recall was measured for the languages of the evaluation data (Arabic, Bengali, Chinese, French, German,
Hindi, Japanese, Russian, Spanish); Dutch, Italian, Korean, Polish, Portuguese and Turkish follow the
same plan unmeasured. In each: orders to drop earlier instructions, first with the order and then with
what it is about or the other way round, as the grammar has it. What is no instruction, such as "the
question above", counts only where an order to answer something else follows.

A space stands for any run of white space. Patterns are folded like the texts (see ``folding``), so they
are written with their accents. ``\b`` knows ASCII only and is of use in Latin script alone.
"""

from __future__ import annotations

from typing import Final

__all__ = ["OVERRIDE", "PERSONA", "PROMPT_LEAK"]

_FEW: Final = r"(?:[^\s.!?।。]{1,24} ){0,4}?"  # up to four words of any script
_SOME: Final = r"[^\s.!?;:,।。、]{0,8}?"  # up to eight characters where words are not set apart
_ON: Final = r"[^.!?।。]{0,40}?"  # on in the same sentence

_DE_DROP: Final = (
    r"(?:ignorier\w*|missacht\w*|vergiss|vergesst|vergessen sie|verwirf|verwerfen sie|überschreib\w*)"
)
_DE_RULES: Final = (
    r"(?:anweisung|instruktion|befehl|regel|vorgabe|anordnung|aufforderung|aufgabe|richtlinie|auftrag"
    r"|eingabeaufforderung|systemprompt|prompt|ausführung|kontext)"
)
_DE_EARLIER: Final = (
    r"(?:vorherige|vorige|bisherige|obige|oben genannte|oben stehende|frühere|vorangegangene"
    r"|vorangehende|vorstehende|vorhergehende|ursprüngliche)\w*"
)
_DE: Final = (
    rf"\b{_DE_DROP} {_FEW}{_DE_EARLIER} {_FEW}{_DE_RULES}\w*",
    rf"\b{_DE_DROP} (?:(?:nun|jetzt|bitte) )*alles?\b(?: {_DE_RULES}|[,!;]"
    rf"| {_FEW}(?:davor|zuvor|vorher|bisher|gesagt|{_DE_RULES}\w*))",
    rf"\b{_DE_DROP} (?:bitte )?(?:sie )?(?:meine|deine|ihre|eure) (?:system)?(?:anweisung"
    rf"|instruktion|regel"
    r"|richtlinie|vorgabe|prompt)\w*",
    rf"\b{_DE_DROP} {_FEW}{_DE_EARLIER} (?:frage|problem|erinnerung|nachricht|text)\w*,? und "
    rf"(?:\w+ ){{0,5}}"
    r"(?:aus|wiederhol\w+|antwort\w+|schreib\w+|gib|geben|füg\w+|nur|einfach|direkt)\b",
    rf"\b{_DE_EARLIER} (?:{_DE_RULES}\w*|information\w*|frage\w*)(?:,[^.!?,]{{1,40}},)?[^.!?,]{{0,40}}?"
    r"\b(?:zu )?(?:ignorieren?|vergessen|missachten|hinter sich|aus dem kopf|irrelevant|ungültig"
    r"|außer acht)\b",
    rf"\babweichend (?:zu|von) (?:den |allen )?{_DE_EARLIER} {_DE_RULES}\w*",
    rf"\b(?:nun|jetzt) folgen (?:\w+ )?(?:neue|weitere) {_DE_RULES}\w*",
)

_FR_DROP: Final = (
    r"(?:ignore[rz]?|oublie[rz]?|négligez|ne (?:tiens|tenez) (?:pas|plus) compte d\w+"
    r"|fai(?:s|tes) abstraction d\w+)"
)
_FR_RULES: Final = r"(?:instruction|consigne|règle|directive|ordre|commande|invite|demande|message)s?"
_FR: Final = (
    rf"\b{_FR_DROP} (?:[\w']+ ){{0,4}}?(?:l')?{_FR_RULES} (?:[\w']+ ){{0,2}}?"
    r"(?:précédent|antérieur|initial|ci-dessus|d'avant|donné)\w*",
    rf"\b{_FR_DROP} (?:tou(?:te)?s (?:les|tes|vos) {_FR_RULES}|tout ce qu)",
    rf"\b{_FR_DROP} (?:les?|la|cette|ces) (?:question|problème|rappel|avertissement)s?"
    rf"(?: ci-dessus| précédente?s?)?,? et {_ON}"
    r"(?:affich|réponde|ajout|répét|écri|sort|entr|saisi|dis|donn)\w*",
)

_ES_DROP: Final = r"(?:ignora|ignore|ignorar|ignoren|olvida|olvide|olvidar|descarta|haz caso omiso de)"
_ES_RULES: Final = (
    r"(?:instrucci(?:ón|ones)|reglas?|indicaci(?:ón|ones)|órdenes|orden|directrices|directivas?|comandos?"
    r"|mensajes?|prompts?|consignas?)"
)
_ES: Final = (
    rf"\b{_ES_DROP} (?:\w+ ){{0,4}}?(?:{_ES_RULES} (?:\w+ ){{0,3}}?"
    rf"(?:anteriores|anterior|previas?|previos?|iniciales|de arriba)|(?:anteriores|previas) "
    rf"{_ES_RULES})\b",
    rf"\b{_ES_DROP} (?:tod[ao]s (?:las|los|tus|sus) {_ES_RULES}|todo (?:lo )?que)\b",
    rf"\b{_ES_DROP} (?:las?|los?|el) (?:preguntas?|problemas?|recordatorios?) anterior(?:es)? y {_ON}"
    r"(?:emit|respond|escrib|agreg|repit|muestr|imprim|di)\w*",
)

_RU_RULES: Final = (
    r"(?:инструкци|команд|указани|правил|вопрос|приглашени|запрос|директив|сообщени|проблем|ограничени"
    r"|промпт|подсказк|напоминани|предупреждени|установк|задани)\pL{0,4}"
)
_RU: Final = (
    r"(?:(?:про)?игнориру(?:й|йте)|игнорировать|забуд(?:ь|ьте)|отбрось(?:те)?|не обраща(?:й|йте) "
    r"внимания на) "
    rf"{_FEW}(?:предыдущ\pL{{2,3}}|приведенн\pL{{2,3}} выше|вышеуказанн\pL{{2,3}}|указанн\pL{{2,3}} выше"
    rf"|прежн\pL{{2,3}}|все|всё|эти свои|свои|первоначальн\pL{{2,3}}|системн\pL{{2,3}}) "
    rf"{_FEW}{_RU_RULES}",
)

_ZH_DROP: Final = (
    r"(?:忽略|忽視|忽视|无视|無視|不(?:要|用|必)?(?:管|理会|理會|遵守|遵循)|忘(?:记|記|掉|了)"
    r"|抛开|拋開|跳过|跳過|覆盖|覆蓋|绕过|繞過)"
)
_ZH_EARLIER: Final = (
    r"(?:上述|以上|上面|之前|先前|前面|此前|原(?:有|来|先|本)|所有|一切|全部|系统|系統|你的|已有|既定)"
)
_ZH: Final = (
    rf"{_ZH_DROP}(?:掉|了|你)?{_SOME}{_ZH_EARLIER}{_SOME}"
    r"(?:指令|指示|命令|提示|设定|設定|规则|規則|规定|規定|限制|约束|約束|准则|準則|指引|说明|說明)",
    rf"{_ZH_DROP}{_SOME}{_ZH_EARLIER}{_SOME}(?:提问|提問|问题|問題|内容|內容|信息|訊息|消息|提醒"
    rf"|要求|对话|對話)[^。!?]{{0,6}}?"
    r"(?:直接|只|仅|僅|并|並)?(?:输出|輸出|回答|回复|回覆|复述|複述|重复|重複|添加|输入|輸入|说|說)",
)

_JA: Final = (
    r"(?:上記|上の|上述|以上の|これまでの|今までの|以前の|前の|先ほどの|先の|すべての|全ての|元の"
    r"|あなたの|与えられた)"
    rf"{_SOME}(?:指示|命令|コマンド|プロンプト|ルール|規則|制限|設定|指令|ガイドライン"
    rf"|ディレクティブ|制約|指針|質問|問題"
    r"|リマインダー|メッセージ|内容|文章)(?:や[^\s。、]{1,10})?(?:を|は|も|に)[^。\n]{0,10}?"
    r"(?:無視|忘れ|破棄|無効に|従わな)",
)

_AR_RULES: Final = (
    r"(?:ال)?(?:تعليمات|أوامر|أمر|أسئلة|سؤال|قواعد|توجيهات|تذكير|رسالة|رسائل|مشاكل|مشكلات|توجيه"
    r"|مطالبة|موجه|قيود)"
)
_AR: Final = (
    rf"تجاهل\pL{{0,2}} (?:جميع |كل |كافة )?{_AR_RULES} {_FEW}(?:أعلاه|السابق\pL{{0,2}}"
    rf"|المذكور\pL{{0,2}} أعلاه)",
    rf"تجاهل\pL{{0,2}} (?:جميع |كل |كافة ){_AR_RULES}",
    r"تجاهل\pL{0,2} (?:جميع |كل |كافة )?(?:تعليماتي|تعليماتك|أوامرك|قواعدك)",
    rf"(?:انس|انسى|انسَ) (?:جميع |كل |كافة )?{_AR_RULES}",
)

_HI: Final = (
    r"(?:उपरोक्त|उपर्युक्त|ऊपर|पिछल\S{0,2}|पूर्व|पहले|सभी|सारे|अपने) (?:[^\s।?!]{1,20} ){0,3}?"
    r"(?:निर्देश|आदेश|कमांड|प्रश्न|सवाल|प्रॉम्प्ट|नियम|रिमाइंडर|संदेश|समस्या|पूछताछ)\S{0,4} "
    r"(?:[^\s।?!]{1,20} ){0,6}?"
    r"(?:अनदेखा|नज़रअंदाज़|नजरअंदाज|उपेक्षा|ध्यान (?:न|नहीं)|भूल)",
)

_BN: Final = (
    r"(?:উপরের|উপরোক্ত|উপরে|পূর্ববর্তী|আগের|সমস্ত|সকল|সব) (?:[^\s।?!]{1,20} ){0,3}?"
    r"(?:নির্দেশ|আদেশ|কমান্ড|প্রশ্ন|প্রম্পট|নিয়ম|অনুস্মারক|বার্তা|সমস্যা)\S{0,8} "
    r"(?:[^\s।?!]{1,20} ){0,4}?"
    r"(?:উপেক্ষা|ভুলে|অগ্রাহ্য)",
)

_UNMEASURED: Final = (
    # Italian
    r"\b(?:ignora|ignorate|ignori|dimentica|dimenticate|trascura) (?:\w+ ){0,3}?(?:istruzioni"
    r"|regole|direttive"
    r"|indicazioni|comandi|ordini) (?:\w+ ){0,3}?(?:precedenti|sopra|iniziali|ricevute|date)\b",
    r"\b(?:ignora|dimentica) (?:tutte le|tutti i|le precedenti|i precedenti) (?:\w+ "
    r")?(?:istruzioni|regole"
    r"|direttive|indicazioni|comandi|ordini)\b",
    # Portuguese
    r"\b(?:ignore|ignora|ignorem|esqueça|esquece|desconsidere|desconsidera) (?:\w+ "
    r"){0,3}?(?:instruções|regras"
    r"|diretrizes|ordens|orientações|comandos) (?:\w+ ){0,3}?(?:anteriores|acima|prévias|iniciais)\b",
    r"\b(?:ignore|esqueça|desconsidere) (?:todas as|todos os|as suas|suas) (?:\w+ )?(?:instruções|regras"
    r"|diretrizes|ordens|orientações|comandos)\b",
    # Dutch
    r"\b(?:negeer|vergeet) (?:\w+ ){0,3}?(?:vorige|eerdere|voorgaande|bovenstaande|alle) (?:\w+ ){0,2}?"
    r"(?:instructies|opdrachten|regels|aanwijzingen|richtlijnen|prompts?)\b",
    # Polish
    r"\b(?:zignoruj|ignoruj|zapomnij o|pomiń|zignorujcie) (?:\pL+ ){0,2}?(?:poprzedni\pL*|wcześniejsz\pL*"
    r"|powyższ\pL*|wszystki\pL*) (?:\pL+ ){0,2}?(?:instrukcj|polece|zasad|wytyczn|reguł)\pL*",
    # Turkish
    r"(?:önceki|yukaridaki|daha önceki|tüm|bütün) (?:\pL+ ){0,2}?(?:talimat|komut|kural|yönerge)\pL* "
    r"(?:\pL+ ){0,2}?(?:yok say|görmezden gel|unut|dikkate alma|göz ardi et)\pL*",
    # Korean
    r"(?:위|이전|앞선|앞|기존|지금까지|모든)의? ?(?:[^\s.!?]{1,8} ){0,2}?(?:지시|명령|지침|규칙"
    r"|프롬프트|제한)[^\s.!?]{0,4} ?"
    r"(?:[^\s.!?]{1,6} ){0,2}?(?:무시|잊|따르지)",
)

OVERRIDE: Final = (*_DE, *_FR, *_ES, *_RU, *_ZH, *_JA, *_AR, *_HI, *_BN, *_UNMEASURED)
"""Orders to drop earlier instructions."""

PERSONA: Final = (
    # German, French, Spanish; Italian, Portuguese, Dutch
    r"\b(?:du bist (?:jetzt|nun|ab jetzt)|tu es maintenant|(?:ahora eres|eres ahora)|ora sei|agora você é"
    rf"|je bent nu) {_FEW}{_FEW}(?:ohne|sans|sin|senza|sem|zonder) {_FEW}"
    r"(?:einschränk|regeln|filter|beschränk|grenzen|restric|limit|filtr|règles|reglas|censur"
    r"|regole|regras"
    r"|regels|restriz|beperking)\w*",
    r"\b(?:stell dir vor|tu so),? (?:als )?(?:\w+ ){0,3}(?:böse|unzensierte|uneingeschränkte"
    r"|skrupellose)\w* "
    r"(?:ki|k\.i\.|ai|künstliche)\b",
    # Russian
    r"(?:ты теперь|теперь ты|представь,? что ты) (?:[^\s.!?]{1,24} ){0,8}?(?:без|не имеющ\pL*) "
    r"(?:\pL+ ){0,3}?"
    r"(?:ограничени|правил|цензур|фильтр)\pL*",
    # Chinese
    r"你(?:现在|現在)?(?:是|扮演|将扮演|要扮演)[^。!?\n]{0,24}?(?:没有|沒有|不受|无"
    r"|無)(?:任何)?[^。!?\n]{0,6}?"
    r"(?:限制|约束|約束|审查|審查|道德|规则|規則)",
    # Japanese
    r"(?:あなたは|君は)[^。!?\n]{0,30}?(?:制限|規制|検閲|ルール|倫理)(?:の|が|を|に|も)?[^。!?\n]{0,6}?"
    r"(?:ない|なし|無い|受けない|縛られない)",
)
"""Personas without rules."""

PROMPT_LEAK: Final = (
    # German
    r"\b(?:zeige?|zeigen sie|nenne?|gib|geben sie|verrate?|wiederhole?|wie lautet) (?:mir )?(?:\w+ ){0,3}"
    r"(?:system-?prompt|systemanweisung\w*|systemnachricht"
    r"|(?:ursprüngliche|anfängliche|erste|geheime)\w* (?:anweisung|instruktion|prompt)\w*)",
    r"\b(?:zeig\w*|vorzeigen|ausgabe|nenn\w*) (?:\w+ ){0,2}(?:sämtliche|alle|deine)r? prompt-?texte?\b",
    # French, Spanish
    r"\b(?:montre|affiche|révèle|répète|donne|muestra|muéstrame|revela|repite|dime)(?:-moi|me|z)? "
    r"(?:\w+ ){0,3}"
    r"(?:prompt (?:système|initial|del sistema|inicial)"
    r"|(?:instructions initiales|instrucciones iniciales))",
    # Italian, Portuguese, Dutch, Polish
    r"\b(?:mostra(?:mi)?|rivela|ripeti|dimmi|mostre|revele|repita|diga|toon|herhaal|onthul|pokaż"
    r"|ujawnij|powtórz) "
    r"(?:\pL+ ){0,3}(?:prompt (?:di sistema|do sistema|systemowy|iniziale|inicial)|systeemprompt"
    r"|istruzioni iniziali|instruções iniciais|instrukcje systemowe)",
    # Russian
    r"(?:покажи|выведи|раскрой|повтори|назови)(?:те)? (?:мне )?(?:\pL+ ){0,3}?(?:системн\pL+|скрыт\pL+"
    r"|первоначальн\pL+|исходн\pL+) (?:промпт|подсказк|инструкци|указани|сообщени)\pL*",
    # Chinese, Japanese, Korean
    r"(?:显示|顯示|输出|輸出|告诉我|告訴我|重复|重複|复述|打印|列出|泄露|透露|公开)[^。!?,\n]{0,10}?"
    r"(?:系统提示|系統提示|系统指令|系統指令|初始指令|初始提示|隐藏指令|隱藏指令|提示词的|prompt的)",
    r"(?:システムプロンプト|初期プロンプト|システムメッセージ|最初の指示|隠された指示)(?:を"
    r"|の)[^。\n]{0,12}?"
    r"(?:表示|出力|教え|見せ|繰り返|開示|公開)",
    r"(?:시스템 ?프롬프트|초기 ?지시|숨겨진 ?지시)[^\s.!?]{0,2} ?(?:[^\s.!?]{1,8} ){0,2}?(?:보여"
    r"|출력|알려|공개|반복)",
    # Arabic, Hindi, Turkish
    r"(?:اعرض|أظهر|اكشف|كرر|أخبرني) (?:[^\s.!?]{1,16} ){0,3}?(?:موجه النظام|تعليمات النظام"
    r"|التعليمات الأولية|التعليمات المخفية)",
    r"(?:सिस्टम प्रॉम्प्ट|प्रारंभिक निर्देश|छिपे हुए निर्देश|सिस्टम निर्देश)\S{0,3} "
    r"(?:[^\s।?!]{1,12} ){0,3}?(?:दिखा|बता|दोहरा|प्रकट)",
    r"(?:sistem (?:istemi|prompt|talimat)|gizli talimat|ilk talimat)\pL* (?:\pL+ ){0,2}?(?:göster"
    r"|yaz|söyle|tekrarla|açikla)",
)
"""Questions for the hidden prompt."""
