"""Worlds that are judged by their pictures."""
