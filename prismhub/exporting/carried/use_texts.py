"""Say which text fits a video best: python use.py {given} "a text" "another" ..."""

import sys

import numpy as np
from graph import open_graph
from inputs import inputs
from texts import HOW, text_inputs

if len(sys.argv) < 3:
    sys.exit(__doc__)
video = open_graph("model")(**inputs(sys.argv[1]))[-1]  # (V, E), a unit vector a view
texts = open_graph("text")(**text_inputs(sys.argv[2:]))[0]  # (N, E)
shares = np.exp(HOW["scale"] * (video @ texts.T - (video @ texts.T).max(1, keepdims=True)))
scores = (shares / shares.sum(1, keepdims=True)).mean(0)  # (N,)
for place in (-scores).argsort(kind="stable"):
    print(f"{scores[place]:.3f}  {sys.argv[2 + place]}")
