"""What every backend's `Config` is made of: strict options, paths that belong to the config file, secrets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationInfo

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


class Options(BaseModel):
    """The base of every `Config`: unknown keys are refused, values never change, secrets never show."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    def identity(self) -> dict[str, Any]:
        """The options that decide *what* is computed, without those that only decide how fast or where."""
        fields = type(self).model_fields.items()
        kept = {n for n, f in fields if not _is_operational(f)}
        return self.model_dump(mode="json", include=kept)


OPERATIONAL: dict[str, Any] = {"operational": True}
"""`Field(json_schema_extra=OPERATIONAL)`: threads, batch sizes, keys, addresses: not part of an identity."""


def _is_operational(field: FieldInfo) -> bool:
    extra = field.json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("operational"))


def _from_config_folder(path: Path, info: ValidationInfo) -> Path:
    context = info.context or {}
    folder = context.get("folders", {}).get(info.field_name, context.get("folder"))
    return path.expanduser() if folder is None else Path(folder) / path.expanduser()


FilePath = Annotated[Path, AfterValidator(_from_config_folder)]
"""A path; a relative one starts at the folder of the config file."""

Secret = SecretStr
"""A value that is never shown. In YAML it must be given as `${VARIABLE}`; a literal is refused."""

__all__ = ["OPERATIONAL", "Field", "FilePath", "Options", "Secret"]
