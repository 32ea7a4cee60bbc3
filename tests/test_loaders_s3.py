"""The S3 loader, through the vendor's client, against moto's HTTP server of the protocol."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

import rag_app
from rag_app import registry
from rag_app.errors import SourceError
from rag_app.types import Unreadable

KEYS = {"access_key_id": "testing", "secret_access_key": "sesame-open"}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    """An empty bucket named after the test."""
    session = boto3.session.Session("testing", "sesame-open", region_name="us-east-1")
    service = session.resource("s3", endpoint_url=endpoint)
    made = service.create_bucket(Bucket=request.node.name.replace("_", "-")[:60].rstrip("-"))
    yield made
    service.meta.client.close()


def build(endpoint: str, made: Any, **options: Any) -> Any:
    given = {"bucket": made.name, "endpoint_url": endpoint, "region": "us-east-1", **KEYS}
    config = registry.config_class("loaders", "s3")(**{**given, **options})
    return registry.build("loaders", "s3", config)


def load(loader: Any) -> dict[str, str]:
    """Text by source; of what cannot be read, the reason."""
    found = {}
    for origin in loader.origins():
        if origin.excluded is not None:
            found[origin.source] = f"excluded: {origin.excluded}"
            continue
        try:
            for item in origin.load():
                if isinstance(item, Unreadable):
                    found[item.source] = item.reason
                else:
                    found[item.metadata["source"]] = item.page_content
        except SourceError as error:
            found[origin.source] = f"refused: {error.wrong}"
    loader.close()
    return found


def test_reads_what_a_folder_would_give(endpoint: str, bucket: Any) -> None:
    bucket.put_object(Key="docs/a b/ä.md", Body=b"# Head\n\nwords")
    bucket.put_object(Key="docs/rows.csv", Body=b"x,y\n1,2\n")
    bucket.put_object(Key="docs/old/c.txt", Body=b"old")
    bucket.put_object(Key="docs/empty/", Body=b"")
    bucket.put_object(Key="docs/pic.png", Body=b"\x89PNG")
    bucket.put_object(Key="other/d.txt", Body=b"other")
    found = load(build(endpoint, bucket, prefix="docs/", exclude=["old/**"]))
    here = f"s3://{bucket.name}/docs/"
    assert found.pop(f"{here}pic.png").startswith("refused: objects like 'pic.png' cannot")
    assert found.pop(f"{here}old/c.txt") == "excluded: matches an `exclude` pattern"
    (rows,) = (source for source in found if source.startswith(f"{here}rows.csv#"))
    assert found.pop(rows) == "x: 1\ny: 2"
    assert found == {f"{here}a b/ä.md": "# Head\n\nwords"}


def test_lists_more_objects_than_a_page_holds(
    endpoint: str, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "20")  # read by the server, in this process
    names = [f"{number:04}.txt" for number in range(45)]
    for name in names:
        bucket.put_object(Key=name, Body=b"x")
    page = bucket.meta.client.list_objects_v2(Bucket=bucket.name)
    assert (len(page["Contents"]), page["IsTruncated"]) == (20, True)
    loader = build(endpoint, bucket)
    assert [origin.source.rpartition("/")[2] for origin in loader.origins()] == names
    loader.close()


def test_an_ingest_fetches_only_what_changed(
    endpoint: str, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in zip(("S3_ID", "S3_SECRET"), KEYS.values(), strict=True):
        monkeypatch.setenv(name, value)
    bucket.put_object(Key="one.txt", Body=b"Alpha tells of apples.")
    bucket.put_object(Key="two.txt", Body=b"Beta tells of pears.")
    config = {
        "name": "bucket",
        "sources": [
            {
                **{"kind": "s3", "bucket": bucket.name, "endpoint_url": endpoint},
                **{"access_key_id": "${S3_ID}", "secret_access_key": "${S3_SECRET}"},
                "region": "us-east-1",
            }
        ],
        "embeddings": "hashing",
        "index": {"path": str(tmp_path / "rag")},
        "vector_store": {"kind": "memory", "path": str(tmp_path / "vectors.sqlite")},
        "chain": "extractive",
    }
    file = tmp_path / "rag-app.yaml"
    file.write_text(json.dumps(config))
    with rag_app.load(file) as app:
        assert app.ingest().indexed == 2
        again = app.ingest()
        assert (again.indexed, again.unchanged, again.embedded) == (0, 2, 0)
        bucket.put_object(Key="two.txt", Body=b"Beta tells of plums.")
        bucket.Object("one.txt").delete()
        last = app.ingest()
        assert (last.indexed, last.deleted, last.chunks_total) == (1, 1, 1)
        assert app.search("plums").hits[0].source == f"s3://{bucket.name}/two.txt"


def test_an_object_changed_while_it_was_read_is_not_taken_for_the_old_one(
    endpoint: str, bucket: Any
) -> None:
    bucket.put_object(Key="a.txt", Body=b"old words")
    loader = build(endpoint, bucket)
    (origin,) = loader.origins()
    bucket.put_object(Key="a.txt", Body=b"new words")
    with pytest.raises(SourceError, match="changed while it was being read"):
        list(origin.load())
    loader.close()


def test_too_large_an_object_is_named_and_not_fetched(endpoint: str, bucket: Any) -> None:
    bucket.put_object(Key="big.txt", Body=b"x" * 2000)
    found = load(build(endpoint, bucket, max_bytes=1000))
    assert found == {
        f"s3://{bucket.name}/big.txt": "refused: has 2000 bytes, more than max_bytes (1000)"
    }


def test_nothing_to_read_is_an_error(endpoint: str, bucket: Any) -> None:
    loader = build(endpoint, bucket)
    with pytest.raises(SourceError, match="none of the 0 objects"):
        loader.origins()
    loader.close()


def test_a_bucket_that_is_not_there(endpoint: str, bucket: Any) -> None:
    loader = build(endpoint, bucket, bucket="no-such-bucket")
    with pytest.raises(SourceError, match="no bucket 'no-such-bucket'"):
        loader.origins()
    loader.close()


def test_a_service_that_is_not_there_is_named_without_keys(endpoint: str, bucket: Any) -> None:
    loader = build("http://127.0.0.1:9", bucket)
    with pytest.raises(SourceError, match=r"127\.0\.0\.1:9") as caught:
        loader.origins()
    assert "sesame" not in str(caught.value)
    loader.close()


def test_a_key_alone_is_refused(endpoint: str, bucket: Any) -> None:
    with pytest.raises(ValueError, match="go together"):
        build(endpoint, bucket, secret_access_key=None)


def test_the_environment_sends_requests_nowhere_else(
    endpoint: str, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    bucket.put_object(Key="a.txt", Body=b"words")
    assert list(load(build(endpoint, bucket)).values()) == ["words"]
    loader = build(endpoint, bucket, endpoint_url=None)
    assert loader.listing._open().meta.endpoint_url == "https://s3.amazonaws.com"
    loader.close()
