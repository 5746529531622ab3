"""Turn category names into phrases: "traffic_light" -> "the traffic light", "the traffic lights".

Flow: category name of a format -> normalize -> pluralize -> own/expressions.py.
Source: our own table of English rules. inflect knows more words, but it takes 3.7 s to import and writes "skiss".
"""

import re
from functools import cache

# Nouns with the same form for one and several, and names that are plural already.
UNCHANGED = frozenset(
    "sheep deer reindeer fish aircraft spacecraft hovercraft watercraft species series moose bison squid shrimp salmon "
    "trout swine offspring skis scissors pants jeans trousers glasses sunglasses goggles binoculars pliers "
    "tweezers shorts broccoli rice bread grass sand snow water sky furniture equipment food fruit luggage clothing "
    "corn garlic lettuce spaghetti pasta jewelry cutlery poultry cattle police headphones earphones".split()
)
IRREGULAR = {
    "person": "people", "child": "children", "mouse": "mice", "louse": "lice", "goose": "geese", "tooth": "teeth",
    "foot": "feet", "ox": "oxen", "die": "dice", "quiz": "quizzes", "stomach": "stomachs", "leaf": "leaves",
    "loaf": "loaves", "thief": "thieves", "sheaf": "sheaves", "calf": "calves", "half": "halves", "shelf": "shelves",
    "elf": "elves", "wolf": "wolves", "scarf": "scarves", "knife": "knives", "wife": "wives", "life": "lives",
    "hoof": "hooves", "human": "humans", "german": "germans", "roman": "romans", "shaman": "shamans",
    "talisman": "talismans", "caiman": "caimans", "nucleus": "nuclei", "fungus": "fungi", "bacterium": "bacteria",
    "vertebra": "vertebrae", "larva": "larvae", "axis": "axes", "crisis": "crises", "gas": "gases", "lens": "lenses",
    "canvas": "canvases", "atlas": "atlases", "iris": "irises", "trellis": "trellises", "pelvis": "pelvises",
    "christmas": "christmases", "passerby": "passersby",
}  # fmt: skip
LAST_LATIN = "\u024f"  # a name in another script, such as Chinese, has no English plural
ENDS_IN_OES = frozenset("potato tomato hero echo torpedo mosquito buffalo mango domino volcano".split())
# Compounds of these follow them: housewives, bookshelves, postmen, grandchildren. Short words would match by chance.
HEADS = ("man", "child", "person", "tooth", "foot", "mouse", "goose", "shelf", "leaf", "knife", "wife", "wolf")


@cache
def normalize(name: str) -> str:
    """Return a category name as words: underscores and notes in parentheses removed, in lower case."""
    words = re.sub(r"\([^)]*\)", " ", name.replace("_", " "))
    return " ".join(words.split()).lower() or " ".join(name.split()).lower()


def pluralize(name: str) -> str:
    """Return the plural of a name in lower case: its last word's, or the word's before "of"."""
    head, of, rest = name.partition(" of ")
    before, space, noun = head.rpartition(" ")
    return before + space + _pluralize_word(noun) + of + rest


def _pluralize_word(word: str) -> str:
    if word in UNCHANGED or word.endswith("fish") or word[-1:] > LAST_LATIN:
        return word
    if word in IRREGULAR:
        return IRREGULAR[word]
    for head in HEADS:
        if word.endswith(head) and word != head:
            return word.removesuffix(head) + _pluralize_word(head)
    if word == "man" or word == "woman":
        return word[:-2] + "en"
    if word.endswith(("ss", "us", "x", "z", "ch", "sh")) or word in ENDS_IN_OES:
        return word + "es"
    if word.endswith("s"):
        return word  # a plural already, as "pants"
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word + "s"
