"""Print the vector of a video: python use.py {given}"""

import sys

from graph import open_graph
from inputs import inputs

if len(sys.argv) < 2:
    sys.exit(__doc__)
found = open_graph("model")(**inputs(sys.argv[1]))  # tokens (V, T, N, D), and the embedding (V, E) where there is one
vector = found[1].mean(0) if len(found) > 1 else found[0].mean((0, 1, 2))
print(*(f"{value:.4f}" for value in vector[:8]), "..." if len(vector) > 8 else "")
