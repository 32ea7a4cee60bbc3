"""Objects of an S3 bucket, and of every service that speaks its protocol (set `endpoint_url`).

The same formats as `files`. An object is fetched only when its ETag changed, and parsed in a child
process with limits.
"""

from __future__ import annotations

from collections.abc import Iterator  # noqa: TC003  (dataclasses read it)
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from pydantic import model_validator

from rag_app.errors import MissingPackageError, SourceError
from rag_app.loaders._doubts import doubt_patterns
from rag_app.loaders._globs import compile_glob
from rag_app.loaders.files import Glob, JsonLines, Table, options_of
from rag_app.options import OPERATIONAL, Field, Options, Secret
from rag_app.parsers import FORMATS, find_format
from rag_app.parsers.child import Workers
from rag_app.types import Origin
from rag_app.urls import show_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from langchain_core.documents import Document

    from rag_app.loaders._source import SourceLoader
    from rag_app.parsers import Format
    from rag_app.types import Doubt, Unreadable

_REMEDY = "Mend the object, or leave it out with `exclude`."
_UNMATCHED = "matches no `include` pattern"
_UNWANTED = "matches an `exclude` pattern"


class Config(Options):
    """The options of an `s3` source."""

    bucket: str = Field(
        pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
        description="The bucket's name. Sources are named `s3://bucket/key`.",
    )
    prefix: str = Field("", description="Only keys that begin with this, as in `handbook/`.")
    include: list[Glob] = Field(
        ["**/*"],
        min_length=1,
        description="Globs of the keys to read, seen from `prefix`.",
        json_schema_extra=OPERATIONAL,
    )
    exclude: list[Glob] = Field(
        [], description="Globs of the keys to leave out.", json_schema_extra=OPERATIONAL
    )
    endpoint_url: str | None = Field(
        None,
        pattern=r"^https?://[^/@]+/?$",
        description="Another service than Amazon's, as http://localhost:9000.",
        json_schema_extra=OPERATIONAL,
    )
    region: str | None = Field(
        None, description="The bucket's region.", json_schema_extra=OPERATIONAL
    )
    access_key_id: Secret | None = Field(
        None,
        description="As ${VARIABLE}, with `secret_access_key`. Left out: what the AWS tools on "
        "this machine use (environment, profile, role).",
        json_schema_extra=OPERATIONAL,
    )
    secret_access_key: Secret | None = Field(
        None, description="As ${VARIABLE}, with `access_key_id`.", json_schema_extra=OPERATIONAL
    )
    jsonl: JsonLines = Field(JsonLines(), description="Which fields of JSON lines are what.")
    csv: Table = Field(Table(), description="How CSV and TSV files are read.")
    max_bytes: int = Field(
        100_000_000, ge=1, description="Largest object, bytes.", json_schema_extra=OPERATIONAL
    )
    timeout: float = Field(
        60.0,
        gt=0,
        description="Seconds to wait for the service.",
        json_schema_extra=OPERATIONAL,
    )
    max_seconds: float = Field(
        60.0,
        gt=0,
        description="Longest time to parse one object, seconds.",
        json_schema_extra=OPERATIONAL,
    )
    max_memory_mb: int = Field(
        1024,
        ge=128,
        description="Memory to parse one object, MiB; not enforced on Windows.",
        json_schema_extra=OPERATIONAL,
    )

    @model_validator(mode="after")
    def _require_both_keys(self) -> Self:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("access_key_id and secret_access_key go together: give both or none")
        return self


def build(config: Config) -> SourceLoader:
    """The loader of one bucket; nothing is asked yet."""
    import boto3  # noqa: F401  # a missing package shows here, not at the first use

    from rag_app.loaders._source import SourceLoader

    return SourceLoader(Objects(config))


class Objects:
    """The objects of one bucket, each an `Origin` whose fingerprint is its ETag and size."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._include = [compile_glob(pattern) for pattern in config.include]
        self._exclude = [compile_glob(pattern) for pattern in config.exclude]
        self._workers = Workers("loaders.s3", "files", config.max_seconds, config.max_memory_mb)
        self._client: Any = None
        self._doubts: list[Doubt] = []

    def close(self) -> None:
        """End the child processes and connections."""
        self._workers.close()
        if self._client is not None:
            self._client.close()
            self._client = None

    def origins(self) -> Iterator[Origin]:
        """The objects, sorted by key. The bucket is listed whole before the first is given.

        Raises:
            SourceError: it cannot be listed, or holds nothing that the patterns match.
        """
        with self._explained("sources.bucket"):
            pages = (
                self._open()
                .get_paginator("list_objects_v2")
                .paginate(Bucket=self.config.bucket, Prefix=self.config.prefix)
            )
            listed = [each for page in pages for each in self._take(page)]
        found = sorted((e for e in listed if not e["Key"].endswith("/")), key=lambda e: e["Key"])
        origins = [self._to_origin(each) for each in found]
        if not any(origin.excluded is None for origin in origins):
            place = f"s3://{self.config.bucket}/{self.config.prefix}"
            wrong = f"none of the {len(origins)} objects under {place} is to be read"
            remedy = "Check `prefix`, widen `include` or narrow `exclude`."
            raise SourceError("sources.include", wrong, remedy)
        self._doubt(origins)
        return iter(origins)

    def doubts(self) -> Sequence[Doubt]:
        """Patterns that match nothing."""
        return tuple(self._doubts)

    def _take(self, page: dict[str, Any]) -> list[dict[str, Any]]:
        """The objects of one page of the list; the client ends at a page that names no next one.

        Raises:
            SourceError: the page is not a whole answer, or more were to come.
        """
        objects: list[dict[str, Any]] = page.get("Contents", [])
        if "IsTruncated" not in page or page.get("KeyCount", len(objects)) != len(objects):
            wrong = "the service answered with something else than a whole list"
        elif page["IsTruncated"] and not page.get("NextContinuationToken"):
            wrong = "the service ended the list in its middle"
        else:
            return objects
        remedy = "Ingest again; nothing is deleted from the index meanwhile. Check endpoint_url."
        raise SourceError("sources.bucket", wrong, remedy)

    def _doubt(self, origins: Sequence[Origin]) -> None:
        start = f"s3://{self.config.bucket}/{self.config.prefix}"
        left_out = [each.source for each in origins if each.excluded == _UNMATCHED]
        matched = [each.source for each in origins if each.excluded in (None, _UNWANTED)]
        names = [source.removeprefix(start).lstrip("/") for source in matched]
        self._doubts = list(doubt_patterns(self.config.include, names, left_out, start))

    def _to_origin(self, each: dict[str, Any]) -> Origin:
        key = each["Key"]
        source = f"s3://{self.config.bucket}/{key}"
        excluded = self._why_excluded(key.removeprefix(self.config.prefix).lstrip("/"))
        if excluded is not None:
            return Origin(source, None, lambda: (), excluded)
        parsed_as, fingerprint = find_format(key), f"{each['ETag']} {each['Size']}"
        if parsed_as is None:
            remedy = f"Leave it out with `exclude`; these are read: {', '.join(sorted(FORMATS))}."
            reason = f"objects like {key.rpartition('/')[2]!r} cannot be read"
            return Origin(source, fingerprint, _refuse(source, reason, remedy))
        if each["Size"] > self.config.max_bytes:
            reason = f"has {each['Size']} bytes, more than max_bytes ({self.config.max_bytes})"
            return Origin(source, None, _refuse(source, reason, "Raise max_bytes."))
        return Origin(source, fingerprint, lambda: self._load(source, each, parsed_as))

    def _why_excluded(self, key: str) -> str | None:
        if not any(glob.fullmatch(key) for glob in self._include):
            return _UNMATCHED
        if any(glob.fullmatch(key) for glob in self._exclude):
            return _UNWANTED
        return None

    def _load(
        self, source: str, each: dict[str, Any], parsed_as: Format
    ) -> Iterator[Document | Unreadable]:
        from rag_app.loaders._source import to_documents

        key = each["Key"]
        with self._explained(source):
            # Only the version that was listed: its ETag is what the index will remember.
            held = self._open().get_object(Bucket=self.config.bucket, Key=key, IfMatch=each["ETag"])
            with held["Body"] as body:
                data = body.read()
        metadata = {
            "modified": each["LastModified"].isoformat(timespec="seconds"),
            "media_type": parsed_as.media_type,
        }
        ending = f".{key.rpartition('.')[2]}"
        options = options_of(parsed_as.module, ending, self.config.jsonl, self.config.csv)
        pieces = self._workers.parse_bytes(data, parsed_as.module, options)
        try:
            yield from to_documents(source, pieces, metadata, _REMEDY)
        except MissingPackageError as error:
            remedy = f"{error.remedy}, or leave such objects out with `exclude`."
            raise MissingPackageError(source, error.wrong, remedy) from error

    def _open(self) -> Any:
        if self._client is None:
            import boto3
            from botocore.config import Config as Settings

            config = self.config
            key, secret = config.access_key_id, config.secret_access_key
            settings = Settings(
                connect_timeout=10,
                read_timeout=config.timeout,
                retries={"mode": "standard"},
                ignore_configured_endpoint_urls=True,  # the config alone says where requests go
            )
            self._client = boto3.session.Session().client(
                "s3",
                endpoint_url=config.endpoint_url,
                region_name=config.region,
                aws_access_key_id=None if key is None else key.get_secret_value(),
                aws_secret_access_key=None if secret is None else secret.get_secret_value(),
                config=settings,
            )
        return self._client

    @contextmanager
    def _explained(self, where: str) -> Iterator[None]:
        """The vendor's errors in our words."""
        from botocore.exceptions import BotoCoreError, ClientError
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ClientError as error:
            raise SourceError(where, *self._explain(error)) from error
        except (BotoCoreError, HTTPError) as error:  # the second while an object comes in
            service = show_url(self.config.endpoint_url) if self.config.endpoint_url else "S3"
            wrong = f"{service} cannot be asked: {type(error).__name__}: {error}"
            remedy = "Check endpoint_url, region, the keys and the connection."
            raise SourceError(where, wrong.rstrip("."), remedy) from error

    def _explain(self, error: Any) -> tuple[str, str]:
        code = error.response.get("Error", {}).get("Code", "unknown")
        bucket = self.config.bucket
        match code:
            case "NoSuchBucket":
                return f"there is no bucket {bucket!r}", "Check its name, region and endpoint_url."
            case "AccessDenied" | "403" | "InvalidAccessKeyId" | "SignatureDoesNotMatch":
                wrong = f"access to the bucket {bucket!r} was denied ({code})"
                return wrong, "Check the keys; they need s3:ListBucket and s3:GetObject."
            case "PreconditionFailed" | "412" | "NoSuchKey":
                return "was changed while it was being read", "Ingest again."
        return f"the bucket {bucket!r}: {code}", "See the service's documentation of this error."


def _refuse(source: str, reason: str, remedy: str) -> Callable[[], Iterable[Any]]:
    def load() -> Iterable[Any]:
        raise SourceError(source, reason, remedy)

    return load
