"""Norm of the target's normalised logits."""

from dafw.evidence import Evidence
from dafw.registry import register_validator

ORDER = 4  # of the norm
THRESHOLD = 5.0  # of the criterion; both are the paper's


@register_validator(higher_is_better=True, sees=("target",))
def matrix_norm(seen: Evidence) -> float:
    """The 4-norm of the target's normalised logits, (sum Q^4 / (N C))^(1/4) (Xie et al. 2024, NeurIPS, arXiv
    2405.18979, eq. 6-7).

    A row of Q is v(q) / sum v(q). With the criterion Phi = -mean log softmax(q) over examples and classes, v is exp
    where Phi > 5, that is where the model is sure, and else 1 + q + q^2 / 2, which cannot be overconfident. From
    1 / C to C^(-1/4). The authors' code also subtracts the least entry from a row of the polynomial, which is positive
    without it. The polynomial, unlike the softmax, sees a constant added to all logits.
    """
    logits = seen.target.logits.double()
    criterion = -logits.log_softmax(1).mean()
    if criterion > THRESHOLD:
        normalised = logits.softmax(1)
    else:
        polynomial = 1 + logits + logits.square() / 2
        normalised = polynomial / polynomial.sum(1, keepdim=True)
    return float(normalised.pow(ORDER).mean() ** (1 / ORDER))
