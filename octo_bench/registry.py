"""A registry: the kinds of one seam by name, ours and those that installed packages add."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from functools import cached_property
from typing import Generic, TypeVar

from octo_bench.errors import UnknownName

Kind = TypeVar("Kind")


class Registry(Generic[Kind]):
    """Kinds by name, each imported when it is first asked for.

    A kind is one object, written as an entry point is: "package.module:attribute". Other packages
    add theirs under the registry's entry-point group; a name of ours cannot be replaced.
    """

    def __init__(self, what: str, group: str, ours: Mapping[str, str]) -> None:
        """Registry of `what`, such as "kind of policy", with entry points of `group`."""
        self.group = group
        self._what = what
        self._ours = [importlib.metadata.EntryPoint(name, at, group) for name, at in ours.items()]

    @cached_property
    def _entries(self) -> dict[str, importlib.metadata.EntryPoint]:
        others = importlib.metadata.entry_points(group=self.group)
        return {entry.name: entry for entry in (*others, *self._ours)}

    @property
    def names(self) -> tuple[str, ...]:
        """All names, those of other packages first."""
        return tuple(self._entries)

    def __contains__(self, name: object) -> bool:
        """Whether there is a kind of this name; none is imported to tell."""
        return name in self._entries

    def __getitem__(self, name: str) -> Kind:
        """The kind of this name.

        Raises:
            UnknownName: when there is none.
        """
        if name not in self._entries:
            raise UnknownName(self._what, name, self.names)
        kind: Kind = self._entries[name].load()
        return kind
