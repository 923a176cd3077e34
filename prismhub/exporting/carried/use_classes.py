"""Name the class of a video: python use.py {given}"""

import json
import sys
from pathlib import Path

from graph import open_graph
from inputs import inputs

if len(sys.argv) < 2:
    sys.exit(__doc__)
labels = json.loads(Path(__file__).with_name("labels.json").read_text(encoding="utf-8"))
scores = open_graph("model")(**inputs(sys.argv[1]))[0].mean(0)  # (K,), the mean over views
for place in (-scores).argsort(kind="stable")[:5]:
    print(f"{scores[place]:.3f}  {labels[place]}")
