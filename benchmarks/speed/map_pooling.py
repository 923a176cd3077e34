"""One training step of MAP pooling, 8 clips x 4096 tokens x 768: folded projections against the textbook form.

    python -m benchmarks.speed.map_pooling --json map_pooling.json

The textbook is `nn.MultiheadAttention` with one learned query, which projects every token to a key and a value. Both
get the same weights and the same upstream gradient; the tokens are frozen features while timing, and ask for gradients
as well when outputs and gradients are compared. Learned positions, a table in time and one in space, are measured too:
they must cost next to nothing, and pool as if they had been added to the tokens.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.speed.timing import Report, arguments, take_turns
from core_encoder.models.pooling import AttentionPooling, Positions


def same_pooling_twice(dim: int, heads: int) -> tuple[nn.MultiheadAttention, AttentionPooling]:
    textbook, folded = nn.MultiheadAttention(dim, heads, batch_first=True), AttentionPooling(dim, heads)
    with torch.no_grad():
        textbook.in_proj_weight.copy_(torch.cat([part.weight for part in (folded.q, folded.k, folded.v)]))
        textbook.in_proj_bias.copy_(torch.cat([part.bias for part in (folded.q, folded.k, folded.v)]))
        textbook.out_proj.load_state_dict(folded.o.state_dict())
    return textbook, folded


def main() -> None:
    parser = arguments("MAP pooling, forward and backward, folded against the textbook form.", rounds=7)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=4096, help="tokens per clip, of 16 frames")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    dim, heads = 768, 12
    textbook, folded = same_pooling_twice(dim, heads)
    query = nn.Parameter(folded.query.detach().clone())
    tokens = torch.randn(options.clips, options.tokens, dim)
    half = tokens.half()
    direction = torch.randn(options.clips, dim)

    def textbook_output(x: Tensor) -> Tensor:
        out, _ = textbook(query.expand(len(x), 1, dim), x, x, need_weights=False)
        return out[:, 0]

    def step(pool: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], None]:
        return lambda: pool(x).backward(direction)

    leaf = tokens.clone().requires_grad_()
    expected, pooled = textbook_output(leaf), folded(leaf)
    theirs = torch.autograd.grad(
        expected,
        [leaf, query, textbook.in_proj_weight, textbook.in_proj_bias, *textbook.out_proj.parameters()],
        direction,
    )
    parts = (folded.q, folded.k, folded.v)
    leaves = [leaf, folded.query, *(p.weight for p in parts), *(p.bias for p in parts), *folded.o.parameters()]
    mine = torch.autograd.grad(pooled, leaves, direction)
    mine = (*mine[:2], torch.cat(mine[2:5]), torch.cat(mine[5:8]), *mine[8:])
    difference = (pooled - expected).abs().max().item()
    worst = max((x - y).abs().max().item() for x, y in zip(mine, theirs, strict=True))

    time = nn.Parameter(0.1 * torch.randn(16, dim))
    space = nn.Parameter(0.1 * torch.randn(options.tokens // 16, dim))
    places = (time[:, None] + space).flatten(0, 1).detach()  # (L, D)
    placed = (folded(tokens, positions=Positions(time, space)) - folded(tokens + places)).abs().max().item()

    timings = take_turns(
        {
            "folded": step(folded, tokens),
            "folded, fp16 tokens": step(folded, half),
            "folded, with positions": step(lambda x: folded(x, positions=Positions(time, space)), tokens),
            "textbook": step(textbook_output, tokens),
        },
        options.rounds,
    )
    report = Report(
        "map_pooling", timings, {"clips": options.clips, "tokens": options.tokens, "dim": dim, "heads": heads}
    )
    report.at_least("times faster than the textbook", timings.ratio("textbook", "folded"), 20)
    report.note("times faster, fp16 tokens", timings.ratio("textbook", "folded, fp16 tokens"))
    report.at_least("times faster, with positions", timings.ratio("textbook", "folded, with positions"), 20)
    report.at_most("largest difference of the outputs", difference, 1e-5)
    report.at_most("largest difference to positions added to the tokens", placed, 1e-5)
    report.at_most("largest difference of all gradients", worst, 1e-5)
    report.publish(options.json)


if __name__ == "__main__":
    main()
