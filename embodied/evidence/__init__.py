"""Feedback that has no page to give it on: what could have been said, how likely it was, and somebody who says it.

Every likelihood is a function of the weights [D] of a reward, and `learning.learn` puts any of them together.
"""
