"""The survey of RLHF (Kaufmann et al. 2023, arXiv 2312.14925) as a checklist, and what of it works on the delivery board."""
