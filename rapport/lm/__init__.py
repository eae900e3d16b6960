"""`rapport lm`: a language model copies, is rewarded, aligned, and learns from its own samples; then it is measured."""
