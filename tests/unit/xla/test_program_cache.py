"""The folder of compiled programs."""

from __future__ import annotations

from fake_torch_xla import install

from jackfield_xla.program_cache import VARIABLE, use_folder


def test_without_the_variable_nothing_is_kept(monkeypatch):
    calls = install(monkeypatch)
    assert use_folder({}) is None
    assert use_folder({VARIABLE: ""}) is None
    assert not calls


def test_the_folder_is_made_and_handed_over_once(monkeypatch, tmp_path):
    folder = str(tmp_path / "deep" / "cache")
    environ = {VARIABLE: folder}

    def initialize_cache(path, readonly=False):
        environ["XLA_PERSISTENT_CACHE_PATH"] = path  # as the real one does, in os.environ

    calls = install(monkeypatch, initialize_cache=initialize_cache)
    assert use_folder(environ) == use_folder(environ) == folder
    assert calls == [("initialize_cache", {"path": folder})]
    assert (tmp_path / "deep" / "cache").is_dir()
