"""The survey of RLHF (Kaufmann et al. 2023, arXiv 2312.14925) as a checklist, and its parts on the delivery board."""
