"""Run by a Python that has bpy: imports a GLB as Blender does by default, and prints as JSON what is then there.

PYTHON blender_import.py FILE.glb
"""

import json
import sys

import bpy  # type: ignore[import-not-found]


def seen() -> dict[str, object]:
    graph = bpy.context.evaluated_depsgraph_get()
    meshes = {}
    for thing in bpy.data.objects:
        if thing.type == "MESH" and thing.vertex_groups:
            posed = thing.evaluated_get(graph)
            heights = [(posed.matrix_world @ vertex.co).z for vertex in posed.to_mesh().vertices]
            meshes[thing.name] = [min(heights), max(heights)]
    return meshes


bpy.ops.wm.read_factory_settings(use_empty=True)
bpy.ops.import_scene.gltf(filepath=sys.argv[-1])
armatures = [thing for thing in bpy.data.objects if thing.type == "ARMATURE"]
bones = {
    armature.name: {
        bone.name: {
            "parent": bone.parent.name if bone.parent else None,
            "head": list(armature.matrix_world @ bone.head_local),
            "tail": list(armature.matrix_world @ bone.tail_local),
        }
        for bone in armature.data.bones
    }
    for armature in armatures
}
photo = seen()
for armature in armatures:
    strips = {track.name: track for track in armature.animation_data.nla_tracks}
    action = strips["T-pose"].strips[0].action
    slots = [strip.action_slot for strip in strips["T-pose"].strips]
    armature.animation_data.action = action
    armature.animation_data.action_slot = slots[0]
bpy.context.scene.frame_set(0)
bpy.context.view_layer.update()
(camera,) = [thing for thing in bpy.data.objects if thing.type == "CAMERA"]
print(
    "SEEN "
    + json.dumps(
        {
            "bones": bones,
            "photo": photo,
            "t_pose": seen(),
            "actions": sorted(action.name for action in bpy.data.actions),
            "camera": list(camera.matrix_world.translation),
            "scales": [list(armature.scale) for armature in armatures],
        }
    )
)
