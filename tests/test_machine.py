"""What is known of the machine."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from octo_bench.machine import processor


def test_the_processor_is_named_or_else_its_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    info = "processor : 0\nmodel name\t: A processor\nprocessor : 1\nmodel name\t: Another\n"
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: info)
    assert processor() == "A processor"
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "processor : 0\n")
    assert processor() == platform.machine()


def test_a_system_without_a_list_of_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    assert processor() == platform.machine()
