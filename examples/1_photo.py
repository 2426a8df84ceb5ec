"""A photo in, people out: numbers, a rigged mesh, a picture to look at.

python examples/1_photo.py [PHOTO] [OUT]
"""

import sys
from pathlib import Path

import kouros
from kouros.data.images import read_image
from kouros.export.bundle import result_files
from kouros.files import write_files

demo = Path(kouros.__file__).parent / "data" / "demo" / "people.jpg"
photo = Path(sys.argv[1]) if len(sys.argv) > 1 else demo
out = Path(sys.argv[2]) if len(sys.argv) > 2 else Path("results")

people = kouros.reconstruct(photo)
for number, person in enumerate(people, start=1):
    height = float(person.vertices[:, 1].max() - person.vertices[:, 1].min())
    x, y, z = person.joints[0].tolist()  # the pelvis; camera space: x right, y down, z forward, metres
    print(f"person {number}: {height:.2f} m from top to toe as posed, {z:.1f} m away, score {person.score:.2f}")
    print("  left wrist in the photo:", [round(v) for v in person.keypoints_2d("coco17")[9].tolist()], "pixels")

files = result_files(people, ["glb"], pixels=read_image(photo).pixels)
write_files({out / f"{photo.stem}{suffix}": content for suffix, content in files.items()})
print(f"wrote {out}/{photo.stem}.glb, .overlay.png, .npz and .json")
