"""Asks the official tokenizer for ptb_golden.jsonl and for the checksum of Flickr8k that test_ptb.py holds.

    pip install pycocoevalcap==1.2      # brings CoreNLP 3.4.1 in a jar; no dependency of this project, nor of its CI
    java -version                       # 17.0.15 (Debian) made the file
    python tests/text/make_ptb_golden.py
    CAPTIONER_JAX_FLICKR8K=... python tests/text/make_ptb_golden.py     # prints the checksum, too

The cases are this file's own. Each is asked for between two lines in lower case, so that none depends on another.
"""

import hashlib
import itertools
import json
import os
import random
from collections.abc import Iterable
from pathlib import Path

GOLDEN = Path(__file__).with_name("ptb_golden.jsonl")

# Words that stand alone, and at the ends of other tokens.
WORDS = """
    dog Dogs DOG a I x é naïve Übung 日本語 Привет العربية עברית ﬁne 12 7 1,000 3.14 .5 -5 +5 1.2.3 10:30 1/2 3\\/4
    24/7 1st 22nd 3-year-old 5k 5.5kg 10x10 ٣ ½ ⅔ ² don't DON'T can't cannot Cannot cannots gonna gotta gimme lemme
    wanna dunno isn’t didn‘t n't dog's DOG'S dogs' I'm you'll they're we've he'd it's 's 'tis 'twas 'til 'em 'cause
    'n' 'n rock'n'roll '90s 90's '10 ’90s o'clock O'Brien o'er d'Arcy l'eau ma'am y'all ol' c'mon cap'n li'l ne'er
    Hallowe'en jack-o'-lantern g'day t'other mother-in-law and/or he/she w/ w/o c/o a-b-c a--b a---b -- --- ----- -
    well- -known t_shirt _ __ a_b_ e-mail co-op x‐y x–y x—y Mr. mr. Mrs Dr. St. st. Ave. etc. Inc. co. no. No. nos.
    fig. p. pp. p.m. A.M. U.S. u.s.a. U.K e.g. i.e. Ph.D. B.Sc. J.R.R. J. a. Jan. may. sat. in. ft. lb. oz. vs. Wash.
    wash. Mass. mass. TeX. .. ... .... ..... ...... … ! !! ? ?? ?! , ; : ' " '' `` ` ´ ‘ ’ “ ” « » ‹ › „ ‚ ( ) [ ] { }
    < > << >> <b> </b> <br/> <img> <3 &amp; &lt; &gt; &quot; &nbsp; &mdash; &foo; caf&eacute; &#39; & && AT&T R&B r&b
    Q&amp;A P&G. # ## #tag #1 #tag_2 @ @@ @user @User_1 @1 a@b me@example.org <me@x.org> http://example.org
    https://example.org/a?b=c&d=e#f. www.example.org example.com/a/b.html example.net foo.bar readme.txt 1.py
    index.html end.The C++ c# F# C+ a+b A+B = == => -> $ $5 5$ US$ US$5 £ £5 € €5 ¥5 ¢ 5¢ % 50% * ** *a* ^ ~ ~~ | \\
    \\* + ++ :) :-) :( ;-) :D :P :/ :| =) >:( 8) ^_^ -_- >_< (^_^) (^.^) o_O T_T :3 xD 😀 👍🏽 ☃ ♥ ™ ® © ° × ± → № ﷼ •
    · ¿ ¡ § 555-1234 (555)555-1234 1-800-555-1234 +44 2014-05-06 05/06/2014 soft\xadhyphen \xad zero\u200bwidth
    no\xa0break \ufeff \u0301 e\u0301 \u2009 \u3000 \x00 \x07 \x7f \x85 \x92s 𝐀 𠀀 ＡＢ ！ ， 。 、 Ⅷ ㎏ ﬀ ĳ ß İ Σ
    ſ
""".replace("\n", " ").split(" ")
WORDS = [word for word in WORDS if word]

FRAMES = ("{}", "a {} here.", "({})", '"{}"', "'{}'", "{}.", "{},", "{}'s", "x{}y", "{} 5")

SENTENCES = r"""
A man's dog doesn't like the neighbours' cat, and can't climb.
"I'm gonna go", he said; "you cannot come!"
Two men -- one in red, one in blue -- shake hands...
Meet at 5 p.m. on Main St. near No. 10. The end.
Plan B. The dog sits. Plan C. It rains. Plan D. Go on. J. Smith and Q. A dog.
A 1 1/2 inch screw, 2 3/4 cups, 1-1/2" pipe, 5'10" tall, 6' 2", 3x4 grid, 1/2 off, 50/50
Call (555) 123-4567, 555-123-4567, 555 123 4567, +44 20 7946 0958, 1 800 555 1234 or 555.123.4567.
costs $5.00, US$5, £3.50, €20, 5¢, 25c, 50%, #1, 10,000.50, -3.5, +2, .75, 1:30pm, 12:30
a t-shirt w/ "Coca-Cola" & "Pepsi", and/or the AT&T, H&M's, R&B, P&G logos
the '60s, 1970's, 80s and ’90s; rock 'n' roll, drum'n'bass, fish 'n chips, 'em 'til 'cause
ma'am, y'all, o'clock, O'Hara, d'Orsay, l'Oréal, ne'er, c'est la vie, jack-o'-lantern, will-o'-the-wisp
it`s it´s it’s it‘s its' 'its' ‘its’ “its” „its“ «its» ‹its› ``its''
:-) :) :( ;) :D =) >:( <3 ^_^ (^_^) o_O -_- :/ :| xD
<b>bold</b> <a href="x y">link</a> <br /> a < b > c <not a tag 5> <!-- note --> <!DOCTYPE html> <?xml version="1.0"?>
Tom &amp; Jerry &lt;b&gt; &quot;hi&quot; &nbsp; &mdash; &ndash; caf&eacute; &#39; AT&amp;T &copy;
see http://example.org/a_(b)?c=d&e=f, www.example.org/x. or mail me@example.org, <you@example.org>; @user #tag #1
foo.bar foo.py, index.html; a.b.c 1.2.3 x.y! end.The ... . . . .. a..b a...b
U.S. U.S.A. u.s. e.g. i.e. etc. a.m. Ph.D. B.Sc. M.D. J.R.R. Tolkien, U.S.-based, non-U.S. teams, a.k.a. x
Mr. and Mrs. Smith vs. Dr. Jones, Jr., of St. Louis, Mo., Inc. co. ltd. corp. dept. est. ave. blvd. rd.
in. ft. lb. oz. min. hr. sec. sat. sun. mon. jan. feb. mar. apr. may. jun. jul. aug. sep. sept. oct. nov. dec.
no. 5 nos. 6 fig. 7 pp. 8 p. 9 vol. 10 ca. 1900 art. 11 op. 12 no. x fig. x
don't can't won't isn't ain't shan't couldn't've I'd've y'all'd've who'd what's let's
gonna wanna gotta gimme lemme cannot dunno kinda gunna wannabe gonnas can not gon na
he/she s/he 24/7 9/11 a/c w/ w/o his/her/their a/b/c/d and / or 1/2/2003 2003/1/2 \/ 1\/2 \*
mother-in-law 3-year-old black-and-white x-ray -x- x- -x a--b a - b a – b a — b a‐b a‑b co‐operate
C++ c++ C# F# A+ B+ C+ X+Y x+y .NET $x x$ ** * *x* __init__ snake_case ~x~ x^2 a=b a|b a\b
naïve café São Paulo Ærøskøbing Łódź Straße ΟΔΟΣ İstanbul ǅ ﬁne ﬀ Москва 東京タワー 서울 ไทย हिन्दी বাংলা
🐶 a 🐶 dog🐶 🐶dog d🐶g 👨‍👩‍👧 ❤️ ★ ☆ ✓ ✗ → ← ♪ ♥ • · ° ™ ® © № ½ ¼ ¾ ⅓ ⅔ ⅛ x² H₂O 10⁻³
soft­hyphen a­ ­a ­ ­­ a­-b 1­2 zero​width non breaking a 5 no. 5 1 1/2 ideographic　space thin space
e.g., i.e.; cat., dog.; x-y.: (dog.) "dog." dog.' 'dog.' dog.) dog]. U.S.! etc.? etc... p.m...
'quoted words' and 'more quoted words.' He said, 'no'. 'A b' 'a "b" c' "a 'b' c" ''a'' ``a``
!! !!! ?? ?! !? ... !.. ,, ;; :: -- --- ---- ----- ------ __ ___ ** *** ## ### @@ << >> <<< >>> == ++ ~~ ^^ || \\ //
(a) [b] {c} ((d)) [[e]] a(b)c a[1] f(x) () [] {} ( ) (s) person(s) (:) (a b)
"""


def cases() -> list[str]:
    """The cases, in order, none twice: sentences, words in frames, and words thrown together."""
    chance = random.Random(0)
    joints = (" ", " ", " ", "", "-", "/", ". ", ", ", "'s ", ".")
    framed = [frame.format(word) for word in WORDS for frame in ("{}", chance.choice(FRAMES[1:]))]
    thrown = ["".join(chance.choice(WORDS) + chance.choice(joints) for _ in range(4)) for _ in range(500)]
    sentences = [line for line in SENTENCES.split("\n") if line]
    return list(dict.fromkeys(itertools.chain(sentences, framed, thrown)))


def ask(captions: Iterable[str]) -> list[list[str]]:
    """The official tokenizer's words, caption by caption."""
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer  # pyright: ignore[reportMissingImports]

    # The wrapper reads and writes in the locale's encoding on Java before 18.
    os.environ["JAVA_TOOL_OPTIONS"] = "-Dfile.encoding=UTF-8"
    lines = {i: [{"caption": caption}] for i, caption in enumerate(captions)}
    return [answer[0].split(" ") if answer[0] else [] for answer in PTBTokenizer().tokenize(lines).values()]


def checksum(words: Iterable[Iterable[str]]) -> str:
    return hashlib.sha256("\n".join(" ".join(line) for line in words).encode()).hexdigest()


def flickr8k(folder: Path) -> list[str]:
    return [line.partition("\t")[2] for line in (folder / "Flickr8k.token.txt").read_text("utf-8").split("\n") if line]


if __name__ == "__main__":
    texts = cases()
    answers = ask(text for case in texts for text in (case, "between"))
    if answers[1::2] != [["between"]] * len(texts):
        raise SystemExit("a case breaks lines, and cannot be asked for")
    rows = [{"text": text, "words": answer} for text, answer in zip(texts, answers[::2], strict=True)]
    GOLDEN.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    print(f"{len(rows)} cases, {GOLDEN.stat().st_size} bytes")
    if "CAPTIONER_JAX_FLICKR8K" in os.environ:
        print("Flickr8k:", checksum(ask(flickr8k(Path(os.environ["CAPTIONER_JAX_FLICKR8K"])))))
