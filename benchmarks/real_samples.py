"""How well does the default reconstruction do on the few real photos with ground truth?

PA-MPJPE over the 12 limb joints on two MPI-INF-3DHP frames, beside the detector's own 3D landmarks; PCK of the
projected keypoints at 0.1 of the box's longer side on two COCO photos. A handful of people: a check that the
chain holds on real pictures, not a benchmark score, and nothing may be tuned on it.

    python benchmarks/real_samples.py [--data ../shared/data]
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import kouros
from kouros.body.keypoints import BLAZEPOSE33, COCO17, MPI_INF_3DHP17
from kouros.data.images import read_image
from kouros.detection import find_people
from kouros.evaluation.metrics.pose import procrustes_errors

LIMBS = [
    f"{side}_{joint}" for side in ("left", "right") for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
]


def pa_mpjpe(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Millimetres."""
    source, target = torch.from_numpy(predicted).double()[None], torch.from_numpy(truth).double()[None]
    return 1000 * float(procrustes_errors(source, target).mean())


def nearest(boxes: list[np.ndarray], centre: np.ndarray) -> int:
    return int(np.argmin([np.linalg.norm((b[:2] + b[2:]) / 2 - centre) for b in boxes]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    data = parser.parse_args().data
    table = Table("photo", "person", "measure", "ours", "detector's own")
    annotations = np.load(data / "mpi_inf_3dhp_sample" / "annotations.npz")
    rows = [MPI_INF_3DHP17.index(n) for n in LIMBS]
    for name, points, centre in zip(annotations["imgname"], annotations["S"], annotations["center"], strict=True):
        photo = read_image(data / "mpi_inf_3dhp_sample" / str(name))
        people = kouros.reconstruct(photo)
        found = find_people(photo.pixels)
        person = people[nearest([p.box.numpy() for p in people], centre)]
        landmarks = found[nearest([p.box for p in found], centre)].landmarks_3d
        ours = person.keypoints_3d("mpi_inf_3dhp17").numpy()[rows]
        assert landmarks is not None  # the built-in detector always has them
        theirs = landmarks[[BLAZEPOSE33.index(n) for n in LIMBS]]
        pa_ours, pa_theirs = pa_mpjpe(ours, points[rows, :3]), pa_mpjpe(theirs, points[rows, :3])
        table.add_row(str(name), "0", "PA-MPJPE, mm", f"{pa_ours:.1f}", f"{pa_theirs:.1f}")
        print(json.dumps({"photo": str(name), "pa_mpjpe_mm": pa_ours, "detector_pa_mpjpe_mm": pa_theirs}))

    coco = json.loads((data / "coco_sample" / "annotations.json").read_text())
    hits, total, hits_detector = 0, 0, 0
    for image in coco["images"]:
        people = kouros.reconstruct(data / "coco_sample" / image["file_name"])
        for annotation in (a for a in coco["annotations"] if a["image_id"] == image["id"]):
            _, _, w, h = annotation["bbox"]
            truth = np.array(annotation["keypoints"], dtype=float).reshape(17, 3)
            labelled = truth[:, 2] > 0
            if not people or not labelled.any():
                print(
                    json.dumps(
                        {
                            "photo": image["file_name"],
                            "person": annotation["id"],
                            "labelled": int(labelled.sum()),
                            "found": 0,
                        }
                    )
                )
                total += int(labelled.sum())
                continue
            errors = [
                np.linalg.norm(p.keypoints_2d("coco17").numpy() - truth[:, :2], axis=1)[labelled].mean() for p in people
            ]
            person = people[int(np.argmin(errors))]
            good = np.linalg.norm(person.keypoints_2d("coco17").numpy() - truth[:, :2], axis=1) < 0.1 * max(w, h)
            detected = person.keypoints_detected.numpy()[[BLAZEPOSE33.index(n) for n in COCO17.names], :2]
            good_detector = np.linalg.norm(detected - truth[:, :2], axis=1) < 0.1 * max(w, h)
            pck, pck_detector = good[labelled].mean(), good_detector[labelled].mean()
            hits, total = hits + int(good[labelled].sum()), total + int(labelled.sum())
            hits_detector += int(good_detector[labelled].sum())
            table.add_row(
                image["file_name"],
                str(annotation["id"]),
                "PCK@0.1",
                f"{100 * pck:.0f}",
                f"{100 * pck_detector:.0f}",
            )
            print(
                json.dumps(
                    {
                        "photo": image["file_name"],
                        "person": annotation["id"],
                        "labelled": int(labelled.sum()),
                        "pck": float(pck),
                        "detector_pck": float(pck_detector),
                    }
                )
            )
    if total:
        table.add_row("all COCO", "", "PCK@0.1", f"{100 * hits / total:.1f}", f"{100 * hits_detector / total:.1f}")
        print(json.dumps({"pck": hits / total, "detector_pck": hits_detector / total, "keypoints": total}))
    Console().print(table)


if __name__ == "__main__":
    main()
