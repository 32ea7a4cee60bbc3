"""Where a vendor's requests and keys go: the config alone says so.

The variables with which a vendor's own client would be redirected are refused where the config
names no address, and a key that the environment holds for a vendor is sent to that vendor only.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rag_app.errors import ModelError
from rag_app.options import Secret

if TYPE_CHECKING:
    from pydantic import ValidationInfo

NO_KEY: Final = Secret("none")
"""What a client that insists on a key is given for a server that needs none."""


@dataclass(frozen=True, slots=True)
class Vendor:
    """One vendor of models.

    Attributes:
        name: as messages write it.
        address: the base of its API.
        domain: the host that is the vendor's own, with all of its subdomains.
        key_variables: environment variables that hold a key for it; the first is the usual one.
        address_variables: those by which its client would be sent elsewhere.
    """

    name: str
    address: str
    domain: str
    key_variables: tuple[str, ...]
    address_variables: tuple[str, ...] = ()

    def owns(self, address: Any) -> bool:
        """Whether `address` is the vendor's own; so is None, for none was given."""
        own = rf"https://(?:[\w-]+\.)*{re.escape(self.domain)}(?::443)?(?:/|\Z)"
        return address is None or (
            isinstance(address, str) and re.match(own, address, re.IGNORECASE) is not None
        )

    def take_key(self, given: Any, info: ValidationInfo) -> Any:
        """A config's raw options with the environment's key in `api_key`, if it is for them.

        For a `model_validator(mode="before")`: only the config's reader knows the `.env` file.
        """
        environment = (info.context or {}).get("environment", {})
        key = next(filter(None, map(environment.get, self.key_variables)), None)
        if not key or not isinstance(given, dict) or given.get("api_key"):
            return given
        return {**given, "api_key": key} if self.owns(given.get("base_url")) else given

    def find_address(self, part: str, base_url: str | None) -> str:
        """Where requests go.

        Raises:
            ModelError: the config names no address, and the environment another than the vendor's.
        """
        if base_url is not None:
            return base_url
        for variable in self.address_variables:
            if not self.owns(os.environ.get(variable) or None):
                wrong = (
                    f"environment variable {variable} names another server, the config names none"
                )
                use = f"Write base_url: ${{{variable}}} to use it"
                remedy = f"{use}, or base_url: {self.address} for {self.name}."
                raise ModelError(f"{part}.base_url", wrong, remedy)
        return self.address

    def find_key(
        self, part: str, api_key: Secret | None, base_url: str | None, hint: str
    ) -> Secret:
        """The key to send: the config's, the environment's to the vendor itself, else `NO_KEY`.

        Raises:
            ModelError: the vendor itself is meant and there is no key; `hint` is a way without.
        """
        if api_key:
            return api_key
        if not self.owns(base_url):
            return NO_KEY
        if key := next(filter(None, map(os.environ.get, self.key_variables)), None):
            return Secret(key)
        wrong = f"environment variable {self.key_variables[0]} is not set"
        raise ModelError(f"{part}.api_key", wrong, f"Set it{hint}")


OPENAI: Final = Vendor(
    "OpenAI",
    "https://api.openai.com/v1",
    "api.openai.com",
    ("OPENAI_API_KEY",),
    ("OPENAI_BASE_URL", "OPENAI_API_BASE"),
)
