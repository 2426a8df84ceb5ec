"""Posed meshes without a skeleton, for tools that read no GLB: OBJ and PLY, a photo's people in one file.

Metres, in the axes of the GLB (`people.CAMERA_TO_FILE`): the photo's camera at the origin, y up, looking
along -z. OBJ keeps the people apart as objects ``person_1``, ``person_2``, ...; PLY, which has one mesh a
file, tells them by colour.
"""

from collections.abc import Sequence

import numpy as np
import trimesh
from jaxtyping import Float

from kouros.export.people import CAMERA_TO_FILE, PosedPerson, colour_of, require_people


def obj_bytes(people: Sequence[PosedPerson]) -> bytes:
    """A Wavefront OBJ file.

    Raises:
        ValueError: there is nobody.
    """
    require_people(people)
    lines = ["# kouros: metres, y up, the photo's camera at the origin looking along -z"]
    offset = 1  # OBJ counts from 1, through all objects
    for index, person in enumerate(people):
        vertices, faces = _vertices(person), person.body.faces.numpy()
        lines.append(f"o person_{index + 1}")
        lines.append(_rows("v %.6f %.6f %.6f", vertices))
        lines.append(_rows("f %d %d %d", faces + offset))
        offset += len(vertices)
    return ("\n".join(lines) + "\n").encode("ascii")


def ply_bytes(people: Sequence[PosedPerson]) -> bytes:
    """A binary PLY file with a colour a vertex.

    Raises:
        ValueError: there is nobody.
    """
    require_people(people)
    meshes = []
    for index, person in enumerate(people):
        color = np.rint(255 * np.array([*colour_of(index), 1.0])).astype(np.uint8)
        vertices = _vertices(person)
        meshes.append(
            trimesh.Trimesh(
                vertices=vertices,
                faces=person.body.faces.numpy(),
                vertex_colors=np.tile(color, (len(vertices), 1)),
                process=False,  # neither merge nor reorder vertices: they are the body model's
            )
        )
    data = trimesh.util.concatenate(meshes).export(file_obj=None, file_type="ply")
    return bytes(data)


def _vertices(person: PosedPerson) -> Float[np.ndarray, "vertices 3"]:
    return person.vertices.detach().double().numpy() @ CAMERA_TO_FILE.T


def _rows(pattern: str, values: np.ndarray) -> str:
    return "\n".join([pattern] * len(values)) % tuple(values.ravel().tolist())
