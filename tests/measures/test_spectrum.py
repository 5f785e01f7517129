import pytest
from sklearn.decomposition import PCA

from vaelib import Experiment, Study, data
from vaelib.measures import PrincipalVariances
from vaelib.models import pixels


def test_variances_of_the_training_samples_are_kept_with_a_run(tiny, store):
    runs = Study({0: Experiment(data=tiny, network="mlp", epochs=1)}, observe=[PrincipalVariances(4)]).run(store=store)
    found = runs.observed(PrincipalVariances(4))
    assert found["rank"].tolist() == [1, 2, 3, 4]
    peer = PCA(4).fit(pixels(data.load(tiny).train).flatten(1).double().numpy())
    assert found["variance"].tolist() == pytest.approx(peer.explained_variance_.tolist(), rel=1e-6)
