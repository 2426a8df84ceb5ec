"""A motion of one rig on another, in Blender: Mixamo's, or any whose bones have the same names, on kouros's people.

    kouros reconstruct photo.jpg --rig mixamo
    blender --background --python retarget.py -- photo.glb motion.fbx out.blend

Run so, or by a Python that has bpy. Each bone turns in space as the motion's bone does, counted from either one's
T-pose, so rolls, sizes and units of the two rigs may differ; the hips move as the motion's do, by the ratio of their
heights. The motion is an FBX with Mixamo's skeleton ("without skin" will do), a GLB, or a .blend; it ends up as an
action of its frames.
"""

import sys
from pathlib import Path

import bpy
from mathutils import Matrix


def armatures_of(path: Path) -> list[bpy.types.Object]:
    """What armatures a file adds to the scene."""
    before = set(bpy.data.objects)
    if path.suffix.lower() == ".fbx":
        bpy.ops.import_scene.fbx(filepath=str(path))
    elif path.suffix.lower() in (".glb", ".gltf"):
        bpy.ops.import_scene.gltf(filepath=str(path), disable_bone_shape=True)
    else:
        with bpy.data.libraries.load(str(path)) as (there, here):
            here.objects = there.objects
        for thing in here.objects:
            bpy.context.scene.collection.objects.link(thing)
    added = [thing for thing in bpy.data.objects if thing not in before and thing.type == "ARMATURE"]
    return sorted(added, key=lambda thing: thing.name)


def plain(name: str) -> str:
    """A bone's name without its rig's prefix."""
    return name.rpartition(":")[2]


def retarget(source: bpy.types.Object, target: bpy.types.Object, frames: range) -> int:
    """Key the target's bones on every frame; returns how many bones follow the motion."""
    bones = {plain(bone.name): bone for bone in source.pose.bones}
    pairs = [(bone, bones[plain(bone.name)]) for bone in target.pose.bones if plain(bone.name) in bones]
    hips = next(((mine, its) for mine, its in pairs if plain(mine.name).lower() in ("hips", "pelvis")), None)
    target.animation_data_clear()
    target.animation_data_create().action = bpy.data.actions.new(f"{target.name} retargeted")
    for bone in target.pose.bones:
        bone.rotation_mode = "QUATERNION"
        bone.matrix_basis = Matrix()

    def turn(thing: bpy.types.Object) -> Matrix:
        return thing.matrix_world.to_3x3().normalized()

    def height(thing: bpy.types.Object, bone: bpy.types.PoseBone) -> float:
        low = min((thing.matrix_world @ other.bone.tail_local).z for other in thing.pose.bones)
        return (thing.matrix_world @ bone.bone.head_local).z - low

    size = height(target, hips[0]) / height(source, hips[1]) if hips else 1.0
    for frame in frames:
        bpy.context.scene.frame_set(frame)
        bpy.context.view_layer.update()
        for mine, its in pairs:  # parents come before their children
            rest, posed = turn(source) @ its.bone.matrix_local.to_3x3(), turn(source) @ its.matrix.to_3x3().normalized()
            goal = turn(target).inverted() @ posed @ rest.inverted() @ turn(target) @ mine.bone.matrix_local.to_3x3()
            place = mine.matrix.translation
            if hips and mine == hips[0]:
                moved = source.matrix_world @ its.matrix.translation - source.matrix_world @ its.bone.head_local
                place = mine.bone.head_local + target.matrix_world.to_3x3().inverted() @ (size * moved)
            mine.matrix = Matrix.Translation(place) @ goal.to_4x4()
            bpy.context.view_layer.update()
            mine.keyframe_insert("rotation_quaternion", frame=frame)
            if hips and mine == hips[0]:
                mine.keyframe_insert("location", frame=frame)
    return len(pairs)


if __name__ == "__main__":
    people, motion, out = (Path(word) for word in sys.argv[-3:])
    bpy.ops.wm.read_factory_settings(use_empty=True)
    targets, (moving, *_) = armatures_of(people), armatures_of(motion)
    first, last = (round(end) for end in moving.animation_data.action.frame_range)
    for person in targets:
        count = retarget(moving, person, range(first, last + 1))
        print(f"{person.name}: {count} bones follow {moving.name}, frames {first} to {last}")
    bpy.ops.wm.save_as_mainfile(filepath=str(out.absolute()))
