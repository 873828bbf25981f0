"""Generations that are no answer: the model says no, asks for the text it was given, or says nothing.

Refusals speak in the first person and come first, so only the opening is read and what it says must be about the
request. An opening that a person could have written too counts only in a short text. Patterns after the list of
MLCommons-style refusal prefixes in use (first person + inability + what was asked); written anew for rewriting tasks.
"""

from __future__ import annotations

import re

OPENING = 400
"""Characters in which a refusal must have begun."""
SHORT = 120
"""Words; a longer text that begins like a refusal goes on to do something else."""
SORRY = (
    r"(?:i(?:'m| am)(?: (?:really|so|very|truly|deeply))? sorry|sorry|i apologi[sz]e|(?:my )?apologies|unfortunately|"
    r"regrettably|i(?:'m| am) afraid)"
)
MODEL = r"as an? (?:ai|artificial intelligence|large language|language)\b(?: language)?(?: model| assistant| system)*"
UNABLE = (
    r"i(?:'m| am)?(?: (?:just|simply|really|also))? (?:can(?:'t|not| not)(?: and (?:will not|won't))?|"
    r"could(?:n't| not)|won't|will not|(?:do not|don't) feel comfortable|unable|not able|not allowed|not permitted|"
    r"not comfortable|not programmed|not designed|must decline|have to decline|must respectfully decline|"
    r"refuse|decline|(?:do not|don't) have (?:the ability|access|enough|sufficient|any))"
)
ACT = (
    r"(?:help(?: you)? with|assist|provid|fulfil|comply|creat|generat|produc|writ|re-?writ|re-?phras|paraphras|"
    r"summari[sz]|translat|complet|continu|engag|discuss|answer|process|access|see|find|do (?:that|this)|offer|"
    r"respond|proceed|perform|reproduc|information|context|text|content)\w*"
)
REQUEST = (
    r"(?:your|this|that|the|any|such|requested|specific|original|provided) (?:\w+[ -]){0,3}?"
    r"(?:request|content|material|text|article|document|passage|response|prompt|instruction|task|information)s?\b"
)
TASK = r"(?:re-?writ|re-?phras|paraphras|summari[sz]|convert|work on|process|transform|reformat|help)\w*"
MATERIAL = r"(?:document|text|article|passage|content|prefix|suffix|material|input)s?"

CERTAIN = re.compile(
    rf"(?:{SORRY}[,.;]? (?:but )?)?(?:{MODEL}[^.\n]{{0,80}}\bi\b|{UNABLE}(?: to)? (?:fulfil\w*|comply with|accommodate|"
    rf"complete|process|assist(?: you)? with|help(?: you)? with) (?:your|this|that|the) (?:\w+ )?(?:request|prompt)\b|"
    rf"{UNABLE}(?: to)? (?:assist|help)(?: you)? with (?:that|this)[.,])"
)
LIKELY = re.compile(
    rf"(?:{SORRY}[,.;]? (?:but )?(?:that )?)?(?:{UNABLE}(?: to| with)? {ACT}\b[^.\n]{{0,80}}?"
    rf"(?:\b{REQUEST}|\bwith (?:that|this)\b)|"
    r"i (?:don't|do not) have (?:enough|sufficient) (?:information|context|text)\b)"
)
ASKS = re.compile(
    rf"(?:(?:provide|share|paste|send|supply|give me|upload)\b[^.?\n]{{0,60}}\b{MATERIAL}\b[^.?\n]{{0,60}}\b"
    rf"(?:me to {TASK}|(?:so )?(?:that )?i can\b|and i(?:'ll| will)\b)|"
    rf"(?:you (?:haven't|have not|didn't|did not) (?:actually )?(?:provide|include|share|attach|paste)\w*|"
    rf"i (?:don't|do not|can't|cannot) see)(?: (?:any|a|the|me|with))* (?:\w+ )?{MATERIAL}\b|"
    rf"(?:there (?:is|was|seems to be|appears to be) no|no) {MATERIAL} "
    r"(?:was |has been )?(?:provided|given|attached|included)\b)"
)
ELSEWHERE = re.compile(
    r"(?:(?:je suis )?(?:vraiment )?désolée?s?[, ]+(?:mais )?je ne (?:peux|suis)|"
    r"je ne (?:peux|suis) pas (?:en mesure |capable )?(?:de )?(?:vous aider|répondre à (?:votre|cette) demande)|"
    r"(?:es )?tut mir leid[, ]+(?:aber )?(?:ich|dabei|das) (?:kann|darf|bin)|"
    r"ich kann (?:ihnen |dir )?(?:dabei|bei dieser anfrage|diese anfrage)\b[^.\n]{0,40}nicht|"
    r"lo siento[, ]+(?:pero )?no (?:puedo|me es posible)|"
    r"no puedo (?:ayudar(?:te|le)?|cumplir) con (?:es[ao]|est[ae]|tu|su)|"
    r"(?:desculpe|sinto muito|lamento)[, ]+(?:mas )?(?:eu )?não (?:posso|consigo)|"
    r"mi dispiace[, ]+(?:ma )?non (?:posso|sono in grado)|"
    r"(?:извините|простите|к сожалению)[, ]+(?:но )?я не могу|"
    r"(?:很?抱歉|对不起|對不起)[，,、 ]*(?:但)?(?:我)?(?:无法|不能|無法)|"
    r"我(?:无法|不能|無法)(?:协助|帮助|提供|满足|完成|協助|滿足)|"
    r"(?:大変)?申し訳(?:ありません|ございません)[がけ、,。 ][^。\n]{0,60}(?:できません|できかねます|お手伝い)|"
    r"죄송(?:하지만|합니다만?)[^.\n]{0,60}(?:수 없|어렵))"
)
THOUGHT = re.compile(r"\s*<(think|thinking|reasoning)>", re.IGNORECASE)
OPENED = re.compile(r"[\s*#>_-]*(?:(?:hello|hi|okay|ok|well|oh)[,!. ]+)?")


def refusal(text: str, source: str, words: int) -> str | None:
    """How the text refuses (``words``: its length), or None; a source that opens the same way is being retold."""
    if not text.strip():
        return "says nothing"
    unclosed = THOUGHT.match(text)
    if unclosed and f"</{unclosed[1].lower()}>" not in text.lower():
        return f"nothing but reasoning: <{unclosed[1]}> is never closed"
    found = _refuses(text, words)
    return None if found is None or _refuses(source, 0) else found


def _refuses(text: str, words: int) -> str | None:
    opening = plain(text[:OPENING])
    start = OPENED.match(opening).end()
    match = CERTAIN.match(opening, start) or (ELSEWHERE.match(opening, start) if words <= SHORT else None)
    if match is None and words <= SHORT:
        match = LIKELY.match(opening, start) or ASKS.search(opening)
    return None if match is None else f"opens with: {' '.join(text[start : match.end() + 20].split())[:80]}"


def plain(text: str) -> str:
    """Lower case with straight apostrophes, every character in its place."""
    lower = text.lower()
    return (lower if len(lower) == len(text) else "".join(c.lower()[:1] or c for c in text)).replace("’", "'")
