"""Lets Triton be imported after a frame was drawn with Mesa.

Both contain LLVM, and Mesa makes its symbols global: a Triton that is loaded afterwards binds to
them and crashes. Nearly all that is built on torch imports Triton (torchvision, transformers, peft,
the optimizers), so whoever draws first and loads a network later would meet that.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ExtensionFileLoader, ModuleSpec, PathFinder
from types import ModuleType

_LIBRARY = "triton._C.libtriton"
_SYMBOL_OF_LLVM = "LLVMContextCreate"


def shield_triton() -> None:
    """From now on, load Triton so that it binds to its own LLVM; repeating is harmless."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _LIBRARY:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, ExtensionFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(ExtensionFileLoader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        process = ctypes.CDLL(None)
        if not hasattr(process, _SYMBOL_OF_LLVM):
            return super().create_module(spec)
        if _address(process.malloc) != _address(ctypes.CDLL("libc.so.6").malloc):
            # Its own symbols first would give it libc's malloc, beside everyone else's. torch works
            # without Triton, but for compiling on a GPU.
            raise ImportError(
                "Triton cannot be loaded after a frame was drawn where malloc is replaced (as by "
                "LD_PRELOAD of jemalloc); import torchvision or triton before drawing"
            )
        flags = sys.getdlopenflags()
        sys.setdlopenflags(flags | os.RTLD_DEEPBIND)
        try:
            return super().create_module(spec)
        finally:
            sys.setdlopenflags(flags)


def _address(function: object) -> int | None:
    return ctypes.cast(function, ctypes.c_void_p).value
