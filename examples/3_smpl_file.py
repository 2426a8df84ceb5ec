"""A licensed SMPL file in place of the free body; without one, the free body shows the same.

python examples/3_smpl_file.py [SMPL_NEUTRAL.pkl]
"""

import sys
from pathlib import Path

import torch

import kouros

body = kouros.load_body(sys.argv[1] if len(sys.argv) > 1 else None)
print(f"{len(body.v_template)} vertices, {body.num_betas} betas, keypoint sets: {', '.join(body.keypoint_sets)}")

# As smplx users expect; rotation vectors here, matrices with pose2rot=False.
out = body(betas=torch.zeros(1, body.num_betas), body_pose=torch.zeros(1, 69), transl=torch.zeros(1, 3))
print("mesh", tuple(out.vertices.shape), "joints", tuple(out.joints.shape))

demo = Path(kouros.__file__).parent / "data" / "demo" / "people.jpg"
for person in kouros.reconstruct(demo, body=body):
    print("betas", [round(b, 2) for b in person.betas.tolist()])
