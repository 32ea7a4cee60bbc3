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
from rag_app.urls import show_url

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
        usual: pattern of other ways to write `address`, where that is on this machine.
    """

    name: str
    address: str
    domain: str
    key_variables: tuple[str, ...]
    address_variables: tuple[str, ...] = ()
    usual: str = r"(?!)"

    def owns(self, address: Any) -> bool:
        """Whether `address` is the vendor's own; None stands for where requests go by default."""
        own = rf"https://(?:[\w-]+\.)*{re.escape(self.domain)}(?::443)?(?:/|\Z)"
        given = self.address if address is None else address
        return isinstance(given, str) and re.match(own, given, re.IGNORECASE) is not None

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
            if not self._is_usual(os.environ.get(variable) or None):
                wrong = (
                    f"environment variable {variable} names another server, the config names none"
                )
                use = f"Write base_url: ${{{variable}}} to use it"
                remedy = f"{use}, or base_url: {self.address} for {self.name}."
                raise ModelError(f"{part}.base_url", wrong, remedy)
        return self.address

    def name_server(self, address: str) -> str:
        """Which server computes there, without secrets; empty where it is the vendor itself.

        Another server may give other results by the same model's name.
        """
        if self.owns(address):
            return ""
        usual = re.fullmatch(self.usual, address) is not None
        return show_url(self.address if usual else address).rstrip("/")

    def _is_usual(self, address: str | None) -> bool:
        """Whether to be sent to `address` is to be sent where requests go anyway."""
        return (
            self.owns(address) or address is None or re.fullmatch(self.usual, address) is not None
        )

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

ANTHROPIC: Final = Vendor(
    "Anthropic",
    "https://api.anthropic.com",
    "api.anthropic.com",
    ("ANTHROPIC_API_KEY",),
    ("ANTHROPIC_BASE_URL", "ANTHROPIC_API_URL"),
)

GOOGLE: Final = Vendor(
    "Google",
    "https://generativelanguage.googleapis.com/",
    "generativelanguage.googleapis.com",
    ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
    ("GOOGLE_GEMINI_BASE_URL",),
)

COHERE: Final = Vendor(
    "Cohere",
    "https://api.cohere.com",
    "api.cohere.com",
    ("CO_API_KEY", "COHERE_API_KEY"),
    ("CO_API_URL",),
)

OLLAMA: Final = Vendor(
    "a server on this machine",
    "http://localhost:11434",
    "ollama.com",
    ("OLLAMA_API_KEY",),
    ("OLLAMA_HOST",),
    r"(?:http://)?(?:localhost|127\.0\.0\.1|0\.0\.0\.0|\[::1?\])?(?::11434)?/?",
)
