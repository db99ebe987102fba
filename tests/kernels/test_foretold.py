"""What will be compiled is told to those who asked for it, where it lies on no disk yet."""

from __future__ import annotations

import importlib.util
import os
import sys

from denseloc.cli.screen import Screen
from denseloc.fit import fused
from denseloc.kernels.foretold import foretell, is_kept, telling

CODE = """
from numba import njit

@njit(cache=True)
def double(x):
    return 2 * x
"""


def loaded(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # where numba looks for it
    spec.loader.exec_module(module)
    return module.double


def test_it_is_told_once(tmp_path):
    path = tmp_path / "foretold_double.py"
    path.write_text(CODE)
    told, function = [], loaded(path)
    try:
        foretell(function, "nothing")  # nobody listens
        with telling(told.append):
            foretell(function, "doubles")
            assert function(2) == 4
            foretell(function, "doubles")
            again = loaded(path)
            assert not again.signatures
            foretell(again, "doubles")  # it lies on disk
        assert told == ["compiling doubles for this computer, once; it takes about half a minute"]
        newer = path.stat().st_mtime + 10
        os.utime(path, (newer, newer))
        assert not is_kept(loaded(path))
    finally:
        del sys.modules[path.stem]


def test_the_screen_tells_it_beside_the_result(monkeypatch, capsys):
    monkeypatch.setattr("denseloc.kernels.foretold.is_kept", lambda _: False)
    for quiet in (True, False):
        with Screen("waiting", "doing", quiet):
            foretell(fused.fit, "the fits")
        said = capsys.readouterr()
        assert said.out == ""
        assert ("note: compiling the fits" in said.err) != quiet
    foretell(fused.fit, "the fits")
    assert capsys.readouterr().err == ""


def test_code_without_numba_is_never_compiled():
    assert is_kept(len)
