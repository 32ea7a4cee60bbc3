"""How good an answer is, as far as that can be told without a model.

    exact_match         1 if the answer is one of the right ones, but for case, punctuation,
                        articles and white space
    token_f1            harmonic mean of precision and recall of the answer's words, over the right
                        answer that it shares most with
    citation_precision  share of the citations that overlap evidence of the case
    citation_recall     share of the pieces of evidence that a citation overlaps
    answer_rate         of questions that the documents answer: 1 if there is an answer
    false_answer_rate   of questions that they do not answer: 1 if there is an answer all the same

An answer that says it has none gets 0 for what it should have said; its citations are not judged.

Sources: the official script of SQuAD 2.0 (https://rajpurkar.github.io/SQuAD-explorer/) for the
first two; in text with Chinese, Japanese or Korean characters each of these is a word and their
punctuation goes too, as in the one of CMRC 2018 (https://github.com/ymcui/cmrc2018), whose F1
counts the longest common run while this counts the words in common. Citations: Gao et al.,
"Enabling Large Language Models to Generate Text with Citations", EMNLP 2023, with the evidence of
the case in place of a model's opinion.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from typing import TYPE_CHECKING, Final

from chains.qa import NO_EVIDENCE
from rag_app.evaluation.projection import overlaps

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rag_app.evaluation.results import Case, Located
    from rag_app.types import Citation

_MARK: Final = re.compile(r"[ \t]*\[\d+\]")
_ARTICLES: Final = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION: Final = str.maketrans("", "", string.punctuation)
_CJK: Final = (
    "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003134f"
)
_CJK_WORD: Final = re.compile(rf"[{_CJK}]|[^\s{_CJK}]+")
_HAS_CJK: Final = re.compile(f"[{_CJK}]")

_END: Final = r"\s*(?:[.!?,;:()\[]|$|\b(?:but|so|in|within|from|based|anywhere)\b)"
_NAMED: Final = (
    r"(?:(?:the|these|this|those|your|my|any|provided|given|supplied|available|retrieved|cited|"
    r"numbered|above|relevant|following) ){0,4}"
    r"(?:documents?|passages?|context|texts?|sources?|excerpts?|materials?|files?|information)\b"
    r"(?: (?:(?:you |i was |i have |i've been )?(?:provided|given|supplied|available|have)|above))?"
)
_ANY: Final = (
    r"(?:(?:the|this|that|these|those|your|a|an|any|enough|sufficient|relevant|specific|explicit|"
    r"direct|clear|requested|necessary|required|needed|useful|further|such|more) ){0,4}"
)
_SUBJECT: Final = rf"{_ANY}(?:questions?|answers?)\b"
_KNOWLEDGE: Final = rf"{_ANY}(?:information|details?|info)\b(?! (?:desk|page|sheet)s?\b)"
_UNKNOWN: Final = (
    rf"(?:{_END}|(?:it|this|that|so|anything)\b{_END}|(?:to )?{_SUBJECT}"
    rf"|(?:with )?{_KNOWLEDGE}|{_ANY}(?:mentions?|references?)\b"
    r"|(?:how|what|which|who|whom|whose|when|where|whether|if|why)\b)"
)
_NOT: Final = (
    r"(?:do(?:es)? not|don't|doesn't|did not|didn't|cannot|can not|can't)"
    r"(?: (?:directly|explicitly|specifically|actually|clearly|seem to|appear to)){0,2}"
)
_SAY: Final = (
    r"(?:answer|respond|contain|provide|include|say|state|specify|hold|cover|tell|tell us|tell me|"
    r"give|have|offer|indicate|explain|reveal)s?\b"
)
_TREAT: Final = r"(?:mention|discuss|address|talk about|refer to)(?:e?s)?\b"

_ENGLISH: Final = (
    rf"(?:{_NAMED} {_NOT} (?:{_SAY} ?{_UNKNOWN}|{_TREAT})"
    rf"|(?:none of|neither of|nothing in|no part of) {_NAMED} (?:{_SAY} ?{_UNKNOWN}|{_TREAT})"
    rf"|(?:no|neither) (?:document|passage|text|source|excerpt|file)s? "
    rf"(?:{_SAY} ?{_UNKNOWN}|{_TREAT})"
    r"|(?:(?:i|we) )?(?:can ?not|can't|could not|couldn't|did not|didn't|do not|don't|am unable to|"
    r"are unable to|was unable to|unable to|am not able to|was not able to|not able to)"
    rf"(?: (?:answer|find|locate|see|determine|tell|say) ?"
    rf"(?:you )?(?:{_UNKNOWN}|[^.!?]{{0,80}}\b(?:in|from) {_NAMED})"
    rf"| have {_KNOWLEDGE}| know\b)"
    rf"|(?:there(?: is|'s| was) )?(?:no|not enough|insufficient|not any) {_KNOWLEDGE}"
    rf"(?: (?:is|was) (?:given|provided|available|found))?"
    rf"(?:{_END}| (?:about|on|regarding|concerning|to|that|available|provided|given|here)\b)"
    rf"|(?:there(?: is|'s| was) )?no (?:answer|mention)\b"
    rf"|(?:{_SUBJECT}|{_KNOWLEDGE}|it|this|that) (?:can ?not|can't|could not|is not|isn't|was not|"
    r"are not)(?: be)? ?(?:answered|found|determined|contained|given|provided|mentioned|stated|"
    rf"specified|included|available|covered|addressed)? ?"
    rf"(?:in|from|by|with|using|based on) {_NAMED}"
    rf"|(?:{_SUBJECT}|{_KNOWLEDGE}) (?:can ?not|can't|could not) be (?:answered|found|determined)\b"
    r"|not (?:answered|found|mentioned|stated|specified|given|covered|available) "
    rf"(?:in|by) {_NAMED})"
)
_GERMAN_NAMED: Final = (
    r"(?:(?:die|der|das|den|dem|diese[mnrs]?|ihre[mnr]?|(?:bereit|zur verf.gung )gestellte[nmrs]?|"
    r"vorliegende[nmrs]?|angegebene[nmrs]?|genannte[nmrs]?|gegebene[nmrs]?) ){0,3}"
    r"(?:dokumente?n?|texte?n?|textstellen?|passagen?|quellen?|unterlagen|abschnitte?n?|"
    r"ausz.gen?|kontexts?)\b"
)
_GERMAN_ANY: Final = (
    r"(?:(?:leider|dazu|hierzu|dar.ber|hier.ber|daf.r|keine[nr]?|keinerlei|ausreichende[n]?|"
    r"gen.gend|weiteren?|genauen?|konkreten?|n.heren?) ){0,4}"
    r"(?:informationen|information|angaben?|antwort(?:en)?|auskunft|hinweise?)\b"
)
_GERMAN_NONE: Final = rf"(?=[^.!?]{{0,40}}\bkein)(?:(?:es|sich) )?{_GERMAN_ANY}"
_GERMAN_THIS: Final = r"(?:(?:diese|die|ihre|deine) frage|das|dies|es)"
_GERMAN: Final = (
    rf"(?:{_GERMAN_NAMED} (?:beantwortet|beantworten) {_GERMAN_THIS}(?: \w+)? nicht\b"
    rf"|{_GERMAN_NAMED} (?:enth.lt|enthalten|liefert|liefern|bietet|bieten|gibt|geben) "
    rf"(?:{_GERMAN_NONE}|(?:die|eine) antwort[^.!?,]{{0,40}} nicht\b)"
    rf"|(?:enth.lt|enthalten|liefert|liefern|bietet|bieten|geben) {_GERMAN_NAMED} {_GERMAN_NONE}"
    rf"|(?:beantworten|beantwortet) {_GERMAN_NAMED} {_GERMAN_THIS} nicht\b"
    rf"|{_GERMAN_NAMED} (?:sagt|sagen|erw.hnt|erw.hnen|nennt|nennen)"
    rf"(?: (?:dazu|hierzu|dar.ber|das|dies|es))? nichts?\b{_END}"
    rf"|(?:in|aus) {_GERMAN_NAMED} (?:steht|stehen|findet|finden|gibt|wird|werden|geht) "
    rf"(?:{_GERMAN_NONE}|(?:(?:es|sich|das|dies|dazu|hierzu|dar.ber) ){{0,2}}nichts?\b)"
    rf"|(?:es gibt|ich habe|ich finde|es liegen) {_GERMAN_NONE}"
    r"|ich wei. (?:es|das|dies) (?:leider )?nicht\b"
    rf"|(?:ich )?(?:kann|konnte)(?: ich)? {_GERMAN_THIS}[^.!?]{{0,70}} nicht "
    r"(?:beantworten|finden|sagen)\b"
    rf"|(?:ich )?(?:kann|konnte)(?: ich)? (?:[^.!?]{{0,60}} )?(?:keine|nichts)\b[^.!?]{{0,60}}"
    r" finden\b"
    r"|(?:diese|die|ihre) frage (?:kann|wird|l.sst sich)\b[^.!?]{0,70} nicht beantwort)"
)
_FRENCH_NAMED: Final = (
    r"(?:(?:les?|la|ces?|cette|vos) )?"
    r"(?:documents?|passages?|textes?|extraits?|sources?|contexte)\b"
    r"(?: (?:fournis?|fournies?|donn.s))?"
)
_FRENCH_KNOWN: Final = (
    r"(?:pas|aucune?)(?: (?:.|d'|d.|de|la|l'|cette|pas|explicitement|votre)){0,3} ?"
    r"(?:l'|d')?(?:question|informations?|r.ponse|pr.cisions?)\b"
)
_FRENCH: Final = (
    rf"(?:{_FRENCH_NAMED} ne (?:r.pond(?:ent)?|contien(?:t|nent)|donne(?:nt)?|fourni(?:t|ssent)|"
    rf"comporte(?:nt)?) {_FRENCH_KNOWN}"
    rf"|{_FRENCH_NAMED} (?:ne|n'en) (?:mentionne(?:nt)?|parle(?:nt)?|.voque(?:nt)?) pas\b"
    rf"|{_FRENCH_NAMED} ne (?:le )?(?:di(?:t|sent)|pr.cise(?:nt)?|indique(?:nt)?) pas\b"
    rf"(?:{_END}| (?:si|qui|o.|quand|comment|combien|pourquoi|quel(?:le)?s?)\b)"
    r"|je ne (?:le )?sais pas\b"
    r"|je ne (?:peux|puis) pas (?:y )?r.pondre\b"
    rf"|je n'ai (?:pas (?:pu )?)?(?:trouv.e?r?) {_FRENCH_KNOWN}"
    rf"|je n'ai pas (?:pu )?trouv[^.!?]{{0,60}} dans {_FRENCH_NAMED}"
    r"|aucune information (?:sur|dans|.|concernant)\b|il n'y a (?:pas d'|aucune )information)"
)
_SPANISH_NAMED: Final = (
    r"(?:(?:los?|las?|el|estos?|estas?|sus) )?"
    r"(?:documentos?|pasajes?|textos?|fuentes?|fragmentos?|contexto)\b"
    r"(?: (?:proporcionad[oa]s?|dad[oa]s?|facilitad[oa]s?))?"
)
_SPANISH_KNOWN: Final = (
    r"(?:(?:a|la|el|esta|su|ninguna?|una|suficiente|m.s) ){0,3}"
    r"(?:pregunta|informaci.n|respuesta|datos)\b"
)
_SPANISH: Final = (
    rf"(?:{_SPANISH_NAMED} no (?:responden?|contestan?|contienen?|incluyen?|proporcionan?|ofrecen?|"
    rf"dan?) {_SPANISH_KNOWN}"
    rf"|{_SPANISH_NAMED} no (?:mencionan?|hablan? de)\b"
    rf"|{_SPANISH_NAMED} no (?:lo )?(?:dicen?|indican?|especifican?)"
    rf"(?:{_END}| (?:si|qui.n|d.nde|cu.ndo|c.mo|cu.nt[oa]s?|por qu.|qu.|cu.l(?:es)?)\b)"
    r"|no (?:lo )?s.(?=[ .,!]|$)|no puedo responder\b"
    rf"|no (?:he|pude|puedo) (?:encontrado|encontrar) (?:{_SPANISH_KNOWN}|(?:esto|eso|nada)\b"
    rf"|[^.!?]{{0,60}} en {_SPANISH_NAMED})"
    rf"|no (?:hay|tengo|encuentro) {_SPANISH_KNOWN})"
)
_CHINESE_NAMED: Final = (
    "(?:根据|依据|从|在)?(?:您|你|我|所|已|提供|给出|给定|上述|以上|这些|这份|现有|相关|检索到|的)*"
    "(?:文档|文件|资料|文献|段落|文章|材料|原文|上下文|内容)(?:中|里|内|片段)*(?:，|,)?"
)
_CHINESE_THIS: Final = "(?:这个|这一|这|该|此|您的|你的|您|你|本|上述|所提|的)*(?:问题|提问|疑问)"
_CHINESE_KNOWN: Final = (
    "(?:(?:关于|有关|与|对)[^。，；]{1,20}?)?(?:任何|相关|有关|足够|充分|这方面|所需|具体|明确|该|此|这个|这些|"
    "问题|的)*(?:信息|资讯|答案|内容|资料|说明|记载|描述)"
)
_CHINESE: Final = (
    "(?:抱歉|对不起|很遗憾|不好意思)?[，,。！]?(?:但)?"
    f"(?:{_CHINESE_NAMED}(?:并|都|均|也)*(?:没有|未能|未|无法|不能|不)(?:直接|明确)*(?:回答|解答)(?:了|到)?"
    f"{_CHINESE_THIS}"
    f"|{_CHINESE_NAMED}(?:并|都|均|也)*(?:没有|未|无|不|找不到)(?:直接|明确|具体)*"
    f"(?:包含|包括|提供|提及|提到|给出|找到|涉及|记载|说明|有|含有)*(?:了|到)?{_CHINESE_KNOWN}"
    f"|{_CHINESE_NAMED}(?:并|都|均|也)*(?:没有|未)(?:直接|明确|具体)*(?:提及|提到|涉及|讨论)"
    f"|{_CHINESE_THIS}(?:在)?(?:{_CHINESE_NAMED})?(?:并|都|均|也)*(?:没有|未|无法|不能|找不到)[^。]{{0,8}}"
    "(?:答案|回答|解答)"
    f"|(?:{_CHINESE_NAMED})?我?(?:无法|没能|未能|没有|不能)(?:{_CHINESE_NAMED})?"
    f"(?:找到|回答|解答|得知|获知|确定|判断)(?:出)?(?:{_CHINESE_THIS}|{_CHINESE_KNOWN}|[。，,]|$)"
    f"|我?(?:无法|没能|未能|没有|不能){_CHINESE_NAMED}[^。]{{0,6}}(?:找到|回答|得知|获知|确定|判断)"
    f"|我不知道|没有{_CHINESE_KNOWN})"
)
_SIMPLER: Final = str.maketrans(
    "沒無獻這個該問題訊關於據內檔說資確從記載討論對給與",
    "没无献这个该问题讯关于据内档说资确从记载讨论对给与",
)
_JAPANESE_NAMED: Final = (
    "(?:提供された|与えられた|上記の|この|これらの|その|ご提供の)*"
    "(?:文書|資料|ドキュメント|文章|テキスト|文脈|ソース)(?:の中)?(?:には|では|からは|から|に|は|が)、?"
)
_JAPANESE: Final = (
    "(?:(?:申し訳ありません|申し訳ございません|すみません)(?:が)?[、。]?)?"
    f"(?:(?:{_JAPANESE_NAMED})?[^。]{{0,10}}質問(?:に|には|にお)(?:直接)?(?:答え|回答)[^。]{{0,6}}"
    "(?:ません|ない)"
    f"|{_JAPANESE_NAMED}[^。]{{0,30}}(?:情報|答え|回答|記載|言及|記述)[^。]{{0,8}}(?:ません|ない)"
    f"|{_JAPANESE_NAMED}[^。]{{0,30}}(?:わかりません|分かりません|見つかりません)"
    "|わかりません|分かりません|見つかりません)"
)
_REGRET: Final = (
    r"(?:(?:(?:i am|i'm|we are) )?(?:very )?sorry,?(?: but)?|i apologi[sz]e,?(?: but)?"
    rf"|unfortunately,?|(?:based on|according to|from|in) {_NAMED},?"
    r"|(?:es )?tut mir leid,?(?: aber)?|leider"
    r"|d.sol.,?(?: mais)?|malheureusement,?|lo siento,?(?: pero)?|lamentablemente,?)[.:!]? "
)
_ABSTAINING: Final = re.compile(
    rf"[\W_]*(?:{_REGRET}){{0,2}}(?:{_ENGLISH}|{_GERMAN}|{_FRENCH}|{_SPANISH}|{_JAPANESE})",
    re.IGNORECASE,
)
_ABSTAINING_CHINESE: Final = re.compile(rf"[\W_]*{_CHINESE}")
"""How answers begin that say that there is none, of models that put it in their own words: the
documents do not answer, hold or mention it. A sentence that denies anything else is an answer."""


def measure_answer(
    case: Case,
    located: Sequence[Located],
    answer: str,
    citations: Sequence[Citation],
    abstained: bool,
    judged: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """The metrics of the module's list that the case has something to compare with.

    Args:
        located: the evidence of the case; empty for a question that the documents do not answer,
            of which only `false_answer_rate` is measured.
        abstained: whether the answer says that there is none; see `has_abstained`.
        judged: what a judge measured, to be added.

    An answer without citations has a citation precision of 0, one that abstains has none.
    """
    if not case.answerable:
        return {"false_answer_rate": float(not abstained), **(judged or {})}
    metrics = {"answer_rate": float(not abstained)}
    if case.answers:
        given = "" if abstained else answer
        metrics["exact_match"] = max(match_exactly(given, right) for right in case.answers)
        metrics["token_f1"] = max(compare_words(given, right) for right in case.answers)
    pairs = [[_rests_on(citation, each) for each in located] for citation in citations]
    if not abstained:
        metrics["citation_precision"] = sum(map(any, pairs)) / len(pairs) if pairs else 0.0
    if located:
        cited = sum(map(any, zip(*pairs, strict=True)))
        metrics["citation_recall"] = cited / len(located)
    return {**metrics, **(judged or {})}


def has_abstained(answer: str, citations: Sequence[Citation]) -> bool:
    """Whether an answer says that the documents do not hold one.

    It does if it is empty; if it begins with the sentence that rag-app's chains use for it,
    `The documents do not answer this question.`, whatever follows; or if it cites nothing and has
    that sentence, or begins with another that says so of the documents or of the question. The
    latter are known in English, German, French, Spanish, Chinese and Japanese, as models put it;
    an answer that cites something beside them is an answer in part, and counts as one.
    """
    said = normalise(_MARK.sub("", answer))
    sentence = normalise(NO_EVIDENCE)
    if not said or said.startswith(sentence):
        return True
    if citations:
        return False
    plain = " ".join(answer.replace("\u2019", "'").split())
    simpler = plain.translate(_SIMPLER)
    return (
        sentence in said
        or _ABSTAINING.match(plain) is not None
        or _ABSTAINING_CHINESE.match(simpler) is not None
    )


def match_exactly(answer: str, right: str) -> float:
    """1.0 if both have the same words in the same order, as `split_words` gives them, else 0.0."""
    return float(_split_answer(answer) == split_words(right))


def compare_words(answer: str, right: str) -> float:
    """Harmonic mean of the shares of words that each has in common with the other.

    Where one of them has no words it is 1.0 if neither has, else 0.0.
    """
    given, expected = _split_answer(answer), split_words(right)
    if not given or not expected:
        return float(given == expected)
    common = (Counter(given) & Counter(expected)).total()
    return 2 * common / (len(given) + len(expected))


def split_words(text: str) -> list[str]:
    """The words of `text` in order, as `normalise` leaves them; each CJK character is one."""
    words = normalise(text)
    if not _HAS_CJK.search(words):
        return words.split()
    kept = (char for char in words if not unicodedata.category(char).startswith(("P", "S")))
    return _CJK_WORD.findall("".join(kept))


def normalise(text: str) -> str:
    """`text` in lower case without ASCII punctuation, English articles and surplus white space."""
    bare = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def _split_answer(answer: str) -> list[str]:
    return split_words(_MARK.sub("", answer))


def _rests_on(citation: Citation, located: Located) -> bool:
    if citation.source != located.source:
        return False
    place = (citation.start, citation.end)
    return not located.spans or any(overlaps(place, span) for span in located.spans)
