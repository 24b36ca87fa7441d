"""Reverse validation: the source, judged by a classifier that learnt from the model's target predictions."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor

from dafw.classifier import Classifier
from dafw.evidence import Evidence
from dafw.method import evaluating
from dafw.registry import register_validator
from dafw.split import generator

STEPS = 100
BATCH = 32
LEARNING_RATE = 1e-3


@register_validator(higher_is_better=True, only_named=True)
def reverse(seen: Evidence) -> float:
    """Source validation accuracy of a classifier trained on the target as the model labels it (Zhong et al. 2010, ECML
    PKDD; Ganin et al. 2016, JMLR 17:59, section 5.1).

    Labels that are right on the target teach what is right on the source too. The papers adapt back by the method
    itself, starting from its own weights, with the unlabelled source as its target; ours is the classifier as it was
    before training, trained on target validation alone by 100 Adam steps of 32 examples (rate 1e-3, no augmentation).
    So the value is low where target validation is small, and only compares models: from 108 digits (synth→digits) it
    told 30 % of wrong labels from none, but not 10 %. Its random draws are its own.

    Cost: a training of 100 steps at every evaluation point, and a forward pass over source validation; for the default
    network at 8 x 8 pixels half a second on one core.
    """
    model = copy.deepcopy(seen.fresh_model())
    _train(model, seen.target_inputs(), seen.target.logits.argmax(1))
    with evaluating(model), torch.no_grad():
        predicted = torch.cat([model(part).logits.argmax(1).cpu() for part in seen.source_inputs().split(512)])
    return float((predicted == seen.source_labels).double().mean())


def _train(model: Classifier, inputs: Tensor, labels: Tensor) -> None:
    """A few supervised steps from where the model is, the same at every call."""
    labels = labels.to(inputs.device)
    model.train().requires_grad_(True)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    draws = generator("reverse")
    devices = [inputs.device] if inputs.is_cuda else []
    with torch.random.fork_rng(devices), torch.enable_grad():
        torch.manual_seed(0)  # dropout draws from the global state
        for _ in range(STEPS):
            rows = torch.randint(len(inputs), (BATCH,), generator=draws).to(inputs.device)
            loss = F.cross_entropy(model(inputs[rows]).logits, labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
