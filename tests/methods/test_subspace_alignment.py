import copy

import numpy as np
import pytest
import torch
from by_hand import Rows, given_model, probabilities, regressed, same_state, two_domains, z_scored
from sklearn.decomposition import PCA

from dafw.errors import UsageError
from dafw.methods.subspace_alignment import SubspaceAlignment, principal_basis
from dafw.pair import Data
from dafw.registry import METHODS
from dafw.setting import Setting


def adapted(data, model=None, **values):
    model = model or given_model(data.source.inputs.shape[1], len(data.classes))
    method = SubspaceAlignment(copy.deepcopy(model), **values).train()
    method.finish(data)
    return method


def transcribed(source, target, dimension):
    """Eq. 1-4 on z-scored features: the aligned source and the projected target, both (N, dimension)."""
    p_s, p_t = (PCA(dimension, svd_solver="full").fit(x).components_.T for x in (source, target))
    return source @ p_s @ p_s.T @ p_t, target @ p_t


@pytest.mark.parametrize("dimension", [1, 2, 3])
@pytest.mark.parametrize(("classes", "width", "target"), [(3, 5, 45), (2, 5, 45), (3, 12, 4)])
def test_answers_the_target_as_the_paper_does(dimension, classes, width, target):
    data = two_domains(classes, width, target=target)
    method = adapted(data, dimension=dimension, inverse_regularisation=0.3)
    aligned, projected = transcribed(z_scored(data.source.inputs), z_scored(data.target.inputs), dimension)
    wanted = regressed(aligned, data.source.labels, 0.3, projected)
    np.testing.assert_allclose(probabilities(method.predict(data.target.inputs).logits), wanted, atol=1e-5)
    assert method.notes == []


def test_works_on_the_features_of_the_source_model_in_eval(model):
    images = torch.randint(0, 256, (50, 1, 8, 8), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    labels = torch.arange(30) % 3
    data = Data(Rows(images[:30], labels), Rows(images[30:]), None, ("a", "b", "c"), None, None)
    method = adapted(data, model, dimension=4)
    source, target = (z_scored(model.eval()(images[rows]).features) for rows in (slice(30), slice(30, 50)))
    aligned, projected = transcribed(source, target, 4)
    wanted = regressed(aligned, labels, 0.1, projected)
    np.testing.assert_allclose(probabilities(method.predict(images[30:]).logits), wanted, atol=1e-5)
    assert same_state(method.model, model, but=lambda name: name.startswith("head."))
    assert (data.source.asked, data.target.asked) == (1, 1)


@pytest.mark.parametrize("part", ["source", "target"])
def test_a_feature_that_is_constant_on_one_side_only(part):
    data = two_domains()
    getattr(data, part).inputs[:, 0] = 0.2
    aligned, projected = transcribed(z_scored(data.source.inputs), z_scored(data.target.inputs), 3)
    wanted = regressed(aligned, data.source.labels, 0.1, projected)
    got = probabilities(adapted(data).predict(data.target.inputs).logits)
    np.testing.assert_allclose(got, wanted, atol=1e-5)


@pytest.mark.parametrize("dimension", [2, 4])
def test_identical_domains_give_the_plain_probe_on_the_subspace(dimension):
    data = two_domains()
    data.target.inputs = data.source.inputs
    rows = z_scored(data.source.inputs)
    projected = PCA(dimension).fit_transform(rows)
    wanted = regressed(projected, data.source.labels, 0.1, projected)
    got = probabilities(adapted(data, dimension=dimension).predict(data.source.inputs).logits)
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_what_lies_outside_the_target_s_subspace_is_not_seen():
    data = two_domains()
    method = adapted(data, dimension=2)
    rows = torch.from_numpy(z_scored(data.target.inputs))
    outside = torch.eye(5).double() - principal_basis(rows)[:, :2] @ principal_basis(rows)[:, :2].T
    moved = data.target.inputs + 5 * outside[0].float() * data.target.inputs.std(0, correction=0)
    torch.testing.assert_close(
        method.predict(moved).logits, method.predict(data.target.inputs).logits, atol=1e-4, rtol=1e-4
    )
    assert outside[0].abs().max() > 0.1


@pytest.mark.parametrize("classes", [2, 3])
def test_as_many_directions_as_classes_unless_told(classes):
    data = two_domains(classes)
    assert same_state(adapted(data).model, adapted(data, dimension=classes).model)
    assert not same_state(adapted(data).model, adapted(data, dimension=4).model)


@pytest.mark.parametrize(("target", "wanted", "spanned"), [(45, 4, (4, 4)), (3, 2, (4, 2))])
def test_the_dimension_is_at_most_what_both_domains_span_and_says_so(target, wanted, spanned):
    data = two_domains(target=target)  # one of the five features is constant
    method = adapted(data, dimension=40)
    (note,) = method.notes
    assert note.startswith(f"{wanted} directions instead of 40")
    assert f"span {spanned[0]} on the source and {spanned[1]} on the target" in note
    assert same_state(method.model, adapted(data, dimension=wanted).model)


def test_a_domain_that_is_one_point_spans_nothing():
    data = two_domains()
    data.target.inputs = data.target.inputs[:1].repeat(7, 1)
    with pytest.raises(UsageError, match=r"span 4 directions on the source and 0 on the target"):
        adapted(data)


def test_the_basis_is_orthonormal_strongest_first_and_spans_the_rows():
    generator = torch.Generator().manual_seed(2)
    rows = (torch.randn((20, 2), generator=generator) @ torch.randn((2, 6), generator=generator)).double()
    rows = rows - rows.mean(0)
    basis = principal_basis(rows)
    assert basis.shape == (6, 2)
    torch.testing.assert_close(basis.T @ basis, torch.eye(2).double())
    torch.testing.assert_close(rows @ basis @ basis.T, rows)
    first, second = (rows @ basis).std(0)
    assert first > second


def test_a_negative_dimension_and_no_regularisation_are_refused(model):
    with pytest.raises(UsageError, match=r"method\.dimension=-1; expected a number of directions"):
        SubspaceAlignment(model, dimension=-1)
    with pytest.raises(UsageError, match=r"method\.inverse_regularisation=0\.0"):
        SubspaceAlignment(model, inverse_regularisation=0.0)


def test_is_a_closed_form_that_starts_from_the_source_model():
    assert METHODS.get("subspace_alignment") is SubspaceAlignment
    assert (SubspaceAlignment.setting, SubspaceAlignment.start) == (Setting.UNSUPERVISED, "source_only")
    assert SubspaceAlignment.steps == 0
