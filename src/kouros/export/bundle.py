"""All files of one photo: which suffix holds what, made in memory so that they can be written together."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from kouros.export.colours import photo_colours
from kouros.export.glb import glb_bytes
from kouros.export.meshes import obj_bytes, ply_bytes
from kouros.export.people import PosedPerson, Space, world_in
from kouros.export.pictures import overlay_picture, png_bytes
from kouros.export.results import csv_bytes, json_bytes, npz_bytes
from kouros.export.rigs import RigNames
from kouros.export.seen import seen_picture, who_was_seen

MeshFormat = Literal["glb", "obj", "ply", "csv"]
"""Of meshes; and a table of measurements and joint angles."""
OVERLAY_SUFFIX = ".overlay.png"
SEEN_SUFFIX = ".seen.png"
"""Of systems that say what they see of the skin."""


def result_files(
    people: Sequence[PosedPerson],
    formats: Sequence[MeshFormat],
    *,
    pixels: UInt8[np.ndarray, "height width 3"] | None = None,
    image: str | None = None,
    focal_source: str | None = None,
    space: Space = "world",
    rig: RigNames = "smpl",
    only_seen: bool = False,
    coloured_by: UInt8[np.ndarray, "height width 3"] | None = None,
) -> dict[str, bytes]:
    """Contents of the files by their suffix, in the order in which they should appear.

    Args:
        formats: of the meshes, and whether a table is wanted.
        pixels: the photo to draw the people over; None for no picture.
        image: where the photo is, for whoever reads the JSON.
        focal_source: what the focal length is from, for the same.
        space: of the meshes, of what the numbers call the world, and of the view from the side.
        rig: whose names the bones of a GLB have.
        only_seen: leave out of the meshes what the photo does not show.
        coloured_by: the photo whose colours the meshes are to have; None: a neutral grey.

    Raises:
        ValueError: there is nobody, or the numbers are not finite.
    """
    world = world_in(space, people)
    colours = None if coloured_by is None else photo_colours(coloured_by, people)
    writers = {
        "glb": lambda: glb_bytes(people, world, rig, only_seen=only_seen, colours=colours),
        "obj": lambda: obj_bytes(people, world, only_seen=only_seen, colours=colours),
        "ply": lambda: ply_bytes(people, world, only_seen=only_seen, colours=colours),
        "csv": lambda: csv_bytes(people),
    }
    files: dict[str, bytes] = {f".{name}": writers[name]() for name in dict.fromkeys(formats)}
    if pixels is not None:
        files[OVERLAY_SUFFIX] = png_bytes(overlay_picture(pixels, people, world))
        if seen := who_was_seen(people):
            files[SEEN_SUFFIX] = png_bytes(seen_picture(pixels, seen))
    files[".npz"] = npz_bytes(people, world)
    files[".json"] = json_bytes(people, world, image=image, focal_length_source=focal_source)
    return files
