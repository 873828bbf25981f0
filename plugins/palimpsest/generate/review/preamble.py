"""What a model says about its answer before and after it: 'Here is the rewritten article:', 'I hope this helps'.

A lead-in is told from content by what it names: the act of rewriting, the request, or the text as an answer. Content
has lead-ins too ('Here is the recipe:'), and most of them come from the source; what the source says is never cut.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from palimpsest.generate.review.refusal import plain

LEAD, CLOSE = 400, 600
"""Characters that a lead-in, and a closing remark, may take."""
DONE = r"(?:re-?(?:written|phrased|worded|vised|structured|formatted|told)|paraphrased|requested)"
MADE = r"(?:summari[sz]ed|simplified|polished|improved|enhanced|edited|adapted|converted|translated|expanded|condensed)"
ANSWER = (
    r"(?:article|text|version|passage|paragraph|content|rewrite|rephrasing|paraphrase|summary|response|answer|output|"
    r"tutorial|faqs?|q ?& ?a|explanation|rationale|latent thoughts?|encyclop(?:a|ae|æ)?edi[ac]\w*(?: entry| article)?)"
)
THE_TEXT = (
    r"(?:the|your) (?:(?:provided|given|original|above|source|following) )?"
    r"(?:document|article|text|passage|content|input)"
)
HERE = r"(?:here(?:'s| is| are)|below(?: is| are|,? you(?:'ll| will) find)|the following is|please find(?: below)?)"
YES = r"(?:sure(?: thing)?|certainly|of course|absolutely|okay|ok|alright|great|got it|understood|no problem)"
CUE = (
    rf"(?:\b{DONE}\b|\b{MADE} (?:article|text|passage|version of {THE_TEXT})\b|\bbased on {THE_TEXT}\b|"
    rf"\b(?:version|rewrite|rephrasing|paraphrase|summary) of {THE_TEXT}\b|\bas (?:you )?requested\b|"
    r"\bper your request\b|\bas per (?:your|the) (?:request|instructions)\b|"
    r"\bstyle of wikipedia\b|\bwikipedia[- ]style\b|\bhigh[- ]quality english\b)"
)
END = r":[*_\"”]{0,3}[ \t]*"
LEADS = [
    re.compile(rf"(?:{YES}[!,.]+ *)?(?:{HERE}|this is)\b[^\n:]{{0,160}}?{CUE}[^\n:]{{0,160}}{END}"),
    re.compile(rf"(?:{YES}[!,.]+ *)?{HERE} (?:the|a|an|my|your) (?:[\w'-]+ ){{0,4}}?{ANSWER}\b[^\n:]{{0,100}}{END}\n"),
    re.compile(
        rf"{YES}[!,.]+ *(?:{HERE}|i(?:'ll| will| can|'ve| have|'d be (?:happy|glad)))\b[^\n]{{0,240}}"
        r"[:.!][*_]{0,3}[ \t]*\n"
    ),
    re.compile(r"(?:sure|certainly|absolutely|of course)!+[ \t]*\n"),
    re.compile(
        rf"i(?:'ve| have|'ll| will) (?:\w+ )?(?:rewrit|rephras|paraphras|reformat|reword|revis)\w* {THE_TEXT}\b"
        rf"[^\n:]{{0,200}}{END}"
    ),
    re.compile(rf"(?:the )?{DONE} (?:{ANSWER}|document)(?: ?\([^)\n]{{0,40}}\))? ?{END}"),
    re.compile(rf"(?:rewritten|rephrased|rewrite|paraphrase|inserted thoughts?|latent thoughts?) ?{END}"),
    re.compile(
        r"(?:voici (?:une?|la|le|l')[^\n:]{0,60}(?:réécrit|reformul|paraphras)\w*[^\n:]{0,60}|"
        r"hier ist (?:der|die|das|eine?)[^\n:]{0,40}(?:umgeschrieben|umformuliert|überarbeitet)\w*[^\n:]{0,60}|"
        r"aquí (?:está|tienes?|te presento)[^\n:]{0,40}(?:reescrit|reformulad|parafrasead)\w*[^\n:]{0,60}|"
        r"ecco (?:il|la|l'|una?)[^\n:]{0,40}(?:riscritt|riformulat|parafrasat)\w*[^\n:]{0,60}|"
        r"aqui está[^\n:]{0,40}(?:reescrit|reformulad)\w*[^\n:]{0,60}|"
        r"вот (?:переписанн|перефразированн|переработанн)\w*[^\n:]{0,60}|"
        r"以下是[^\n：:]{0,12}(?:改写|重写|改寫|重寫)[^\n：:]{0,20}|"
        r"以下(?:は|が)[^\n：:]{0,20}書き(?:直|換え)[^\n：:]{0,20}) ?[:：][*_]{0,3}\s*"
    ),
]
ROLE = re.compile(r"(?:<\|[a-z_]{2,30}\|>\s*)*assistant[ \t]*:?[ \t]*\n+|(?:<\|[a-z_]{2,30}\|>\s*)+")
THOUGHT = re.compile(r"\s*<(think|thinking|reasoning)>.*?</\1>\s*", re.IGNORECASE | re.DOTALL)
CUE_END = re.compile(r"[*_]{0,3}[ \t]*")
MARKS = re.compile(r"[\s*#_>]*")
CLOSES = [
    re.compile(
        r"(?:please )?(?:let me know|feel free to (?:ask|let me know|reach out)|i hope|"
        r"would you like me|do you want me|if you (?:have any|need any|need|would like|'d like|want)\b)"
        rf"[^\n]{{0,300}}?(?:\b{DONE}\b|\brewrit\w*|"
        r"\brephras\w*|\b(?:further|additional|more) (?:assistance|help|changes|revisions|adjustments|modifications)\b|"
        r"\b(?:any|make) (?:\w+ )?(?:changes|adjustments|modifications|revisions|edits)\b|"
        r"\bmeets? your (?:needs|requirements|expectations)\b|"
        r"\bhow (?:else )?i can (?:help|assist)\b)|is there anything else (?:i can|you need|you(?:'d| would) like me)\b"
    ),
    re.compile(
        r"[(\[]?(?:please )?note(?: that)?[*_]{0,2}:?[*_]{0,2} (?:that )?(?:i(?:'ve| have)?\b|(?:the|this) (?:"
        rf"{DONE}|rewrite|above|original) (?:\w+ )?)[^\n]{{0,60}}\b(?:{DONE}|rewr(?:ote|it)\w*|rephras\w*|paraphras\w*|"
        r"original (?:text|article|document)|maintain\w*|preserv\w*|retain\w*)"
    ),
    re.compile(
        rf"(?:this|the (?:above )?) ?{DONE} (?:{ANSWER}|document)\b[^\n]{{0,80}}\b(?:"
        r"maintain|preserv|retain|keep|aim|captur|convey|provid|adher|use|follow)\w*"
    ),
]


def cue_of(prompt: str) -> str:
    """The prompt's last line in lower case, if it is a short one that ends in a colon; else ''."""
    last = plain(prompt[-80:].rstrip()).rsplit("\n", 1)[-1].strip()
    return last if last.endswith(":") and 3 < len(last) <= 60 else ""


@dataclass(frozen=True)
class Around:
    """A text cut in three; a lead or closing that is not there is empty."""

    lead: str
    body: str
    closing: str


def around(text: str, source: str, cue: str = "") -> Around:
    """The text without its lead-in and closing remark; nothing is cut that would leave no text, or that is content.

    ``source``: in lower case. ``cue``: the prompt's last words ('Rephrased article:'), which some models repeat.
    """
    start, whole = 0, len(text.rstrip())
    while start < whole and (more := _lead(text[start:], source, cue)):
        start += more
    end = _closing(text, start, whole, source)
    if (start == 0 and end == whole) or not text[start:end].strip():
        return Around("", text, "")
    return Around(text[:start], text[start:end].strip(), text[end:])


def _lead(text: str, source: str, cue: str) -> int:
    """Where the text after one lead-in begins; 0: there is none."""
    if thought := THOUGHT.match(text):
        return thought.end()
    begin = len(text) - len(text.lstrip())
    opening = plain(text[begin : begin + LEAD])
    if role := ROLE.match(opening):
        return begin + role.end()
    marks = MARKS.match(opening).end()
    if cue and opening.startswith(cue, marks) and cue not in source:
        return begin + CUE_END.match(opening, marks + len(cue)).end()
    for pattern in LEADS:
        match = pattern.match(opening, marks)
        if match and not _said(match[0], source):
            return begin + match.end()
    return 0


def _closing(text: str, start: int, end: int, source: str) -> int:
    """Where the closing remarks begin (a line each), else ``end``."""
    while (cut := text.rfind("\n", start, end)) >= 0 and end - cut <= CLOSE:
        remark = plain(text[cut + 1 : end])
        begin = MARKS.match(remark).end()
        if not any(pattern.match(remark, begin) for pattern in CLOSES) or _said(remark[begin:], source):
            break
        end = start + len(text[start:cut].rstrip().removesuffix("---").rstrip())
    return end


def _said(phrase: str, source: str) -> bool:
    """Whether the source has this phrase too, by its first words."""
    first = " ".join(phrase.split()[:4]).strip(" :.!*_")
    return len(first) > 3 and first in source
