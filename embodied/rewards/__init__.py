"""Reward models: what is learned from answers. Each has `fit`, `reward`, a state and a fingerprint."""
