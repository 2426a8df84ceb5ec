"""Run by a Python that has bpy: opens an animated GLB, BVH or USD, and says where its bones begin, y up.

``python blender_joints.py RATE SECOND,SECOND,... FILE [FILE ...]``; a line of JSON each: bone to place, second by
second.
"""

import json
import sys

import bpy


def places(seconds: list[float], rate: float, first: int) -> list[dict[str, list[float]]]:
    (armature,) = [thing for thing in bpy.data.objects if thing.type == "ARMATURE"]
    if armature.animation_data.nla_tracks:
        motion = next(action for action in bpy.data.actions if "motion" in action.name)
        armature.animation_data.action = motion
        armature.animation_data.action_slot = motion.slots[0]
        for track in armature.animation_data.nla_tracks:
            track.mute = True
    found = []
    for second in seconds:
        frame = first + second * rate
        bpy.context.scene.frame_set(int(frame + 1e-6), subframe=max(0.0, frame - int(frame + 1e-6)))
        heads = {bone.name: armature.matrix_world @ bone.head for bone in armature.pose.bones}
        found.append({name: [head[0], head[2], -head[1]] for name, head in heads.items()})
    return found


def main(rate: float, seconds: list[float], paths: list[str]) -> None:
    for path in paths:
        bpy.ops.wm.read_factory_settings(use_empty=True)
        bpy.context.scene.render.fps = round(rate)
        kind = path.rsplit(".", 1)[1]
        if kind == "glb":
            bpy.ops.import_scene.gltf(filepath=path)
        elif kind == "bvh":
            bpy.ops.import_anim.bvh(filepath=path)
        else:
            bpy.ops.wm.usd_import(filepath=path)
        print("JOINTS " + json.dumps(places(seconds, rate, 1 if kind == "bvh" else 0)))


if __name__ == "__main__":
    main(float(sys.argv[1]), [float(s) for s in sys.argv[2].split(",")], sys.argv[3:])
