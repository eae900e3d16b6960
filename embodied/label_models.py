"""Label models: what is believed about the labels. They change the target, so they work with any loss."""

from collections.abc import Callable

from torch import Tensor

from embodied.feedback import Feedback
from embodied.losses import Loss

LabelModel = Callable[[Loss, Tensor, Feedback], Tensor]  # (loss, score [...,B,K] detached, feedback) -> target [B,K]


def as_given(loss: Loss, score: Tensor, feedback: Feedback) -> Tensor:
    """The target as the annotator gave it, [B,K]."""
    return feedback.target


def smooth(eps: float) -> LabelModel:
    """A label is taken for wrong with probability eps: [q, p] -> [(1-eps) q + eps p, ...].

    With DPO this is conservative DPO (Mitchell 2023). Raises ValueError unless 0 <= eps <= .5 and K = 2.
    """
    if not 0 <= eps <= 0.5:
        raise ValueError(f"eps is {eps}; give a share of wrong labels between 0 and .5")

    def label_model(loss: Loss, score: Tensor, feedback: Feedback) -> Tensor:
        target = _pairs(feedback)
        return (1 - eps) * target + eps * target.flip(-1)

    return label_model


def unbias(eps: float) -> LabelModel:
    """The inverse: the mean over labels flipped with probability eps is the loss of the true label.

    Targets leave [0,1]; that is the point, and `pairwise` takes them. With DPO this is robust DPO (arXiv 2403.00409).
    Raises ValueError unless 0 <= eps < .5 and K = 2.
    """
    if not 0 <= eps < 0.5:
        raise ValueError(
            f"eps is {eps}; give a share of wrong labels of at least 0 and below .5, where labels say nothing"
        )

    def label_model(loss: Loss, score: Tensor, feedback: Feedback) -> Tensor:
        target = _pairs(feedback)
        return ((1 - eps) * target - eps * target.flip(-1)) / (1 - 2 * eps)

    return label_model


def _pairs(feedback: Feedback) -> Tensor:
    if feedback.target.shape[-1] != 2:
        raise ValueError(
            f"a label model is about pairs, but K = {feedback.target.shape[-1]}; expand with all_pairs first"
        )
    return feedback.target
