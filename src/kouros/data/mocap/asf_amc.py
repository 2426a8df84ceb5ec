"""Acclaim's ASF (skeleton) and AMC (motion) files, as the CMU motion capture database distributes them.

Grammar and kinematics: the format's description at mocap.cs.cmu.edu and Lander's "Working with Motion Capture
File Formats" (Game Developer, 1998). A bone's frame is turned by its ``axis`` angles, C; the frame's angles
give M; a bone turns against its parent by ``C M C^-1``, from a rest pose in which it lies along
``direction``.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from kouros.data.schema import DatasetError

INCH = 0.0254


@dataclass(frozen=True, eq=False)
class Bone:
    """A bone of a skeleton."""

    name: str
    parent: str
    direction: np.ndarray
    """(3,) unit vector in the rest pose."""
    length: float
    """Metres."""
    axis: Rotation
    """C."""
    dof: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Skeleton:
    """An ASF file."""

    bones: tuple[Bone, ...]
    """Parents before children; children of ``root`` have it as parent."""
    root_order: tuple[str, ...]
    root_axis: Rotation
    scale: float
    """Metres in a unit of the files."""
    degrees: bool

    def bone(self, name: str) -> Bone:
        """The bone of that name.

        Raises:
            DatasetError: there is none.
        """
        for bone in self.bones:
            if bone.name == name:
                return bone
        raise DatasetError(f"The skeleton has no bone {name!r}; it has {', '.join(b.name for b in self.bones)}.")


def read_asf(path: Path) -> Skeleton:
    """Read a skeleton.

    Raises:
        DatasetError: the file is missing or breaks the grammar.
    """
    try:
        return _parse_asf(path.read_text(encoding="latin1"))
    except OSError as error:
        raise DatasetError(f"{path}: this skeleton cannot be read ({error.strerror}).") from None
    except (ValueError, KeyError, IndexError) as error:
        raise DatasetError(f"{path}: this is no ASF skeleton that can be understood ({error!r}).") from None


def _parse_asf(text: str) -> Skeleton:
    sections: dict[str, list[list[str]]] = {}
    current: list[list[str]] = []
    for line in text.splitlines():
        words = line.split("#", 1)[0].replace("(", " ").replace(")", " ").split()
        if words and words[0].startswith(":"):
            current = sections.setdefault(words[0], [])
        elif words:
            current.append(words)
    units = {words[0]: words[1] for words in sections[":units"]}
    degrees = units["angle"].startswith("deg")
    scale = INCH / float(units["length"])  # lengths are in inches times this number
    root = {words[0]: words[1:] for words in sections[":root"]}
    parents = {
        child: words[0] for words in sections[":hierarchy"] if words[0] not in ("begin", "end") for child in words[1:]
    }
    raw: dict[str, dict[str, list[str]]] = {}
    entry: dict[str, list[str]] = {}
    for words in sections[":bonedata"]:
        if words[0] == "begin":
            entry = {}
        elif words[0] == "end":
            raw[entry["name"][0]] = entry
        else:
            entry.setdefault(words[0], words[1:])
    bones: list[Bone] = []
    placed = {"root"}
    while len(bones) < len(raw):
        ready = [name for name in raw if name not in placed and parents[name] in placed]
        if not ready:
            raise ValueError(f"bones without a way to the root: {sorted(raw.keys() - placed)}")
        for name in ready:
            bone = raw[name]
            direction = np.array([float(n) for n in bone["direction"][:3]])
            bones.append(
                Bone(
                    name,
                    parents[name],
                    direction / np.linalg.norm(direction),
                    float(bone["length"][0]) * scale,
                    _euler(bone["axis"][3], [float(n) for n in bone["axis"][:3]], degrees),
                    tuple(word.lower() for word in bone.get("dof", [])),
                )
            )
            placed.add(name)
    orientation = [float(n) for n in root.get("orientation", ["0", "0", "0"])]
    axis = _euler(root["axis"][0], orientation, degrees)
    return Skeleton(tuple(bones), tuple(word.lower() for word in root["order"]), axis, scale, degrees)


def _euler(order: str, angles: list[float] | np.ndarray, degrees: bool) -> Rotation:
    """Rotation about fixed axes in ``order``: XYZ is Rz Ry Rx."""
    return Rotation.from_euler(order.lower(), angles, degrees=degrees)


def read_amc(path: Path, skeleton: Skeleton) -> dict[str, np.ndarray]:
    """The numbers of each bone that has some, (frames, degrees of freedom), in the files' units; and of
    ``root``.

    Raises:
        DatasetError: the file is missing, breaks the grammar, or belongs to another skeleton.
    """
    expected = {bone.name: len(bone.dof) for bone in skeleton.bones if bone.dof} | {"root": len(skeleton.root_order)}
    frames: list[dict[str, list[float]]] = []
    try:
        lines = path.read_text(encoding="latin1").splitlines()
    except OSError as error:
        raise DatasetError(f"{path}: this motion cannot be read ({error.strerror}).") from None
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0][0] in "#:":
            continue
        if len(words) == 1 and words[0].isdigit():
            frames.append({})
            continue
        name, values = words[0], words[1:]
        if not frames or expected.get(name) != len(values):
            raise DatasetError(
                f"{path}, line {number}: {name} has {len(values)} numbers; expected "
                f"{expected.get(name, 'no such bone')}."
            )
        try:
            frames[-1][name] = [float(v) for v in values]
        except ValueError:
            raise DatasetError(f"{path}, line {number}: {line.strip()!r} is not all numbers.") from None
    incomplete = [i for i, frame in enumerate(frames) if frame.keys() != expected.keys()]
    if not frames or incomplete:
        what = f"frame {incomplete[0] + 1} lacks bones" if incomplete else "there are no frames"
        raise DatasetError(f"{path}: {what}; the file is cut off, or belongs to another skeleton.")
    return {name: np.array([frame[name] for frame in frames]) for name in expected}


def bone_rotations(
    skeleton: Skeleton, motion: dict[str, np.ndarray]
) -> tuple[dict[str, Rotation], dict[str, np.ndarray]]:
    """Turn of each bone from the rest pose, in the world, and place of its far end (frames, 3), metres.

    Both include ``root``, whose place is where its bones begin.
    """
    root = {name: motion["root"][:, i] for i, name in enumerate(skeleton.root_order)}
    angles = [name for name in skeleton.root_order if name.startswith("r")]
    order = "".join(name[1] for name in angles)
    turned = _euler(order, np.stack([root[name] for name in angles], axis=1), skeleton.degrees)
    rotations = {"root": skeleton.root_axis * turned * skeleton.root_axis.inv()}
    places = {"root": np.stack([root["tx"], root["ty"], root["tz"]], axis=1) * skeleton.scale}
    frames = len(places["root"])
    for bone in skeleton.bones:
        own = Rotation.identity(frames)
        if bone.dof:
            order = "".join(name[1] for name in bone.dof)
            own = bone.axis * _euler(order, motion[bone.name], skeleton.degrees) * bone.axis.inv()
        rotations[bone.name] = rotations[bone.parent] * own
        end = rotations[bone.name].apply(bone.direction * bone.length)
        places[bone.name] = places[bone.parent] + end
    return rotations, places
