"""Own annotations become a table, which training, evaluation and `kouros data info` read.

python examples/5_own_data.py [OUT]

One row a person; what you do not know stays out (None), and nothing is learned from it.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

import kouros
from kouros.body.keypoints import keypoint_set
from kouros.data.schema import Sample, TableInfo
from kouros.data.table_source import TableSource
from kouros.data.tables import write_table

out = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
photos = Path(kouros.__file__).parent / "data" / "demo"

samples: list[Sample] = []
for photo in ("people.jpg", "astronaut.jpg"):
    for person in kouros.reconstruct(photos / photo):  # your annotations in place of what kouros finds
        flat = np.column_stack([person.keypoints_2d("coco17").numpy(), np.ones(17)])  # x, y, confidence
        solid = np.column_stack([person.keypoints_3d("coco17").numpy(), np.ones(17)])  # metres, camera axes
        row = Sample(
            image_path=photo,  # below the table's image root
            image_size=person.image_size,
            bbox=person.box.numpy(),  # x0, y0, x1, y1, pixels
            keypoints_2d=flat.astype(np.float32),
            keypoints_3d=solid.astype(np.float32),
        )
        samples.append(row)

coco = keypoint_set("coco17")
info = TableInfo("mine", "train", str(photos), keypoints_2d=coco, keypoints_3d=coco, keypoints_3d_origin="camera")
rows = write_table(out / "mine_train.parquet", info, samples)
print(f"wrote {rows} people to {out / 'mine_train.parquet'}")

source = TableSource(out / "mine_train.parquet")
print("first row:", source.sample(0).image_path, "of", source.image(0).shape)
