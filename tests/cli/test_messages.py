"""What the command line answers to calls that cannot work: all of it, in `messages.txt`, to be read and compared.

Where a sentence was changed on purpose: ``pytest tests/cli/test_messages.py --update-snapshots``, and look at the
difference before it is committed.
"""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kouros.cli import main

pytest.importorskip("lightning")

CALLS = """
kouros
kouros nothing
kouros reconstruct
kouros reconstruct missing.jpg
kouros reconstruct empty.jpg letter.jpg folder
kouros reconstruct a.jpg --format fbx
kouros reconstruct a.jpg --boxes 1 2 3
kouros reconstruct a.jpg --focal-length -5
kouros reconstruct a.jpg --camera 900 900 500
kouros reconstruct a.jpg --camera missing.yml
kouros reconstruct a.jpg --camera letter.jpg
kouros reconstruct a.jpg --camera 900 900 500 400 --focal-length 900
kouros reconstruct a.jpg --height 180
kouros reconstruct a.jpg --max-people 0
kouros reconstruct a.jpg --body missing.pkl
kouros reconstruct a.jpg --body letter.jpg
kouros reconstruct a.jpg --out letter.jpg
kouros reconstruct a.jpg --keypoints k.json --boxes 0 0 9 9
kouros reconstruct a.jpg b.jpg --boxes 0 0 9 9
kouros reconstruct wall.png --keypoints nobody.json
kouros reconstruct missing.mp4
kouros reconstruct letter.mp4 folder --fps 25
kouros reconstruct letter.mp4 --start 2 --end 1
kouros reconstruct letter.mp4 --start -1
kouros reconstruct letter.mp4 --every 0
kouros reconstruct letter.mp4 --fps 0
kouros reconstruct letter.mp4 --boxes 0 0 9 9
kouros reconstruct letter.mp4 --dense
kouros fit
kouros fit nobody.json
kouros fit missing.json --image-size 640 480
kouros fit nobody.json --image-size 640 480
kouros fit short.json --image-size 640 480
kouros fit nobody.json --image-size 0 5
kouros fit nobody.json --image-size 640 480 --frame-rate 0
kouros fit folder --image-size 640 480
kouros fit folder --sequence --image-size 640 480
kouros body info missing.pkl
kouros surface --out pictures --body missing.pkl
kouros surface --out pictures --uv missing.obj
kouros surface --out letter.jpg
kouros import
kouros import coco
kouros import coco missing --out tables
kouros import lsp . --out tables --stride 2
kouros import lsp . --out tables --split val
kouros import human36m . --out tables --stride 0
kouros import cmu . --out clips --source-rate -60
kouros import mpi-inf-3dhp-train . --out tables --cameras 0 14
kouros import openpose missing.parquet --out tables
kouros import openpose missing.parquet --out tables --detections folder
kouros import pose-bank . --out bank
kouros data info missing.parquet
kouros data info folder
kouros data info folder --people 0
kouros synthesize --out people --people 0
kouros synthesize --out people --people 10 --mocap missing
kouros synthesize --out people --people 10 --rank 2 --world 2
kouros synthesize --out people --people 10 --athletic 2
kouros train lifter --data missing.npz --out run --athletic 2
kouros train
kouros train prior gmm --mocap missing --out gmm.npz
kouros train prior gmm --mocap folder --out gmm.npz
kouros train spin --data missing.parquet --out run --max-steps 1
kouros train spin --data a.parquet b.parquet --ratios 0.3 --out run --max-steps 1
kouros train spin --data missing.parquet --out run --max-steps 1 --ema 1
kouros train spin --data missing.parquet --out run --max-steps 1 --backbone 19
kouros evaluate
kouros evaluate default --on table-3d --data missing.parquet
kouros evaluate default --on table-3d --data folder
kouros evaluate nobody --on table-3d --data toy.parquet
kouros evaluate folder --on table-3d --data toy.parquet
kouros evaluate default --on lsp --data toy.parquet
kouros evaluate default --on 3dpw --data toy.parquet
kouros evaluate default --on table-3d --data toy.parquet --body missing.pkl
kouros evaluate blazepose --on table-3d --data toy.parquet --body missing.pkl
kouros evaluate default --on table-3d --data toy.parquet --images missing.txt
kouros evaluate default --on table-3d --data toy.parquet --smpl folder
kouros evaluate default --on nothing --data missing.parquet
kouros evaluate default --on table-3d --data missing.parquet --people 0
kouros models convert missing.pt --out run
"""


@pytest.fixture
def here(tmp_path: Path, table: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a table, and files that can be read but not used."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.jpg").touch()
    for name in ("letter.jpg", "letter.mp4"):
        (tmp_path / name).write_text("Dear Sir or Madam")
    (tmp_path / "nobody.json").write_text(json.dumps({"people": []}))
    (tmp_path / "short.json").write_text(json.dumps({"people": [{"pose_keypoints_2d": [100.0, 100.0, 0.9] * 24}]}))
    Image.fromarray(np.full((200, 300, 3), 180, np.uint8)).save(tmp_path / "wall.png")
    return tmp_path


def test_every_answer_is_the_known_one(here: Path, capsys, snapshot):
    before = sorted(path for path in here.rglob("*"))
    answers = []
    for call in CALLS.split("\n")[1:-1]:
        status = main(shlex.split(call)[1:])
        said = capsys.readouterr().err.replace(str(here), "HERE")
        assert status in (1, 2) and said and "Traceback" not in said, f"{call}: {status}: {said}"
        answers += [f"$ {call}", *_lines(said), f"  status {status}", ""]
    snapshot(Path(__file__).with_name("messages.txt"), "\n".join(answers))
    assert sorted(path for path in here.rglob("*")) == before  # and nothing was left behind


def _lines(said: str) -> list[str]:
    """As printed; but what tyro says itself changes with its version."""
    lines = said.splitlines()
    ours = lines[0].startswith("error:") or lines[-1].startswith("error:")
    return [f"  {line}" for line in lines] if ours else ["  (tyro says what it did not understand)"]
