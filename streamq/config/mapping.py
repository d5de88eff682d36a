"""The part of a Config that is a mapping, from names of settings to values."""

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import Any


class SettingsMapping:
    """A mapping of settings; the base of ``Config``."""

    def origin(self, name: str) -> str:
        raise NotImplementedError

    def __getitem__(self, name: str) -> Any:
        raise NotImplementedError

    def __setitem__(self, name: str, value: object) -> None:
        raise NotImplementedError

    def __delitem__(self, name: str) -> None:
        raise NotImplementedError

    def __contains__(self, name: object) -> bool:
        raise NotImplementedError

    def __iter__(self) -> Iterator[str]:
        raise NotImplementedError

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __bool__(self) -> bool:
        return True

    def __delattr__(self, name: str) -> None:
        del self[name]

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a setting, or ``default`` if there is none of this name."""
        known = name in self
        return self[name] if known else default

    def setdefault(self, name: str, value: Any = None) -> Any:
        """Set a setting that only has its default; return the value that counts."""
        if name not in self or self.origin(name) == "default":
            self[name] = value
        return self[name]

    def keys(self) -> KeysView[str]:
        """The names of the settings."""
        mapping: Any = self
        return KeysView(mapping)

    def values(self) -> ValuesView[Any]:
        """The values of the settings."""
        mapping: Any = self
        return ValuesView(mapping)

    def items(self) -> ItemsView[str, Any]:
        """The settings with their values; secrets are not masked, see ``shown``."""
        mapping: Any = self
        return ItemsView(mapping)
