"""Texts of the testbed of documentation, few of them: pages of Python's own help, of 120 words each."""

from __future__ import annotations

from pydoc_data.topics import topics

import numpy as np
import pytest

from palimpsest.lake import Lake
from training.testbeds.docs import texts


@pytest.fixture(scope="session")
def pages() -> list[str]:
    found = []
    for name in sorted(topics):
        spoken = topics[name].split()
        found += [" ".join(spoken[start : start + 120]) for start in range(0, len(spoken) - 60, 120)]
    found = list(dict.fromkeys(found))
    return [found[place] for place in np.random.default_rng(0).permutation(len(found))[:500]]


@pytest.fixture(scope="session")
def published(tmp_path_factory, pages):
    return texts.publish(Lake(tmp_path_factory.mktemp("docs")), 0, pages)
