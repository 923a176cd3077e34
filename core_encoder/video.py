"""Video files: which frames (`clip_plan`), and soon their pixels."""

from core_encoder.clip_plan import Clip, ClipPlan, Preprocessing, VideoFacts, View

__all__ = ["Clip", "ClipPlan", "Preprocessing", "VideoFacts", "View"]
