"""What every backend's `Config` is made of: strict options, paths beside the config, secrets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


class Options(BaseModel):
    """The base of every `Config`: unknown keys refused, values frozen, secrets never shown."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, validate_default=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_truth_for_number(cls, value: Any, info: ValidationInfo) -> Any:
        """`k: true` is a slip of the pen; Python would take it for 1."""
        annotation = cls.model_fields[info.field_name or ""].annotation
        parts = {annotation, *get_args(annotation)}
        if isinstance(value, bool) and parts & {int, float} and bool not in parts:
            if int in parts:
                raise PydanticCustomError("int_type", "Input should be a whole number")
            raise PydanticCustomError("float_type", "Input should be a number")
        return value

    def identity(self) -> dict[str, Any]:
        """The options that decide *what* is computed, without those for how fast or where."""
        fields = type(self).model_fields.items()
        kept = {n for n, f in fields if not _is_operational(f)}
        return self.model_dump(mode="json", include=kept)


OPERATIONAL: dict[str, Any] = {"operational": True}
"""`Field(json_schema_extra=OPERATIONAL)`: threads, keys, addresses: no part of an identity."""


def _is_operational(field: FieldInfo) -> bool:
    extra = field.json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("operational"))


def _from_config_folder(path: Path, info: ValidationInfo) -> Path:
    context = info.context or {}
    folder = context.get("folders", {}).get(info.field_name, context.get("folder"))
    found = expand_home(path)
    return found if folder is None else Path(folder) / found


def expand_home(path: Path) -> Path:
    """The path with the home that `~` or `~user` stands for.

    Raises:
        ValueError: there is no such user.
    """
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError("no home of such a user. Write the path without ~.") from error


def _find_folder(name: str, info: ValidationInfo) -> str:
    folder = Path((info.context or {}).get("folder", ""), expand_home(Path(name)))
    return str(folder) if folder.is_dir() else name


FilePath = Annotated[Path, AfterValidator(_from_config_folder)]
"""A path; a relative one starts at the folder of the config file."""

FolderOrName = Annotated[str, AfterValidator(_find_folder)]
"""A folder, a relative one beside the config file; else a name of something elsewhere."""

Secret = SecretStr
"""A value that is never shown. In YAML it must be given as `${VARIABLE}`; a literal is refused."""

__all__ = ["OPERATIONAL", "Field", "FilePath", "FolderOrName", "Options", "Secret", "expand_home"]
