"""A language so small that the best policy is known: every method becomes a point under one exact frontier.

model = pretrained(Path("runs/cache"))                       # pretrain.py: minutes once, then kept
learn, held_out = tutor.split()                              # tutor.py: questions, answers, gold
data = preferences(model, learn[:4000], rng)                 # preferences.py: Feedback for any method
ground = landscape(model, held_out[:200], rng)               # measure.py: what is possible (enumeration.py, optimum.py)
measure(policy, model, ground, rng).share                    # of the gain that is possible at the policy's KL
"""

from policies.cpu_torchvision import ensure_torchvision

ensure_torchvision()  # for transformers
