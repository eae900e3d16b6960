"""What tests import from transformers themselves needs what the package does before it imports it."""

from policies.cpu_torchvision import ensure_torchvision

ensure_torchvision()
