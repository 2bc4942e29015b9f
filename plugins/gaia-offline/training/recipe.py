"""
Turn the tile releases into captioned training pictures.

    python recipe.py RELEASES OUTPUT

writes OUTPUT/pictures.npz (what train.py reads) and OUTPUT/tiles.csv (every file
that was used, its SHA-256 and its caption).
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import random
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from pictures import Picture, colours, load, recoloured, without_shadow

HERE = Path(__file__).parent
RELEASES = ("Nov-2015", "Ancient/Oct-5-2010")
CONCEPT_SHARE = 0.56
"""How much of all samples shows one of the twenty."""

DRESSED_SHARE = 0.65
"""How much of the wizards and knights is composed of layers."""

_MOST_WORDS = 8
_SHOWN, _SLIVER = 128, 0.05
_CLOAKED = 0.3
_LONG = 4
"""Shorter parts of a layer's name say little."""

_LAYERS = "Nov-2015/player"


@attrs.frozen(kw_only=True)
class Sample:
    """A training picture with the words that describe it."""

    picture: Picture = attrs.field(eq=False, repr=False)
    words: tuple[str, ...]
    kind: str
    weight: float
    sources: tuple[str, ...]
    variant: str = ""


@attrs.frozen(kw_only=True)
class Concept:
    """One of the twenty words and the patterns of the tiles that show it."""

    word: str
    share: float
    strong: tuple[re.Pattern[str], ...]
    also: tuple[re.Pattern[str], ...]
    recolour: tuple[str, ...]
    prefer: frozenset[str]

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> Concept:
        """Build a concept from its entry in concepts.toml."""
        return cls(
            word=entry["word"],
            share=entry["share"],
            strong=tuple(re.compile(pattern) for pattern in entry["strong"]),
            also=tuple(re.compile(pattern) for pattern in entry["also"]),
            recolour=tuple(entry["recolour"]),
            prefer=frozenset(entry.get("prefer", ())),
        )

    def claim(self, path: str) -> float:
        """How much the tile counts for this concept; 0 where it does not."""
        if any(pattern.fullmatch(path) for pattern in self.strong):
            return 3.0
        if any(pattern.fullmatch(path) for pattern in self.also):
            return 1.0
        return 0.0


@attrs.frozen(kw_only=True)
class Recipe:
    """Everything that concepts.toml and rest.toml say."""

    concepts: tuple[Concept, ...]
    rest: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Recipe:
        """Read both files of the recipe."""
        concepts = tomllib.loads((folder / "concepts.toml").read_text())
        rest = tomllib.loads((folder / "rest.toml").read_text())
        return cls(
            concepts=tuple(Concept.read(entry) for entry in concepts["concept"]),
            rest=rest,
        )

    @property
    def concept_words(self) -> frozenset[str]:
        """The twenty words."""
        return frozenset(concept.word for concept in self.concepts)

    def kind(self, path: str) -> str | None:
        """The kind of picture behind a path, or None where it is not used."""
        paths = self.rest["paths"]
        if re.search(paths["skip"], path.lower()):
            return None
        inner = path.removeprefix("Nov-2015/").removeprefix("Ancient/Oct-5-2010/")
        kinds: Mapping[str, str] = self.rest["kinds"]
        kind = next((kinds[start] for start in kinds if inner.startswith(start)), None)
        if kind == "dungeon" and not re.search(paths["dungeon"], path):
            return None
        return kind

    def path_words(self, path: str) -> tuple[str, ...]:
        """The words of a path that say what is seen, without the twenty."""
        words = self.rest["words"]
        leave = {*words["ignored"], *words["colours"], *self.concept_words}
        inner = path.split("/", 1)[1].lower().removeprefix("oct-5-2010/")
        name = [
            singular(word) for word in re.findall("[a-z]{3,}", inner.split("/")[-1])
        ]
        alike = [
            self.rest["alike"][word] for word in name if word in self.rest["alike"]
        ]
        kin = [word for part, word in self.rest["kin"].items() if part in inner]
        found = dict.fromkeys(name + alike + kin)
        return tuple(word for word in found if word not in leave)


def singular(word: str) -> str:
    """Take the plural s off an English word of four letters or more."""
    is_plural = re.fullmatch("[a-z]{3,}[^su]s", word)
    return word[:-1] if is_plural else word


def tiles(releases: Path, recipe: Recipe) -> Iterator[tuple[str, Picture]]:
    """Every distinct usable tile, with its path below the releases folder."""
    seen: set[bytes] = set()
    unclear = frozenset(recipe.rest["paths"]["unclear"])
    for release in RELEASES:
        for file in sorted((releases / release).rglob("*.png")):
            if file.stem in unclear:
                continue
            picture = load(file)
            if picture is None or (picture[..., 3] > _SHOWN).mean() < _SLIVER:
                continue
            digest = hashlib.sha256(picture.tobytes()).digest()
            if digest not in seen:
                seen.add(digest)
                yield str(file.relative_to(releases).with_suffix("")), picture


def tile_samples(path: str, picture: Picture, recipe: Recipe) -> Iterator[Sample]:
    """The samples that one tile gives: itself and its recoloured variants."""
    clean = without_shadow(picture)
    for concept in recipe.concepts:
        weight = concept.claim(path)
        if weight == 0:
            continue
        for variant in ("", *concept.recolour):
            shown = recoloured(clean, variant) if variant else clean
            named = colours(shown)
            usual = 3.0 if concept.prefer.intersection(named[:1]) else 1.0
            yield Sample(
                picture=shown,
                words=caption((concept.word,), named, recipe.path_words(path)),
                kind=concept.word,
                weight=usual * (weight / 4 if variant else weight),
                sources=(path,),
                variant=variant,
            )
        return
    kind = recipe.kind(path)
    words = recipe.path_words(path)
    if kind is not None and words:
        yield Sample(
            picture=clean,
            words=caption(words[:5], colours(clean), (kind,)),
            kind=kind,
            weight=1.0,
            sources=(path,),
        )


def caption(*parts: Sequence[str]) -> tuple[str, ...]:
    """Join parts of a caption, each word once, at most eight of them."""
    return tuple(dict.fromkeys(word for part in parts for word in part))[:_MOST_WORDS]


@attrs.frozen(kw_only=True)
class Costume:
    """Which player layers a composed hero may wear."""

    word: str
    count: int
    body: str
    hand: str
    head: str
    bare: float
    """The share of heroes whose head stays uncovered."""

    shield: float
    """The share of heroes that carry a shield."""

    legs: str = "."
    boots: str = "."
    clad: float = 0.45
    """The share of heroes with leg wear, and of those with boots."""


COSTUMES = (
    Costume(
        word="wizard",
        count=260,
        body="robe_(?!jester)|gandalf|saruman",
        hand="staff_|quarterstaff|great_staff|gandalf|saruman",
        head="wizard_|gandalf",
        bare=0.0,
        shield=0.0,
    ),
    Costume(
        word="knight",
        count=260,
        body="half_plate|bplate_metal|plate_|armour_blue",
        hand="(black_|heavy_|double_|short_)?sword|broadsword|lance|great_sword|long_sword",
        head="fhelm_(gray|horn2)|helm_plume|full_gold|chain|iron_red|isildur",
        bare=0.0,
        shield=1.0,
        legs="leg_armour|metal_gray",
        boots="mesh_(white|black)|middle_gray|blue_gold",
        clad=1.0,
    ),
    Costume(
        word="hero",
        count=700,
        body=".",
        hand=".",
        head=".",
        bare=0.5,
        shield=0.35,
    ),
)
_RACES = (
    "human|elf|deep_elf|dwarf|halfling|gnome|kobold|minotaur|demigod|vampire|mummy|"
    "ghoul|tengu"
)
_KNIGHT_RACES = "human|elf|dwarf|demigod|deep_elf"


def heroes(releases: Path, costume: Costume) -> Iterator[Sample]:
    """Dress bodies in the player layers, the same heroes on every run."""
    chance = random.Random(costume.word)  # noqa: S311 - reproducible, not secret
    layers = releases / _LAYERS
    races = _RACES if costume.word == "hero" else _KNIGHT_RACES

    def files(folder: str, pattern: str) -> list[Path]:
        found = sorted((layers / folder).glob("*.png"))
        return [file for file in found if re.match(pattern, file.stem)]

    bases = files("base", rf"({races})(2?_(brown\d_)?[fm]|_.*)?$")
    bodies, hands = files("body", costume.body), files("hand1", costume.hand)
    heads, shields = files("head", costume.head), files("hand2", ".*shield|buckler")
    hair = files("hair", ".")
    boots, legs = files("boots", costume.boots), files("legs", costume.legs)
    cloaks = files("cloak", ".")
    for _ in range(costume.count):
        parts = [chance.choice(bases)]
        if chance.random() < _CLOAKED:
            parts.insert(0, chance.choice(cloaks))
        if chance.random() < costume.clad:
            parts.append(chance.choice(legs))
        if chance.random() < costume.clad:
            parts.append(chance.choice(boots))
        parts.append(chance.choice(bodies))
        covered = chance.random() >= costume.bare
        parts.append(chance.choice(heads if covered else hair))
        parts.append(chance.choice(hands))
        if chance.random() < costume.shield:
            parts.append(chance.choice(shields))
        yield _dressed(parts, costume.word, releases)


def _dressed(parts: Sequence[Path], word: str, releases: Path) -> Sample:
    """Lay the parts over each other and caption the result."""
    canvas = np.zeros((32, 32, 4), np.float32)
    dress: tuple[str, ...] = ()
    for part in parts:
        layer = load(part)
        if layer is None:
            continue
        alpha = layer[..., 3:].astype(np.float32) / 255
        canvas[..., :3] = layer[..., :3] * alpha + canvas[..., :3] * (1 - alpha)
        canvas[..., 3:] = np.maximum(canvas[..., 3:], layer[..., 3:])
        if part.parent.name == "body":
            dress = colours(layer)
    telling = [part for part in parts if part.parent.name in ("base", "body", "hand1")]
    names = [part.stem.split("_") for part in telling]
    said = [_GRAY.get(w, w) for name in names for w in name if len(w) >= _LONG]
    leave = {"slant", "three", "four", "cloth", "dark", "slit", "onep", "half"}
    words = tuple(w for w in said if w.isalpha() and w not in leave)
    if word == "hero":
        words = tuple(w for w in words if w not in ("wizard", "knight"))
    return Sample(
        picture=canvas.astype(np.uint8),
        words=caption((word,), dress, words),
        kind=word,
        weight=1.0,
        sources=tuple(str(p.relative_to(releases).with_suffix("")) for p in parts),
    )


_GRAY = {"gray": "grey", "magenta": "pink", "golden": "yellow", "bplate": "plate"}


_REST = {"creature": 0.46, "item": 0.27, "dungeon": 0.12, "hero": 0.15}
"""How the samples that show none of the twenty are divided."""


def balanced(samples: Sequence[Sample], recipe: Recipe) -> np.ndarray[Any, Any]:
    """How often each sample is drawn: the concepts evenly, then the rest."""
    shares = {concept.word: concept.share for concept in recipe.concepts}
    total = sum(shares.values())
    mass = {word: CONCEPT_SHARE * share / total for word, share in shares.items()}
    left = 1 - CONCEPT_SHARE
    mass |= {kind: left * share for kind, share in _REST.items()}
    weights = np.array([sample.weight for sample in samples])
    composed = np.array([len(sample.sources) > 1 for sample in samples])
    kinds = np.array([sample.kind for sample in samples])
    result = np.zeros(len(samples))
    for kind, share in mass.items():
        drawn, dressed = (kinds == kind) & ~composed, (kinds == kind) & composed
        mixed = drawn.any() and dressed.any()
        parts = (1 - DRESSED_SHARE, DRESSED_SHARE) if mixed else (1, 1)
        for group, part in zip((drawn, dressed), parts, strict=True):
            result[group] = share * part * weights[group] / weights[group].sum()
    return result


def gather(releases: Path, recipe: Recipe) -> list[Sample]:
    """All samples of the recipe, in a fixed order."""
    drawn = [
        sample
        for path, picture in tiles(releases, recipe)
        for sample in tile_samples(path, picture, recipe)
    ]
    dressed = [sample for costume in COSTUMES for sample in heroes(releases, costume)]
    return drawn + dressed


def write_list(samples: Sequence[Sample], releases: Path, target: Path) -> None:
    """List the files used, each once, with its hash and its caption."""
    captions: dict[str, str] = {}
    for sample in samples:
        is_single = len(sample.sources) == 1 and not sample.variant
        for source in sample.sources:
            said = " ".join(sample.words) if is_single else "(layer of heroes)"
            captions.setdefault(source, said)
    with target.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("file", "sha256", "caption"))
        for source in sorted(captions):
            content = (releases / f"{source}.png").read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            writer.writerow((f"{source}.png", digest, captions[source]))


def main() -> None:
    """Build the training pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("releases", type=Path)
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    recipe = Recipe.read(HERE)
    samples = gather(options.releases, recipe)
    options.output.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        options.output / "pictures.npz",
        pictures=np.stack([sample.picture for sample in samples]),
        captions=np.array([" ".join(sample.words) for sample in samples]),
        kinds=np.array([sample.kind for sample in samples]),
        chances=balanced(samples, recipe),
    )
    write_list(samples, options.releases, options.output / "tiles.csv")


if __name__ == "__main__":
    main()
