"""Say what is asked how often while all tasks are trained together.

Flow: shares -> TaskSource (cotrain.py), which draws a group of tasks a step and the tasks of its samples.
"""

# Tasks of one group share a batch: their answers have about one length, and a batch of pure text needs no SAM 2.
GROUPS: dict[str, dict[str, float]] = {
    "refseg": {"refseg": 1.0},
    "gcg": {"gcg": 1.0},
    "region": {"region": 1.0},
    "text": {"caption": 0.3, "conversation": 0.7},
    "video_refseg": {"video_refseg": 1.0},
    "video_text": {"video_conversation": 0.65, "video_caption": 0.35},
}
# Shares of the steps, by stage. A picture's marked region is the plainest lesson in reading the visual tokens, so the
# language begins with many; a request for a mask teaches no word of its answer.
FIRST_SHARES = {"region": 0.06, "gcg": 0.16, "refseg": 0.38, "text": 0.22, "video_refseg": 0.12, "video_text": 0.06}
SHARES = {"region": 0.05, "gcg": 0.15, "refseg": 0.33, "text": 0.18, "video_refseg": 0.20, "video_text": 0.09}
# Between packed batches, which ask for objects and compare them, captions and clips have more.
BESIDE_PACKED = {
    "region": 0.05,
    "gcg": 0.15,
    "refseg": 0.22,
    "text": 0.14,
    "video_refseg": 0.27,
    "video_text": 0.17,
}
