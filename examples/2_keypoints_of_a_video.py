"""Another detector's keypoints, frame by frame, become one smooth motion.

The "video" here is the free body waving, seen with two pixels of noise; yours would come from files
(`kouros fit FOLDER` reads OpenPose's and COCO's).
"""

import numpy as np
import torch

import kouros
from kouros.detection import DetectedPerson
from kouros.pipeline.sequence import VideoFrame, fit_video

SIZE, FRAMES, FOCAL = (1280, 720), 24, 1000.0

body = kouros.load_body()
pose = torch.zeros(FRAMES, 72)
pose[:, 0] = torch.pi  # upright before a camera whose y points down
pose[:, 3 * 17 + 2] = 1.0 + 0.5 * torch.sin(torch.linspace(0, 6, FRAMES))  # the right shoulder goes up and down
truth = body(global_orient=pose[:, :3], body_pose=pose[:, 3:], transl=torch.tensor([[0.0, 0.2, 4.0]]).repeat(FRAMES, 1))
points = body.keypoints_3d(truth, "coco17").numpy()

rng = np.random.default_rng(0)
frames = []
for number, space in enumerate(points):
    pixels = FOCAL * space[:, :2] / space[:, 2:] + np.array(SIZE) / 2 + rng.normal(0, 2, (17, 2))
    keypoints = np.column_stack([pixels, np.ones(17)])
    box = np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])
    frames.append(VideoFrame(f"frame {number}", number, [DetectedPerson(box, keypoints, "coco17", score=1.0)]))

for smooth in (False, True):
    video = fit_video(frames, image_size=SIZE, focal_length=FOCAL, frame_rate=24.0, smooth=smooth)
    joints = video.arrays()["joints_3d"][:, 0]  # (frames, 24, 3)
    jitter = np.linalg.norm(np.diff(joints, n=2, axis=0), axis=-1).mean()
    print(
        f"{'fitted together' if smooth else 'frame by frame'}: mean acceleration {1000 * jitter:.1f} mm a frame squared"
    )
