"""MakeHuman's garments: ``.mhclo`` files, which say how a mesh hangs on the base mesh, and the OBJ beside them.

Of a ``.mhclo`` what is read are ``basemesh``, ``name``, ``obj_file``, the three scales and the lines after ``verts``:
of each of the garment's vertices one of the base mesh's, or three of them, their shares, and an offset, which grows
with the body as the scales say. Materials, textures and weights are passed over.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

BASE_MESH = "hm08"
_MAX_BYTES = 64 * 2**20
"""Of a file; the largest of MakeHuman's own have 2 MiB."""
_MAX_VERTICES = 200_000
_MAX_CORNERS = 16
"""Of a face."""
_LARGEST = 1e6
_DECIMETRE = 0.1
"""Metres; MakeHuman's unit."""
_AXES = ("x", "y", "z")


class GarmentError(ValueError):
    """A garment that cannot be used; the message is one sentence for the person who named it."""


@dataclass(frozen=True, eq=False)
class Garment:
    """A mesh, and where on the base mesh each of its vertices is."""

    name: str
    corners: Int[np.ndarray, "verts 3"]
    """Vertices of the base mesh."""
    shares: Float[np.ndarray, "verts 3"]
    """Of each corner; they may be negative or larger than 1."""
    offsets: Float[np.ndarray, "verts 3"]
    """From there, decimetres of a body whose scales are 1."""
    scales: tuple[tuple[int, int, float], ...]
    """For x, y and z: two vertices of the base mesh, and how far apart along that axis they are where the scale is 1,
    decimetres; none: the scales are 1."""
    faces: Int[np.ndarray, "faces 3"]

    def on(self, base: Float[np.ndarray, "base 3"]) -> Float[np.ndarray, "verts 3"]:
        """Where the garment's vertices are on a body.

        Args:
            base: the base mesh in that body's shape, y up, metres; so is the answer.
        """
        scale = np.ones(3)
        for axis, (first, second, apart) in enumerate(self.scales):
            scale[axis] = abs(base[first, axis] - base[second, axis]) / (_DECIMETRE * apart)
        return np.einsum("vk,vkc->vc", self.shares, base[self.corners]) + _DECIMETRE * scale * self.offsets


def garment_files(folder: Path) -> list[Path]:
    """All ``.mhclo`` files below a folder, in the order of their paths.

    Raises:
        GarmentError: there are none.
    """
    files = sorted(folder.rglob("*.mhclo")) if folder.is_dir() else []
    if not files:
        raise GarmentError(
            f"{folder} holds no garments; expected a folder with MakeHuman's .mhclo files in it or below."
        )
    return files


def read_garment(path: Path, base_vertices: int) -> Garment:
    """A garment and its mesh.

    Args:
        path: the ``.mhclo`` file; the OBJ that it names lies beside it.
        base_vertices: of the base mesh.

    Raises:
        GarmentError: they are not what they should be.
        OSError: one of them cannot be read.
    """
    header: dict[str, list[str]] = {}
    rows: list[list[float]] = []
    inside = False
    for number, line in enumerate(_lines(path), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0][0].isalpha():
            # Other words may stand between "verts" and the vertices; numbers of hidden skin follow "delete_verts".
            inside = words[0] != "delete_verts" and (inside or words[0] == "verts")
            header.setdefault(words[0], words[1:])
        elif inside:
            rows.append(_numbers(words, path, number))
    where = f"{path}"
    if header.get("basemesh", [BASE_MESH]) != [BASE_MESH]:
        raise GarmentError(
            f"{where} hangs on the base mesh {' '.join(header['basemesh'])[:40]!r}; expected {BASE_MESH}."
        )
    if not rows or len(rows) > _MAX_VERTICES:
        raise GarmentError(
            f"{where} places {len(rows)} vertices; expected 1 to {_MAX_VERTICES}, after a line 'verts 0'."
        )
    table = np.tile([0.0, 0, 0, 1, 0, 0, 0, 0, 0], (len(rows), 1))
    for k, row in enumerate(rows):
        if len(row) not in (1, 9):
            raise GarmentError(
                f"{where} places a vertex with {len(row)} numbers; expected one vertex of the base mesh, or three, "
                "their shares and an offset."
            )
        table[k, : len(row)] = row
    # Not "larger than": NaN is neither.
    if not (np.abs(table) < _LARGEST).all():
        raise GarmentError(f"{where} places vertices with numbers that are not finite or beyond {_LARGEST:,.0f}.")
    corners = np.rint(table[:, :3]).astype(np.int64)
    if (corners != table[:, :3]).any() or corners.min() < 0 or corners.max() >= base_vertices:
        raise GarmentError(
            f"{where} names vertices that the base mesh has not; those of {BASE_MESH} are 0 to {base_vertices - 1}."
        )
    obj = path.parent / _named_file(header, where)
    if not obj.is_file():
        raise GarmentError(f"{where} names {obj.name}, which is not beside it; put the two into one folder.")
    vertices, faces = _read_obj(obj)
    if vertices != len(rows):
        raise GarmentError(
            f"{where} places {len(rows)} vertices, but {obj.name} has {vertices}; they do not belong together."
        )
    name = " ".join(header.get("name", [path.stem]))[:80]
    return Garment(name, corners, table[:, 3:6], table[:, 6:], _scales(header, where, base_vertices), faces)


def _lines(path: Path) -> list[str]:
    with path.open("rb") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise GarmentError(f"{path} has more than {_MAX_BYTES // 2**20} MiB; expected a garment of MakeHuman.")
    return content.decode("utf-8", errors="replace").splitlines()


def _numbers(words: list[str], path: Path, line: int) -> list[float]:
    try:
        return [float(word) for word in words]
    except ValueError:
        raise GarmentError(f"{path}, line {line}: expected numbers, found {' '.join(words)[:60]!r}.") from None


def _named_file(header: dict[str, list[str]], where: str) -> str:
    name = " ".join(header.get("obj_file", []))
    if not name or Path(name).name != name:
        raise GarmentError(
            f"{where} names the mesh {name[:80]!r}; expected 'obj_file' and the name of a file beside it."
        )
    return name


def _scales(header: dict[str, list[str]], where: str, base_vertices: int) -> tuple[tuple[int, int, float], ...]:
    if not any(f"{axis}_scale" in header for axis in _AXES):
        return ()
    found = []
    for axis in _AXES:
        words = header.get(f"{axis}_scale", [])
        try:
            first, second, apart = int(words[0]), int(words[1]), float(words[2])
        except (IndexError, ValueError):
            raise GarmentError(
                f"{where}: {axis}_scale is {' '.join(words)[:40]!r}; expected two vertices and a length."
            ) from None
        if not (0 <= first < base_vertices and 0 <= second < base_vertices and 0 < apart < _LARGEST):
            raise GarmentError(
                f"{where}: {axis}_scale is {' '.join(words)[:40]!r}; expected two vertices and a length."
            )
        found.append((first, second, apart))
    return tuple(found)


def _read_obj(path: Path) -> tuple[int, Int[np.ndarray, "faces 3"]]:
    """How many vertices, and triangles."""
    vertices, faces = 0, []
    for number, line in enumerate(_lines(path), start=1):
        words = line.split()
        if words[:1] == ["v"]:
            vertices += 1
        elif words[:1] == ["f"]:
            try:
                corners = [int(word.partition("/")[0]) for word in words[1:]]
            except ValueError:
                raise GarmentError(
                    f"{path}, line {number}: expected the corners of a face, found {line[:60]!r}."
                ) from None
            corners = [c - 1 if c > 0 else vertices + c for c in corners]
            if not 3 <= len(corners) <= _MAX_CORNERS or min(corners) < 0:
                raise GarmentError(
                    f"{path}, line {number}: expected a face of 3 to {_MAX_CORNERS} vertices, found {line[:60]!r}."
                )
            faces += [(corners[0], b, c) for b, c in pairwise(corners[1:])]
    if not faces or len(faces) > 4 * _MAX_VERTICES:
        raise GarmentError(f"{path} has {len(faces)} faces; expected 1 to {4 * _MAX_VERTICES}.")
    table = np.array(faces, dtype=np.int64)
    if table.max() >= vertices:
        raise GarmentError(f"{path}: a face names vertex {int(table.max()) + 1} of {vertices}.")
    return vertices, table
