"""Say what someone in a box does: python use.py {given} LEFT TOP RIGHT BOTTOM, fractions of the picture"""

import json
import sys
from pathlib import Path

import numpy as np
from graph import open_graph
from inputs import inputs, seen_boxes

if len(sys.argv) < 6:
    sys.exit(__doc__)
labels = json.loads(Path(__file__).with_name("labels.json").read_text(encoding="utf-8"))
given, corners = inputs(sys.argv[1]), seen_boxes([[float(edge) for edge in sys.argv[2:6]]], sys.argv[1])
views, frames = given["frame_mask"].shape
boxes = np.broadcast_to(corners[None, :, None].astype(np.float32), (views, 1, frames, 4)).copy()  # it stays where it is
scores = open_graph("model")(**given, boxes=boxes)[0].mean(0)[0]  # (K,), the mean over views
for place in (-scores).argsort(kind="stable")[:5]:
    print(f"{scores[place]:.3f}  {labels[place]}")
