"""Machine matters."""

import platform

import pytest
import torch

from denseloc.errors import DenselocError
from denseloc.machine import choose_device, keep_memory


def test_keeping_memory_works_on_linux_and_harms_nowhere() -> None:
    assert keep_memory() in (True, False)
    if platform.libc_ver()[0] == "glibc":
        assert keep_memory()


def test_the_device_asked_for_or_the_best() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device().type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "vulcan", ""])
def test_a_device_that_is_not_there_is_one_line(name: str) -> None:
    with pytest.raises(DenselocError, match=f"device '{name}' cannot be used here") as error:
        choose_device(name)
    assert "\n" not in str(error.value)
