"""Posed meshes without a skeleton, for tools that read no GLB: OBJ and PLY, a photo's people in one file.

Metres, y up, in the world of the GLB. OBJ keeps the people apart as objects ``person_1``, ``person_2``, ..., and has
texture coordinates; PLY, which has one mesh a file, tells people by colour.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from kouros.export.people import PosedPerson, colour_of, faces_shown, require_people
from kouros.pipeline.upright import World


def obj_bytes(
    people: Sequence[PosedPerson],
    world: World,
    *,
    only_seen: bool = False,
    colours: Sequence[Float[np.ndarray, "_ 3"]] | None = None,
) -> bytes:
    """A Wavefront OBJ file.

    Args:
        world: where the people stand.
        only_seen: leave out the faces that the photo does not show.
        colours: of each person's vertices, sRGB in [0, 1]; in OBJ they follow the places, as most tools read them.

    Raises:
        ValueError: there is nobody.
    """
    require_people(people)
    lines = ["# kouros: metres, y up"]
    offset = 1  # OBJ counts from 1, through all objects
    texture_offset = 1
    for index, person in enumerate(people):
        body, vertices = person.body, _vertices(person, world, index)
        shown = faces_shown(person, only_seen)
        faces = body.faces.numpy()[shown] + offset
        lines.append(f"o person_{index + 1}")
        if colours is None:
            lines.append(_rows("v %.6f %.6f %.6f", vertices))
        else:
            painted = np.concatenate([vertices, colours[index]], axis=1)
            lines.append(_rows("v %.6f %.6f %.6f %.4f %.4f %.4f", painted))
        if body.uv is not None and body.uv_faces is not None:
            lines.append(_rows("vt %.6f %.6f", body.uv.numpy()))
            corners = np.stack([faces, body.uv_faces.numpy()[shown] + texture_offset], axis=-1)
            lines.append(_rows("f %d/%d %d/%d %d/%d", corners.reshape(-1, 6)))
            texture_offset += len(body.uv)
        else:
            lines.append(_rows("f %d %d %d", faces))
        offset += len(vertices)
    return ("\n".join(lines) + "\n").encode("ascii")


def ply_bytes(
    people: Sequence[PosedPerson],
    world: World,
    *,
    only_seen: bool = False,
    colours: Sequence[Float[np.ndarray, "_ 3"]] | None = None,
) -> bytes:
    """A binary PLY file with a colour a vertex; the arguments are those of `obj_bytes`, and by default people are told
    apart by colour.

    Raises:
        ValueError: there is nobody.
    """
    import trimesh  # takes a sixth of a second, and most people want no PLY

    require_people(people)
    meshes = []
    for index, person in enumerate(people):
        vertices = _vertices(person, world, index)
        own = np.tile(colour_of(index), (len(vertices), 1)) if colours is None else colours[index]
        painted = np.rint(255 * np.concatenate([own, np.ones((len(own), 1))], axis=1)).astype(np.uint8)
        meshes.append(
            trimesh.Trimesh(
                vertices=vertices,
                faces=person.body.faces.numpy()[faces_shown(person, only_seen)],
                vertex_colors=painted,
                process=False,  # neither merge nor reorder vertices: they are the body model's
            )
        )
    data = trimesh.util.concatenate(meshes).export(file_obj=None, file_type="ply")
    return bytes(data)


def _vertices(person: PosedPerson, world: World, index: int) -> Float[np.ndarray, "vertices 3"]:
    return world.place(person.vertices.detach().cpu(), index).double().numpy()


def _rows(pattern: str, values: np.ndarray) -> str:
    return "\n".join([pattern] * len(values)) % tuple(values.ravel().tolist())
