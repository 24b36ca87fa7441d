"""Agreement of predictions with clusters of the target's features."""

import warnings

from dafw.evidence import Evidence
from dafw.registry import register_validator

STARTS = 4


@register_validator(higher_is_better=True, sees=("target",))
def class_ami(seen: Evidence) -> float:
    """Adjusted mutual information of target predictions and k-means on their features (Musgrave et al. 2022, arXiv
    2208.07360).

    1 where the two partitions are the same, about 0 where they agree as chance would. k is the number of classes, and
    the best of four seeded starts is kept. Ours: it is 0 where one class alone is predicted, since such predictions
    say nothing of the clusters, though two trivial partitions are the same.
    """
    from sklearn.cluster import KMeans  # slow to import
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import adjusted_mutual_info_score

    predicted = seen.target.logits.argmax(1).numpy()
    if (predicted == predicted[0]).all():
        return 0.0
    clusters = min(seen.target.logits.shape[1], len(predicted))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct examples than clusters: some stay empty
        found = KMeans(clusters, n_init=STARTS, random_state=0).fit_predict(seen.target.features.double().numpy())
    return float(adjusted_mutual_info_score(predicted, found))
