"""How many clips a second `nano` encodes: frames already decoded, and from H.264 files into the feature store.

python -m benchmarks.speed.nano_encoding --json nano_encoding.json
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line does; before torch

import torch

from benchmarks.speed.timing import Report, arguments, take_turns
from benchmarks.speed.videos import write_videos
from core_encoder import Clip, extract, load_encoder
from core_encoder.extraction import spec_for
from core_encoder.video.video_files import video_digest


def main() -> None:
    parser = arguments("Clips a second that nano encodes.", rounds=5)
    parser.add_argument("--clips", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    encoder = load_encoder("nano")
    size, frames = encoder.image_size, encoder.num_frames
    video = torch.rand(8, frames, 3, size, size, generator=torch.Generator().manual_seed(0))
    batches = options.clips // len(video)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_videos(Path(folder), options.clips)
        for path in paths:
            video_digest(path)
        clips = [Clip(str(path)) for path in paths]

        def encode_frames() -> None:
            for _ in range(batches):
                encoder(video)

        def encode_files() -> None:
            with tempfile.TemporaryDirectory() as root:
                report = extract(encoder, clips, spec_for(encoder), Path(root))
            assert report.n_encoded == len(clips), report

        timings = take_turns({"decoded frames": encode_frames, "H.264 files": encode_files}, options.rounds)
    settings = {"encoder": "nano", "clips": options.clips, "threads": options.threads}
    report = Report("nano encoding", timings, settings)
    report.at_least("clips/s, decoded frames", batches * len(video) / timings.median_s("decoded frames"), 50)
    report.note("clips/s, files into the store", len(clips) / timings.median_s("H.264 files"))
    report.publish(options.json)


if __name__ == "__main__":
    main()
