"""The words of a simulated product: a title and a description that show its attributes, each in one of its forms."""

from dataclasses import dataclass

from numpy.random import Generator

from tfrs_shop.sources.simulator_words import (
    CONCEPTS,
    FUNCTION_SENTENCES,
    FUNCTION_SENTENCES_AFTER,
    LOOKS,
    MATERIAL_SENTENCES,
    PLAIN_SENTENCES,
    TYPES,
    pick,
    stands_after,
)


@dataclass(frozen=True)
class Attributes:
    """What a product is. `functions`, `look`, `colour` and `material` show in its words and nowhere else."""

    type_name: str
    brand: str
    model: str
    size: str
    look: str
    colour: str
    material: str  # "look/family", as in CONCEPTS
    functions: tuple[str, ...]

    @property
    def name(self) -> str:
        """Return brand and model number, by which shoppers call the product."""
        return f"{self.brand} {self.model}"

    def concepts(self) -> list[str]:
        """Return the names of all concepts that a shopper may ask for, keys of CONCEPTS."""
        functions = [f"function:{name}" for name in self.functions]
        return [f"look:{self.look}", f"colour:{self.colour}", f"material:{self.material}", *functions]


def _capitalised(text: str) -> str:
    return " ".join(word if word[:1].isupper() else word[:1].upper() + word[1:] for word in text.split(" "))


def product_title(rng: Generator, product: Attributes, fits: str = "") -> str:
    """Return a title: brand, some attributes, type, model number and size; `fits` names the phone a case is for.

    A part of the attributes is left to the description, as sellers do.
    """
    before: list[str] = []
    after: list[str] = []
    if rng.random() < 0.7:
        before.append(pick(rng, LOOKS[product.look].forms))
    for name in product.functions[: 1 if rng.random() < 0.6 else 2]:
        form = pick(rng, CONCEPTS[f"function:{name}"])
        (after if stands_after(form) else before).append(form)
    if rng.random() < 0.5:
        before.reverse()
    model_early = rng.random() < 0.6
    head = [product.brand, *([product.model] if model_early else []), *before]
    title = _capitalised(" ".join([*head, pick(rng, TYPES[product.type_name].forms), *after]))
    for concept in (f"material:{product.material}", f"colour:{product.colour}"):
        if rng.random() < 0.65:
            title += (", " if rng.random() < 0.7 else " - ") + pick(rng, CONCEPTS[concept])
    title += f", {product.size}" if rng.random() < 0.7 else f" ({product.size})"
    if not model_early:
        title += f", {product.model}"
    return title + (f", for {fits}" if fits else "")


def product_description(rng: Generator, product: Attributes) -> str:
    """Return sentences in random order; they word the attributes anew, so a title's synonyms meet here."""
    kind = TYPES[product.type_name]
    moods = rng.choice(LOOKS[product.look].moods, size=2 if rng.random() < 0.5 else 1, replace=False)
    sentences = [str(mood) for mood in moods]
    for name in product.functions:
        form = pick(rng, CONCEPTS[f"function:{name}"])
        templates = FUNCTION_SENTENCES_AFTER if stands_after(form) else FUNCTION_SENTENCES
        upper = form[:1].upper() + form[1:]
        sentences.append(pick(rng, templates).format(type=pick(rng, kind.forms), function=form, Function=upper))
    if rng.random() < 0.8:
        material = pick(rng, CONCEPTS[f"material:{product.material}"])
        sentences.append(pick(rng, MATERIAL_SENTENCES[kind.family]).format(material=material))
    if rng.random() < 0.8:
        sentences.append(f"Colour: {pick(rng, CONCEPTS[f'colour:{product.colour}'])}.")
    if rng.random() < 0.4:
        sentences.append(f"Style: {pick(rng, LOOKS[product.look].forms)}.")
    sentences.append(pick(rng, PLAIN_SENTENCES).format(size=product.size))
    order = rng.permutation(len(sentences))
    return " ".join(sentences[place] for place in order)
