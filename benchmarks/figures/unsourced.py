"""Numbers in a page that no result stands behind.

Every number of the prose counts, but for code, links, comments, what comes from a result, digits
that are part of a name (VGG19, SHA-256), the numbers of a list, and the constants below.
"""

import re

ALLOWED = (
    (r"\b95 %", "the level of every interval"),
    (r"\bexits? (?:codes? )?(?:with |is )?(?:130|[0-3])\b", "exit codes"),
    (
        r"\b0 done, 1 failed, 2 wrong usage,\s3 done but a part failed,\s130 stopped, 141\b",
        "exit codes",
    ),
    (r"\b2,045 knees|1,258 / 315 / 472|\b186 (?:normal|osteoporotic)", "the data sets as they are"),
    (r"grade 0 against grades 3 and 4", "the classes of knee-kl"),
    (r"\b224² PNGs|\b5-megapixel JPEGs", "what benchmarks/folders.py makes"),
    (r"\bbatches of 32\b", "the batch size that was asked for"),
    (r"\b10⁹ products", "the unit of a ceiling"),
    (r"\bblocks? [1-5](?: to [1-5]|(?:, [1-5])* and [1-5])?\b", "the names of blocks"),
    (r"\b80 % of a pool, test on 30 %", "the paper's protocol, in kneeedge/data/splits.py"),
    (r"\b200 epochs", "the paper's recipe, in kneeedge/runs/config.py"),
    (r"\brefuse 1 % of val", "how the limit is set, in kneeedge/training/novelty.py"),
    (r"\bunder 1 point", "the gate's tolerance, in kneeedge/model/verdict.py"),
    (r"\baim of 0\.90", "what was aimed at"),
    (r"\b(?:8 (?:or|to) )?1[26] bits?\b", "bit depths that are read"),
    (r"\b548 MB", "the size of torchvision's file, as its documentation has it"),
    (r"\b(?:1|32) MiB|\bfirst 16 digits", "bounds of a model file, in kneeedge/model/"),
    (r"\bTID 1500|\bRFC 8032|\bfrom 1\.29 on|\bPython (?:≥ )?3\.11|\bx86-64", "names and versions"),
)
"""what a number may stand in without a source, and why: a definition or a choice, never something
that was measured
"""
LEFT_OUT = (
    r"<!-- table [\w-]+ -->.*?<!-- end -->",
    r"[-+−]?\d[\d,.]*(?:e[-+]?\d+)?<!--=.*?-->",
    r"<!--.*?-->",
    r"^```.*?^```",
    r"(?<=\n\n)(?:    [^\n]*\n)+",
    r"`[^`\n]*`",
    r"\]\([^)]*\)",
    r"^\s*\d+\. ",
)
NUMBER = re.compile(r"(?<![\w.])(?<![A-Za-z]-)\.?\d\S*")
"a word that starts with a number"


def unsourced(page: str) -> list[tuple[int, str, str]]:
    """Line, number and surroundings of every number of the page without a source."""
    text = page
    for pattern in (*LEFT_OUT, *(constant(phrase) for phrase, _ in ALLOWED)):
        text = re.sub(pattern, blank, text, flags=re.DOTALL | re.MULTILINE)
    return [
        (text.count("\n", 0, match.start()) + 1, match[0], surroundings(page, match.start()))
        for match in NUMBER.finditer(text)
    ]


def constant(phrase: str) -> str:
    """The pattern of an allowed phrase, which may stand on two lines."""
    return phrase.replace(" ", r"\s+")


def blank(match: re.Match[str]) -> str:
    """Spaces in place of a match, with its ends of lines kept."""
    return re.sub(r"[^\n]", " ", match[0])


def surroundings(page: str, at: int) -> str:
    """The words around a place."""
    return " ".join(page[max(0, at - 30) : at + 30].split())
