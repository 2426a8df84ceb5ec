"""Part maps that others' parsers made: pictures whose pixels number body parts or clothes, in this project's labels.

Every parser has its own list. What each of its labels covers is told here by SMPL's joints whose skin it is, and from
that follows to which of `kouros.body.surface.parts.PART_SETS` a map can be brought: to any set none of whose borders
runs through a label. Who parses clothes does not know where an arm begins, and so gives three parts at most.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from kouros.body.surface.parts import PART_SETS, PARTS6, Colour, PartSet, part_set
from kouros.data.images import open_picture
from kouros.sentences import first_line


class PartsError(ValueError):
    """A part map that cannot be used; the message is one sentence for the person who named it."""


@dataclass(frozen=True)
class PartsFormat:
    """How somebody numbers and colours what a map shows."""

    name: str
    source: str
    """Who does so."""
    names: tuple[str, ...]
    """Of the labels from 1 on; 0 is the background."""
    joints: tuple[tuple[str, ...], ...]
    """Of each label, SMPL's joints whose skin it covers; none where it is nothing of a body."""
    colours: Mapping[Colour, int]
    """Labels of the colours in which such maps are painted."""

    def to(self, parts: PartSet) -> Int[np.ndarray, " labels"]:
        """For each label, the background's first, the label in one of this project's sets.

        Raises:
            PartsError: a border of the set runs through a label.
        """
        table = [0]
        for name, joints in zip(self.names, self.joints, strict=True):
            holding = [i for i, own in enumerate(parts.joints, start=1) if set(joints) <= set(own)]
            if joints and len(holding) != 1:
                touched = [n for n, own in zip(parts.names, parts.joints, strict=True) if set(joints) & set(own)]
                raise PartsError(
                    f"{self.name}'s {name!r} is part of {' and '.join(touched)} in {parts.name}; maps of {self.name} "
                    f"can be brought to {', '.join(self.sets)} only."
                )
            table.append(holding[0] if joints else 0)
        return np.array(table)

    @cached_property
    def sets(self) -> tuple[str, ...]:
        """Names of the sets that such maps can be brought to, from fine to coarse."""
        fitting = []
        for parts in sorted(PART_SETS.values(), key=len, reverse=True):
            inside = (not own or sum(set(own) <= set(part) for part in parts.joints) == 1 for own in self.joints)
            if all(inside):
                fitting.append(parts.name)
        return tuple(fitting)


def read_parts(
    path: str | Path, format_name: str, parts: str, size: tuple[int, int] | None = None
) -> Int[np.ndarray, "height width"]:
    """A map from a file, in the labels of one of this project's sets.

    Pictures in grey or with a palette hold the labels themselves, 0 for the background; those in colour hold the
    format's colours, and what is transparent in them is background.

    Args:
        format_name: of `FORMATS`.
        parts: of `kouros.body.surface.parts.PART_SETS`.
        size: width and height that the map must have, pixels: the photo's.

    Raises:
        PartsError: no such format; no picture, of another size, with labels or colours that the format has not, or
            with nobody in it; or a border of the set runs through one of its labels.
        KeyError: no such set.
        OSError: the file cannot be read.
    """
    if format_name not in FORMATS:
        raise PartsError(f"There is no format of part maps {format_name!r}; there are: {', '.join(FORMATS)}.")
    known = FORMATS[format_name]
    table = known.to(part_set(parts))
    labels = _read_labels(Path(path), known)
    height, width = labels.shape
    if size is not None and (width, height) != size:
        raise PartsError(
            f"{path} is {width}x{height} pixels, but the photo {size[0]}x{size[1]}; give a part map of the photo's "
            "size."
        )
    ours = table[labels]
    if not ours.any():
        raise PartsError(f"{path} shows nobody: all of its pixels are background.")
    return ours


def _read_labels(path: Path, known: PartsFormat) -> Int[np.ndarray, "height width"]:
    try:
        with open_picture(path) as picture:
            if picture.mode in ("L", "P", "I", "I;16", "1"):
                labels = np.asarray(picture).astype(np.int64)
                return _checked(path, known, labels)
            pixels = np.asarray(picture.convert("RGBA"))
    except (OSError, SyntaxError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # there is no such file, or it may not be read
        raise PartsError(
            f"{path} is no picture that can be read ({first_line(error)}); expected a PNG of part labels."
        ) from error
    return _by_colour(path, known, pixels)


def _checked(path: Path, known: PartsFormat, labels: np.ndarray) -> Int[np.ndarray, "height width"]:
    bad = (labels < 0) | (labels > len(known.names))
    if bad.any():
        raise PartsError(
            f"{path} holds the label {int(labels[bad][0])} in {int(bad.sum())} pixels; {known.name} has 0 to "
            f"{len(known.names)}. The map must be a PNG of labels, not a scaled or compressed picture of them."
        )
    return labels


def _by_colour(
    path: Path, known: PartsFormat, pixels: UInt8[np.ndarray, "height width 4"]
) -> Int[np.ndarray, "height width"]:
    red, green, blue, alpha = np.moveaxis(pixels.astype(np.int64), -1, 0)
    codes = (red << 16) + (green << 8) + blue
    labels = np.full(codes.shape, -1)
    for (r, g, b), label in known.colours.items():
        labels[codes == (r << 16) + (g << 8) + b] = label
    labels[alpha == 0] = 0
    if (labels < 0).any():
        row, column = np.argwhere(labels < 0)[0].tolist()
        raise PartsError(
            f"{path} has the colour {tuple(pixels[row, column, :3].tolist())} at pixel ({column}, {row}), and "
            f"{int((labels < 0).sum())} pixels in all that have no colour of {known.name}; expected a PNG in its "
            "palette, or of labels."
        )
    return labels


# ---- the formats


def _voc_colours(count: int) -> dict[Colour, int]:
    """PASCAL VOC's colours, which parsers' PNGs have: bits of the label dealt out to red, green and blue in turn."""
    colours = {}
    for label in range(count):
        channels = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                channels[channel] |= (label >> (3 * bit + channel) & 1) << (7 - bit)
        colours[channels[0], channels[1], channels[2]] = label
    return colours


def _parser(name: str, source: str, colours: dict[Colour, int] | None = None, **labels: tuple[str, ...]) -> PartsFormat:
    return PartsFormat(name, source, tuple(labels), tuple(labels.values()), colours or _voc_colours(1 + len(labels)))


def _own(parts: PartSet) -> PartsFormat:
    colours = {(int(r), int(g), int(b)): label for label, (r, g, b) in enumerate(parts.colours)}
    return PartsFormat(parts.name, "kouros", parts.names, parts.joints, colours)


_HEAD, _TORSO, _RIGHT_ARM, _LEFT_ARM, _RIGHT_LEG, _LEFT_LEG = PARTS6.joints
_ARMS, _LEGS = (*_LEFT_ARM, *_RIGHT_ARM), (*_LEFT_LEG, *_RIGHT_LEG)


def _end(limb: tuple[str, ...], *joints: str) -> tuple[str, ...]:
    """Those of a limb's joints that are named so."""
    return tuple(j for j in limb if j.partition("_")[2] in joints)


_HANDS, _FEET = _end(_ARMS, "wrist", "hand"), _end(_LEGS, "ankle", "foot")

LIP = _parser(
    "lip", "Look into Person (Gong et al., CVPR 2017); also CIHP, but for its torso skin",
    hat=_HEAD, hair=_HEAD, glove=_HANDS, sunglasses=_HEAD, upper_clothes=(*_TORSO, *_ARMS), dress=_TORSO,
    coat=(*_TORSO, *_ARMS), socks=_FEET, pants=_LEGS, jumpsuits=_TORSO, scarf=("neck",),
    skirt=_end(_LEGS, "hip"), face=_HEAD, left_arm=_LEFT_ARM, right_arm=_RIGHT_ARM, left_leg=_LEFT_LEG,
    right_leg=_RIGHT_LEG, left_shoe=_end(_LEFT_LEG, "foot"), right_shoe=_end(_RIGHT_LEG, "foot"),
)  # fmt: skip
"""Dresses and jumpsuits hide where the trunk ends: they go with it."""
ATR = _parser(
    "atr", "ATR (Liang et al., TPAMI 2015)",
    hat=_HEAD, hair=_HEAD, sunglasses=_HEAD, upper_clothes=(*_TORSO, *_ARMS), skirt=_end(_LEGS, "hip"), pants=_LEGS,
    dress=_TORSO, belt=("pelvis",), left_shoe=_end(_LEFT_LEG, "foot"), right_shoe=_end(_RIGHT_LEG, "foot"), face=_HEAD,
    left_leg=_LEFT_LEG, right_leg=_RIGHT_LEG, left_arm=_LEFT_ARM, right_arm=_RIGHT_ARM, bag=(), scarf=("neck",),
)  # fmt: skip
PASCAL = _parser(
    "pascal", "PASCAL-Person-Part (Chen et al., CVPR 2014), as it is cut to six",
    head=_HEAD, torso=_TORSO, upper_arms=_end(_ARMS, "shoulder"), lower_arms=_end(_ARMS, "elbow", "wrist", "hand"),
    upper_legs=_end(_LEGS, "hip"), lower_legs=_end(_LEGS, "knee", "ankle", "foot"),
)  # fmt: skip
"""It does not tell left from right."""


def _bodypix() -> PartsFormat:
    left, right = _LEFT_ARM, _RIGHT_ARM
    low = ("elbow",)
    joints = {"left_face": _HEAD, "right_face": _HEAD}
    for side, arm in (("left", left), ("right", right)):
        joints |= {f"{side}_upper_arm_{face}": _end(arm, "shoulder") for face in ("front", "back")}
    for side, arm in (("left", left), ("right", right)):
        joints |= {f"{side}_lower_arm_{face}": _end(arm, *low) for face in ("front", "back")}
    joints |= {"left_hand": _end(left, "wrist", "hand"), "right_hand": _end(right, "wrist", "hand")}
    joints |= {"torso_front": _TORSO, "torso_back": _TORSO}
    for side, leg in (("left", _LEFT_LEG), ("right", _RIGHT_LEG)):
        joints |= {f"{side}_upper_leg_{face}": _end(leg, "hip") for face in ("front", "back")}
    for side, leg in (("left", _LEFT_LEG), ("right", _RIGHT_LEG)):
        joints |= {f"{side}_lower_leg_{face}": _end(leg, "knee") for face in ("front", "back")}
    joints |= {"left_foot": _end(_LEFT_LEG, "ankle", "foot"), "right_foot": _end(_RIGHT_LEG, "ankle", "foot")}
    rainbow = (
        (110, 64, 170), (143, 61, 178), (178, 60, 178), (210, 62, 167), (238, 67, 149), (255, 78, 125), (255, 94, 99),
        (255, 115, 75), (255, 140, 56), (239, 167, 47), (217, 194, 49), (194, 219, 64), (175, 240, 91), (135, 245, 87),
        (96, 247, 96), (64, 243, 115), (40, 234, 141), (28, 219, 169), (26, 199, 194), (33, 176, 213), (47, 150, 224),
        (65, 125, 224), (84, 101, 214), (99, 81, 195),
    )  # fmt: skip
    colours = {colour: label for label, colour in enumerate(rainbow, start=1)} | {(0, 0, 0): 0, (255, 255, 255): 0}
    return _parser("bodypix", "BodyPix 2 (TensorFlow.js models); its part i is label i + 1", colours, **joints)


BODYPIX = _bodypix()
"""Its torso is one piece from neck to hips, and its face ends where the neck begins."""

FORMATS = {f.name: f for f in (LIP, ATR, PASCAL, BODYPIX, *(_own(parts) for parts in PART_SETS.values()))}
"""``parts24`` is the 24 parts that are derived from SMPL's joints, in their order."""
