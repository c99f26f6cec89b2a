"""The words that COCO's caption evaluation scores: Stanford CoreNLP 3.4.1's Penn Treebank tokens, without Java.

The official evaluation (github.com/salaniz/pycocoevalcap) hands all captions, a line each, to the Java program
edu.stanford.nlp.process.PTBTokenizer with -preserveLines -lowerCase, and drops a list of punctuation marks. What stands
here was found by giving that program several million lines and comparing; tests/text/make_ptb_golden.py asks it again.

It works as lex does: at each place every rule is tried, the longest match wins, counted with what it looks ahead at,
and of equally long ones the first. Rules read the caption's skeleton: characters that mean something to them as they
are, the others as one letter, mark, digit, symbol or deleted character that stands for its kind.

Known to differ: a capital sigma before a hyphen (Java's lower case has no final sigma there); an address whose path is
but an emoji (two characters to Java); a mark-up attribute whose quotation runs on into the next captions.
"""

import functools
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

# The official list has brackets in capitals too, but -lrb- comes out in lower case, and so is scored as a word.
PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])

_LETTER, _MARK, _DIGIT, _SYMBOL, _DELETED = "é", "\u0300", "\u0660", "¡", "\0"
_LINE_ENDS = "\n\r\v\f\u2028\u2029"  # the program starts a new line at each, which would move all captions after it
_THEMSELVES = (
    "\t\x80\x85\x91\x92\x93\x94\x96\x97\xa0¢£¤«\xad²³¹»¼½¾֊٫٬‐‑–—―‘’‚‛“”„‟…‹›⁄⁰⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎₠€⅓⅔、"
)
# Kinds that Python does not tell, as hexadecimal code points. The program knows Unicode as of about 2012: it deletes
# younger letters and digits, and with them most other symbols, emoji, and all beyond the first 65,536 characters.
_YOUNG = """
    37f 528-52f 560 588 5ef 860-86a 870-887 889-88e 8a1 8ad-8c9 978 980 9fc af9 c34 c5a c5c-c5d c80 cdc-cdd d04 d54-d56
    d5f e86 e89 e8c e8e-e93 e98 ea0 ea8-ea9 eac 13f5 13f8-13fd 16f1-16f8 170d 171f 1878 191d-191e 19b0-19c0 19c8-19c9
    1b4c 1c80-1c8a 1c90-1cba 1cbd-1cbf 1cf2-1cf3 1cfa 2c2f 2c5f 312e-312f 31bb-31bf 4db6-4dbf 9fcd-9fff a698-a69d a78f
    a794-a79f a7ab-a7dc a7f1-a7f7 a8fd-a8fe a9e0-a9e4 a9e6-a9ef a9fa-a9fe aa7e-aa7f ab30-ab5a ab5c-ab69 ab70-abbf
"""
_YOUNG_DIGITS = "de6-def a9f0-a9f9"
_OLD_LETTERS = "1885-1886"
_MARKS = """
    2c2-2c5 2d2-2df 2e5-2eb 2ed 2ef-36f 375 378-379 384-385 3f6 483-487 55a-55f 591-5bd 5bf 5c1-5c2 5c4-5c5 5c7 615-61a
    64b-65e 670 6d6-6e4 6e7-6ed 6fd-6fe 70f 711 730-74c 7a6-7b0 7eb-7f3 900-903 93c 93e-94e 951-955 962-963 981-983 9bc
    9be-9c4 9c7-9c8 9cb-9cd 9d7 9e2-9e3 a01-a03 a3c a3e-a4f a81-a83 abc abe-acf b82 bbe-bc2 bc6-bc8 bca-bcd c01-c03
    c3e-c56 d3e-d44 d46-d48 e31 e34-e3a e47-e4e eb1 eb4-ebc ec8-ecd
"""
_SYMBOLS = """
    a1 a5-a9 ac ae-b1 b4 b6-b8 bf d7 f7 37e 387 589 5be 5c0 5c3 5c6 5f3-5f4 600-603 606-60c 614 61b 61e-61f 66a 66d 6d4
    700-70d 7f6-7f8 964-965 e3f e4f 1fbd 2016-2017 2020-2023 2030-2038 203b 203e-2042 20a4 2100-2101 2103-2106 2108-2109
    2114 2116-2118 211e-2123 2125 2127 2129 212e 213a-213b 2140-2144 214a-214d 214f 2155-215e
    2190-2bff 3002 3012 30fb ff01-ff0f ff1a-ff20 ff3b-ff40 ff5b-ff65 ffe0-ffe1 ffe5-ffe6
"""


def _code_points(ranges: str) -> Iterator[int]:
    for span in ranges.split():
        first, _, last = span.partition("-")
        yield from range(int(first, 16), int(last or first, 16) + 1)


class _Kinds(dict[int, str]):
    """The skeleton's character for each code point, for str.translate."""

    def __init__(self):
        tables = {_MARKS: _MARK, _SYMBOLS: _SYMBOL, _YOUNG: _DELETED, _YOUNG_DIGITS: _DELETED, _OLD_LETTERS: _LETTER}
        super().__init__((code, kind) for ranges, kind in tables.items() for code in _code_points(ranges))
        self.update((ord(c), c) for c in _THEMSELVES)
        self.update((ord(c), " ") for c in _LINE_ENDS)

    def __missing__(self, code: int) -> str:
        c = chr(code)
        if " " <= c <= "~":
            kind = c
        elif code > 0xFFFF:
            kind = _DELETED
        else:
            kind = _LETTER if c.isalpha() else _DIGIT if c.isdecimal() else _DELETED
        self[code] = kind
        return kind


_KINDS = _Kinds()

# Abbreviations keep their dot. Those of the first list may end a sentence: "co.x" are two tokens, "dr.x" is one.
_ABBREVIATIONS = """
    al ala apr ariz assn aug bhd bldg blvd bros calif co colo conn corp cos ct dak dec esq est etc ext feb fla fri ga
    inc ind intl jan jr jul jun kan kans ky ltd mar md mich minn mo mon mont neb nev nov oct okla penn plc rd rt sep
    sept seq sq sr sys tel tenn thu thurs tue tues univ va vt wed wis wisc wyo
"""
_TITLES = """
    adj adm adv alex assoc asst atty attys ave brig capt cf cie cmdr col comdr cpl dept det dr drs elec ens ft gen gov
    govs hon insp invt jos lieut lt maj messrs mlle mme mr mrs ms msgr mt natl pfc ph pres prof profs pvt rep reps rev
    sen sens sfc sgt spc st ste supt supts treas vs wm
"""
_STATES = "ark az del ill la mass miss ore pa tex"  # with a capital; otherwise they are words
_BEFORE_NUMBERS = "art ca fig figs no nos op pp prop"
_SENTENCE_STARTS = """
    A About According Additionally After An As At But Earlier He Her Here However If In It Last Many More Mr. Ms. Now
    Once One Other Our She Since So Some Such That The Their Then There These They This We What When While Yet You
"""
_CONTRACTIONS = "can+not gim+me gon+na got+ta lem+me wan+na"
_FILES = """
    bat bmp c cgi cpp dll doc docx exe gif gz h htm html jar java jpeg jpg mov mp3 pdf php pl png ppt ps py sql tar txt
    wav x xml zip
"""
_ENTITIES = {"amp": "&", "lt": "<", "gt": ">", "nbsp": "", "mdash": "--", "ndash": "--"}
_ASCII = {
    **{"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"},
    **dict.fromkeys("‘‛‹\x91", "`"),
    **dict.fromkeys("’›\x92", "'"),
    **dict.fromkeys("“«\x93", "``"),
    **dict.fromkeys('”»\x94"', "''"),
    **dict.fromkeys("–—―\x96\x97", "--"),
    **dict.fromkeys("€¤₠\x80", "$"),
    **dict.fromkeys("…\x85", "..."),
    **{"£": "#", "¢": "cents", "½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"},
}


def _one_of(words: str) -> str:
    return "(?:" + "|".join(words.split()) + ")"


def _capitalised(words: str) -> str:
    """These words with a capital first letter, and the others any."""
    return _one_of(" ".join(f"{word[0].upper()}(?i:{re.escape(word[1:])})" for word in words.split()))


# What {NAME} stands for in a rule. Patterns are verbose: blanks and line ends in them count only within [].
_PARTS = {
    # Characters
    "S": r"[ \t\xa0]",
    "A": r"[A-Za-z]",
    "AN": r"[A-Za-z0-9]",
    "L": r"[A-Za-zé]",
    "D": r"[0-9\u0660]",
    "LD": r"[A-Za-zé0-9\u0660]",
    "APOS": r"['’\x92]",
    "QUOTE": r"['’\x92`‘\x91‛]",
    "ACCENTED": r"(?i: & [aeiou] (?:acute|grave|uml) ; )",
    # Words and numbers
    "WORD": r"(?: (?:[A-Za-zé\u0300\xad]|{ACCENTED}) (?:[A-Za-zé\u03000-9\u0660\xad]|{ACCENTED})* )",
    "COMPOUND": r"(?: (?:[dDlLoO]{QUOTE}{LD})? {LD}+ (?: [-_֊‐‑] (?:[dDlLoO]{QUOTE}{LD})? {LD}+ )* )",
    "DOTTED": r"(?: {AN} [A-Za-z0-9.,\xad]* (?:-[A-Za-z0-9\xad]+)+ )",
    "HALF": r"(?: {AN}+ (?:-{A}+){0,2} )",
    "INITIALS": r"(?: [A-Z]+ (?: (?:[+&]|&(?i:amp);) [A-Z]+ )+ )",
    "NUMBER": r"(?: {D}+ (?:[.:,\xad٫٬⁄]{D}+)* )",
    "AREA": r"(?: \([0-9]{2,3}\)[ \xa0]? | (?:\+\+?)? (?:[0-9]{2,4}[- \xa0])? [0-9]{2,4}[- \xa0] )",
    "ENDING": r"(?i: [sdm] | ll | re | ve )",
    "ENDS": f"(?: (?i:{_one_of(_ABBREVIATIONS)}) | {_capitalised(_STATES)} | [pP]?[pP]t[ey]s? )",
    "TITLE": f"(?: (?i:{_one_of(_TITLES)}) | [mM][ft]g | W(?:ash|ASH) )",
    # Mark-up
    "NAME": r"(?: {A} [A-Za-z0-9_:.-]* )",
    "VALUE": r"""(?: [ ]*=[ ]* (?: "[^"\n]*" | '[^'\n]*' ) )""",
    "TAG": r"(?: < (?: /{NAME}[ ]* | {NAME} (?:[ ]+{NAME}{VALUE}?)* [ ]*(?:/[ ]*)? ) > | <[!?][A-Za-z-][^>\n]*> )",
    "SENTENCE": r"(?: (?:{S}|\n)+ (?:{START}|{TAG}) (?:{S}|\n) )",
    "START": _capitalised(_SENTENCE_STARTS),
    # Addresses
    "WEB": r"""[^ \t\n"<>|(){}]""",
    "WWW": r"""[^ \t\n!"(),.<>?{|}]""",
    "LABEL": r"""[^ \t\n!"$'(),./0-9:;<-@A-Z[-`{|}-]""",
    "SITE": r"(?: (?i:www)\. (?:{WWW}+\.)+ {A}{2,4} | (?:{LABEL}+\.)+ (?i: com|net|org|edu ) )",
    "LAST": r"""[^ \t\n"<>|(){}.,!?-]""",
    "PATH": r"""(?: / [^ \t\n"<>|()]+ {LAST} )""",
    "USER": r"""(?: {AN} [^ \t\n\xa0"<>|(){}]* )""",
    "HOST": r"""[^ \t\n\xa0"<>|(){}.]+""",
    # Faces
    "EYES": r"[-^x=~<>']",
}


def _blanks(token: str) -> str:
    """Blanks within a token come out as no-break spaces."""
    return re.sub(r"[ \t]", "\xa0", token)


def _brackets(token: str) -> str:
    return _blanks(token).replace("(", "-lrb-").replace(")", "-rrb-")


def _hard(token: str) -> str:
    return token.replace("\xad", "")


def _ascii(token: str) -> str:
    return "".join(_ASCII.get(c, c) for c in token)


def _dash(token: str) -> str:
    return "--" if 1 < len(token) < 5 else token


class _Rule(NamedTuple):
    """What a token looks like, up to the group `ahead` if there is one, and how it is written from its lower case."""

    pattern: str
    write: Callable[[str], str] = str


_RULES = (
    # Mark-up: <a href="x">, &lt;
    _Rule(r"{TAG}", _blanks),
    _Rule(r"& (?:apos|quot);", lambda token: "'"),
    _Rule(rf"& (?i:{'|'.join(_ENTITIES)});", lambda token: _ENTITIES[token[1:-1]]),
    _Rule(r"& (?i: \#[0-9]+ | apos | quot );"),
    # Contractions: gon|na, do|n't, dog|'s, 't|is, rock|'n', 'em
    *(_Rule("(?i: {} (?P<ahead> {} ) )".format(*word.split("+"))) for word in _CONTRACTIONS.split()),
    _Rule(r"[A-Za-z\xad]*[A-MO-Za-mo-z\xad] (?P<ahead> [nN]{QUOTE}[tT] )", _hard),
    _Rule(r"[nN]{QUOTE}[tT]", _ascii),
    _Rule(r"{WORD} (?:[.!?]{WORD})* (?P<ahead> {APOS}{ENDING} )", _hard),
    _Rule(r"'[tT] (?P<ahead> (?i:is|was) )"),
    _Rule(r"{APOS} (?i:em|till?|cause)"),
    _Rule(r"{APOS}{ENDING} (?P<ahead> [^A-Za-z] )", _ascii),
    _Rule(r"{APOS}[nN]{APOS}?"),
    _Rule(r"' (?P<ahead> {A}[^ \t\n\xa0] )"),  # opens a quotation
    _Rule(r"{APOS}{ENDING}", _ascii),
    _Rule(r"{APOS} [2-9]0[sS]"),
    _Rule(r"{APOS} [0-9][0-9] (?P<ahead> [ \t\n\xa0] )"),
    # Words with an apostrophe: ol', y'|all, O'Brien, ne'er
    _Rule(r"(?i: ol | [jdl] ) {APOS}"),
    _Rule(r"[yY]{APOS} (?P<ahead> {L} )"),
    _Rule(r"(?: [A-HJ-XZn]{QUOTE}{L}{L}+ | [oO]{QUOTE}[oO] )"),
    _Rule(r"{L}+[aeiouyAEIOUY] {QUOTE} [aeiouA-Z]{L}*"),
    _Rule(r"(?i: c{APOS}mon | c{APOS}est | cap{APOS}n | ev{APOS}ry | li'l | nat{APOS}l )"),
    # Abbreviations: U.S., Ph.D., Mr., No.|5, and any word before a dot with a comma
    _Rule(r"(?: {A} (?:\.{A})+ \.? | (?i:(?:ph|ed)\.d\.) )"),
    _Rule(r"{TITLE}\."),
    _Rule(rf"(?i:{_one_of(_BEFORE_NUMBERS)})\. (?P<ahead> {{S}}?{{D}} )"),
    _Rule(r"{A} (?P<ahead> \.{SENTENCE} )"),
    _Rule(r"{A}\."),
    _Rule(r"(?: {WORD} (?:[.!?]{WORD})* | {COMPOUND} | {DOTTED} | {INITIALS} ) \. (?P<ahead> [,;:、] )", _hard),
    _Rule(r"{WORD} (?:[.!?]{WORD})+", _hard),
    # Addresses, @names, #tags, files
    _Rule(r"(?i:https?)://{WEB}+{LAST}"),
    _Rule(r"{SITE}"),
    _Rule(r"{SITE}{PATH}"),
    _Rule(r"<? {USER} @ {HOST} (?:\.{HOST})* >?"),
    _Rule(r"@[A-Za-z_][A-Za-z0-9_]*"),
    _Rule(r"\# (?:[A-Za-zé\u0300\xad]|{ACCENTED})+"),
    _Rule(r"{ENDS}\. (?P<ahead> [\s\S]{1,2} )"),
    _Rule(
        rf"[A-Za-zé0-9\u0660\xad]+ (?:\.[A-Za-zé0-9\u0660\xad]+)* \.(?i:{_one_of(_FILES)}) (?P<ahead> [ \t\n\xa0.,!?] )"
    ),
    # Numbers: 1/2/2003, 1 1/2, (555) 555-1234, -3.5
    _Rule(r"{D}{1,2} [-/] {D}{1,2} [-/] {D}{2,4}"),
    _Rule(r"(?: {D}{1,4}[- \xa0] )? {D}{1,4} \\?/ {D}{1,4}", _blanks),
    _Rule(r"{AREA} [0-9]{3,4} [- \xa0]? [0-9]{3,5}", _brackets),
    _Rule(r"[-+]?[.:,\xad]?{NUMBER}", _hard),
    # Words: mother-in-law, and/or, AT&T, C++, US$
    _Rule(r"{WORD}", _hard),
    _Rule(r"{COMPOUND}"),
    _Rule(r"{DOTTED}", _hard),
    _Rule(r"{HALF} (?: \\?/ {HALF} ){0,2}"),
    _Rule(r"{INITIALS}", lambda token: token.replace("&amp;", "&")),
    _Rule(r"(?: {DOTTED}- | {AN} [A-Za-z0-9.,\xad]* - ) {A}\. (?:{A}\.)+ (?:-[A-Za-z0-9\xad]+)*", _hard),
    _Rule(r"(?i: c\+\+ | [cf]\# )"),
    _Rule(r"[A-Z]+\$"),
    # Faces: :-) (^_^)
    _Rule(r"[<>]? [:;=] [-o*']? [][(){DdPpO\\|@] (?P<ahead> [^A-Za-z0-9] )", _brackets),
    _Rule(r"(?: {EYES}_{EYES} | \( (?: {EYES}[_.]?{EYES} | [x^=~<>']-[x^=~<>'`] ) \) )", _brackets),
    # Punctuation
    _Rule(r"(?: \\\* | [?!]+ | \#+ | \*+ | @+ | <<? | >>? | _+ | [²³¹\u2070-\u208e]+ )"),
    _Rule(r"-+", _dash),
    _Rule(r"(?: \.{3,5} | \. (?:{S}\.){2,4} )", lambda token: "..."),
    _Rule(r"(?: '' | [‘’\x91\x92‛‹›“”\x93\x94«»‚„‟`]{1,2} )", _ascii),
    _Rule(r"[^ \t\n\xa0\0֊‐‑]", _ascii),
)


def _compile(pattern: str) -> re.Pattern[str]:
    while (expanded := re.sub(r"\{([A-Z]+)\}", lambda name: _PARTS[name[1]], pattern)) != pattern:
        pattern = expanded
    return re.compile(pattern, re.VERBOSE)


@functools.cache
def _lexer() -> list[tuple[re.Pattern[str], int, Callable[[str], str]]]:
    """Each rule's pattern, the number in it of the group `ahead` (0: it has none), and how its tokens are written."""
    patterns = [_compile(rule.pattern) for rule in _RULES]
    return [
        (pattern, pattern.groupindex.get("ahead", 0), rule.write)
        for pattern, rule in zip(patterns, _RULES, strict=True)
    ]


def _tokens(caption: str, following: str) -> Iterator[str]:
    """All tokens, punctuation included."""
    skeleton = f"{caption.translate(_KINDS)}\n{following.translate(_KINDS)}"
    at = 0
    while at < len(caption):
        if skeleton[at] in " \t":
            at += 1
            continue
        longest, end, write = at, at + 1, None
        for pattern, ahead, how in _lexer():
            match = pattern.match(skeleton, at)
            if match and match.end() > longest:
                longest, end, write = match.end(), match.start(ahead) if ahead else match.end(), how
        if write:
            yield write(caption[at:end].lower())
        at = end


def _scored(caption: str, following: str = "") -> list[str]:
    """The words of a caption, with the one on the next line, by which the tests compare whole files."""
    line = " ".join(_tokens(caption, following)).rstrip()
    return [token for token in line.split(" ") if token and token not in PUNCTUATION]


@functools.lru_cache(maxsize=1 << 16)
def _scored_chunk(chunk: str) -> list[str]:
    return _scored(chunk)


# Captions in which no rule looks across a blank, or finds there but punctuation: most.
_PLAIN = re.compile(r"""(?: [A-Za-z,;:!?'"()& -] | (?<=[ ])\.(?=[ ]) )* \.? [ ]*""", re.VERBOSE)


def words(caption: str) -> list[str]:
    """The caption's words in lower case, contractions split (do n't), without punctuation.

    The program sees all captions at once, and a dot after a single letter depends on what comes next; here a caption is
    the last one, whatever follows. Line ends within a caption count as blanks.
    """
    if not _PLAIN.fullmatch(caption):
        return _scored(caption)
    return [word for chunk in caption.split() for word in _scored_chunk(chunk)]


def parts(caption: str) -> list[str]:
    """Its words, those cut that hold a blank: a no-break one joins numbers (2 1/2), and parts of telephone numbers."""
    return [part for word in words(caption) for part in word.split()]
