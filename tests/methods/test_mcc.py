"""MCC: what its terms are computed from, and that following them helps."""

import pytest
import torch
from torch.nn import functional

from dafw.classifier import Classifier
from dafw.losses.entropy import minimum_class_confusion
from dafw.methods.mcc import MCC
from dafw.setting import Batch, Progress


def test_terms_come_from_a_forward_pass_of_each_domain(model: Classifier, batch: Batch, progress: Progress) -> None:
    source_logits, target_logits = model(batch.source.inputs).logits, model(batch.target.inputs).logits
    p = (target_logits / 1.5).softmax(1).detach().double()
    certainty = 1 + torch.exp((p * p.log()).sum(1))
    certainty = 6 * certainty / certainty.sum()
    confusion = p.T @ torch.diag(certainty) @ p
    confusion = confusion / confusion.sum(1, keepdim=True)
    expected = (confusion.sum() - confusion.trace()).item() / 3

    terms = MCC(model, weight=0.4, temperature=1.5).losses(batch, progress)
    assert terms.keys() == {"classification", "class_confusion"}
    assert terms["class_confusion"].item() == pytest.approx(0.4 * expected, abs=1e-5)
    source = functional.cross_entropy(source_logits, batch.source.labels).item()
    assert terms["classification"].item() == pytest.approx(source, abs=1e-6)


def test_steps_lower_the_confusion_of_the_target(model: Classifier, batch: Batch, progress: Progress) -> None:
    method = MCC(model)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.5)
    before = method.losses(batch, progress)["class_confusion"].item()
    for _ in range(20):
        optimizer.zero_grad()
        method.losses(batch, progress)["class_confusion"].backward()
        optimizer.step()
    assert method.losses(batch, progress)["class_confusion"].item() < before - 0.05


def test_source_examples_have_no_part_in_the_confusion(model: Classifier, batch: Batch, progress: Progress) -> None:
    model.eval()  # no batch statistics: each row's logits are its own
    term = MCC(model).losses(batch, progress)["class_confusion"]
    alone = minimum_class_confusion(model(batch.target.inputs).logits, 2.5)
    torch.testing.assert_close(term, alone)
