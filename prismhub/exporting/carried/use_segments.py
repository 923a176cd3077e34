"""Say when what happens in a video: python use.py {given}"""

import json
import sys
from pathlib import Path

from graph import open_graph
from inputs import vectors
from segments import padded, segments

if len(sys.argv) < 2:
    sys.exit(__doc__)
labels = json.loads(Path(__file__).with_name("labels.json").read_text(encoding="utf-8"))
values, spans = vectors(sys.argv[1])  # (W, D), (W, 2)
logits, distances = open_graph("model")(**padded(values))
for start, end, label, score in segments(logits[0], distances[0], spans, labels)[:5]:
    print(f"{score:.3f}  {start:.2f} - {end:.2f} s  {label}")
