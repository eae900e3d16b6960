"""Gymnasium environments of Rapport. They know nothing of preferences.

Importing this package registers ``rapport/CupArm-v0``.
"""

import gymnasium

gymnasium.register(id="rapport/CupArm-v0", entry_point="envs.arm:CupArm")
