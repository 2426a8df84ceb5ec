"""Run by a Python that has bpy: puts a motion of a rig with Mixamo's names, but centimetres and other rolls, on a
GLB's people; prints as JSON how far limbs then point from the motion's, and how far they moved at most, degrees.

PYTHON blender_retarget.py FILE.glb FOLDER EXAMPLE
"""

import json
import math
import random
import runpy
import sys
from pathlib import Path

import bpy  # type: ignore[import-not-found]

people, folder, example = sys.argv[-3:]
tools = runpy.run_path(example)
bpy.ops.wm.read_factory_settings(use_empty=True)
(model, *_) = tools["armatures_of"](Path(people))
shape = {
    bone.name: (bone.parent.name if bone.parent else None, bone.head_local.copy(), bone.tail_local.copy())
    for bone in model.data.bones
    if not bone.name.endswith("Root")
}
bpy.ops.wm.read_factory_settings(use_empty=True)
data = bpy.data.armatures.new("other")
other = bpy.data.objects.new("other", data)
bpy.context.scene.collection.objects.link(other)
other.scale = (0.01, 0.01, 0.01)
other.rotation_euler = (0.0, 0.0, 0.7)
bpy.context.view_layer.objects.active = other
bpy.ops.object.mode_set(mode="EDIT")
rng = random.Random(0)
for name, (parent, head, tail) in shape.items():
    bone = data.edit_bones.new(name)
    bone.head, bone.tail = 83 * head, 83 * tail
    bone.roll = rng.uniform(-3, 3)
    bone.parent = data.edit_bones.get(parent) if parent else None
bpy.ops.object.mode_set(mode="POSE")
for frame in (1, 5, 9):
    for bone in other.pose.bones:
        bone.rotation_mode = "QUATERNION"
        axis = [rng.gauss(0, 1) for _ in range(3)]
        bone.rotation_quaternion = [1.0, *(0.2 * value for value in axis)]
        bone.keyframe_insert("rotation_quaternion", frame=frame)
bpy.ops.object.mode_set(mode="OBJECT")
motion = Path(folder) / "motion.blend"
bpy.ops.wm.save_as_mainfile(filepath=str(motion))

sys.argv = ["retarget.py", people, str(motion), str(Path(folder) / "out.blend")]
runpy.run_path(example, run_name="__main__")
other = bpy.data.objects["other"]
worst = moved = 0.0
for person in (thing for thing in bpy.data.objects if thing.type == "ARMATURE" and thing.name != "other"):
    for frame in range(1, 10):
        bpy.context.scene.frame_set(frame)
        bpy.context.view_layer.update()
        for bone in other.pose.bones:
            mine = person.pose.bones[bone.name]
            # How far bones of the two T-poses point apart stays as it is.
            ours, its = (thing.matrix_world.to_3x3() for thing in (person, other))
            rests = [b.bone.tail_local - b.bone.head_local for b in (mine, bone)]
            rest = math.degrees((ours @ rests[0]).angle(its @ rests[1]))
            posed = math.degrees((ours @ mine.vector).angle(its @ bone.vector))
            worst = max(worst, abs(posed - rest))
            moved = max(moved, math.degrees((ours @ mine.vector).angle(ours @ rests[0])))
print(
    "SEEN "
    + json.dumps(
        {"worst": worst, "moved": moved, "people": len([a for a in bpy.data.actions if "retargeted" in a.name])}
    )
)
