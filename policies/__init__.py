"""Networks that act: stable-baselines3's PPO advanced in chunks, the Cartesian step, and the exported policy.

Import from the files (`from policies.sb3 import Sb3`): `mlp`, `chain`, `cartesian` and `export` are numpy-only, and
whatever loads an exported policy on a robot must not load torch.
"""
