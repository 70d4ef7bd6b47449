"""Fixtures of the model tests."""

import jaxtyping
import pytest


@pytest.fixture
def unchecked():
    """Without the session's run-time checks of shapes, which would speak before our own messages do."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
