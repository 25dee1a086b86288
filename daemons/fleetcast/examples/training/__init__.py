"""A training job for a lane: a small network that predicts how a game ends from its board. `train.py` is the job; with
torch where it is there, with numpy alone where it is not."""
