"""Video files: which frames (`clip_plan`), how resized (`preprocessing`), and soon their pixels."""

from core_encoder.clip_plan import Clip, ClipPlan, VideoFacts, View
from core_encoder.preprocessing import Preprocessing, to_video_tensor

__all__ = ["Clip", "ClipPlan", "Preprocessing", "VideoFacts", "View", "to_video_tensor"]
