"""Language models as policies of the preference core: the same losses and algorithms as on an arm, on tokens."""

from policies.cpu_torchvision import ensure_torchvision

ensure_torchvision()  # transformers and peft import it
