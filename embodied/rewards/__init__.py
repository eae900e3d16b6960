"""Reward models: what is learned from answers. Each has `fit`, a reward for agents, a state and a fingerprint."""
