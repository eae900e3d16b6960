"""Gymnasium environments of Rapport. They know nothing of preferences.

Importing this package registers ``rapport/CupArm-v0``.
"""

import gymnasium

# Lets the front door recognise a folder of the user's that shadows this package.
__rapport__ = True

gymnasium.register(id="rapport/CupArm-v0", entry_point="envs.arm:CupArm")
