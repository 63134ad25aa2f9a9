import obstore
import pytest
from obstore.store import MemoryStore
from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse

from api.errors.types import ArtifactNotFound, RangeNotSatisfiable
from api.web.artifact_response import list_artifacts, media_type, stream_artifact
from contracts.storage import artifact_key

CONTENT = bytes(range(100))
SIZE = len(CONTENT)


@pytest.fixture
def storage() -> MemoryStore:
    storage = MemoryStore()
    obstore.put(storage, artifact_key("job-42", "data.bin"), CONTENT)
    obstore.put(storage, artifact_key("job-42", "empty.txt"), b"")
    obstore.put(storage, artifact_key("job-421", "another.txt"), b"of another job")
    return storage


async def get(storage: MemoryStore, name: str = "data.bin", **headers: str) -> Response:
    wanted = Headers({name.replace("_", "-"): value for name, value in headers.items()})
    return await stream_artifact(storage, "job-42", name, wanted)


async def content(response: Response) -> bytes:
    assert isinstance(response, StreamingResponse)
    chunks = [bytes(chunk) async for chunk in response.body_iterator if isinstance(chunk, bytes)]
    return b"".join(chunks)


async def etag(storage: MemoryStore) -> str:
    return (await get(storage)).headers["ETag"]


async def test_whole_artifact_comes_with_its_size_and_validators(storage: MemoryStore) -> None:
    response = await get(storage)
    assert response.status_code == 200
    assert response.headers["Content-Length"] == "100"
    assert response.headers["Accept-Ranges"] == "bytes"
    assert response.headers["ETag"].startswith('"')
    assert response.headers["Last-Modified"].endswith("GMT")
    assert await content(response) == CONTENT


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-9", 0, 10),
        ("bytes=90-", 90, 100),
        ("bytes=-10", 90, 100),
        ("bytes=-1000", 0, 100),
        ("bytes=50-1000", 50, 100),
        ("bytes=0-99", 0, 100),
        ("bytes=99-99", 99, 100),
    ],
)
async def test_range_gives_exactly_its_bytes(
    storage: MemoryStore, wanted: str, start: int, end: int
) -> None:
    response = await get(storage, Range=wanted)
    assert response.status_code == 206
    assert response.headers["Content-Range"] == f"bytes {start}-{end - 1}/{SIZE}"
    assert response.headers["Content-Length"] == str(end - start)
    assert await content(response) == CONTENT[start:end]


@pytest.mark.parametrize(
    "wanted",
    [
        "",
        "bytes=",
        "bytes=-",
        "bytes=9-5",
        "bytes=0-1,5-6",
        "lines=0-5",
        "bytes=a-b",
        "bytes=1-2x",
        "bytes=0-" + "9" * 5_000,  # more digits than Python reads
    ],
)
async def test_range_of_another_kind_is_ignored_as_it_may_be(
    storage: MemoryStore, wanted: str
) -> None:
    response = await get(storage, Range=wanted)
    assert response.status_code == 200
    assert await content(response) == CONTENT


@pytest.mark.parametrize("wanted", ["bytes=100-", "bytes=100-200", "bytes=-0", f"bytes={10**17}-"])
async def test_range_beyond_the_end_is_refused_with_the_size(
    storage: MemoryStore, wanted: str
) -> None:
    with pytest.raises(RangeNotSatisfiable) as caught:
        await get(storage, Range=wanted)
    assert caught.value.headers["Content-Range"] == f"bytes */{SIZE}"


async def test_range_of_an_empty_artifact_is_refused(storage: MemoryStore) -> None:
    with pytest.raises(RangeNotSatisfiable):
        await get(storage, "empty.txt", Range="bytes=0-")


async def test_empty_artifact_is_an_empty_body(storage: MemoryStore) -> None:
    response = await get(storage, "empty.txt")
    assert response.status_code == 200
    assert await content(response) == b""


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
async def test_artifact_that_the_client_has_is_not_sent_again(
    storage: MemoryStore, form: str
) -> None:
    response = await get(storage, If_None_Match=form.format(await etag(storage)))
    assert response.status_code == 304
    assert response.body == b""
    assert response.headers["ETag"] == await etag(storage)


async def test_artifact_that_has_changed_is_sent(storage: MemoryStore) -> None:
    response = await get(storage, If_None_Match='"other"')
    assert await content(response) == CONTENT


async def test_rest_of_an_unchanged_artifact_may_be_fetched(storage: MemoryStore) -> None:
    response = await get(storage, Range="bytes=90-", If_Range=await etag(storage))
    assert response.status_code == 206


@pytest.mark.parametrize("validator", ['"other"', "Sat, 31 Jan 2026 12:00:00 GMT"])
async def test_rest_of_a_changed_artifact_is_the_whole(
    storage: MemoryStore, validator: str
) -> None:
    response = await get(storage, Range="bytes=90-", If_Range=validator)
    assert response.status_code == 200
    assert await content(response) == CONTENT


@pytest.mark.parametrize(
    "name", ["missing", "", ".", "..", "../job-421/another.txt", "a/b", "a\0", "a\n", "\x93"]
)
async def test_only_artifacts_of_the_job_are_found(storage: MemoryStore, name: str) -> None:
    with pytest.raises(ArtifactNotFound):
        await get(storage, name)


async def test_list_names_the_artifacts_of_the_job_alone(storage: MemoryStore) -> None:
    found = (await list_artifacts(storage, "job-42")).artifacts
    assert [(view.name, view.size_bytes) for view in found] == [("data.bin", 100), ("empty.txt", 0)]
    assert found[0].url == "/v1/jobs/job-42/artifacts/data.bin"


async def test_job_that_left_nothing_has_an_empty_list(storage: MemoryStore) -> None:
    assert (await list_artifacts(storage, "job-4")).artifacts == []


async def test_name_with_spaces_and_accents_is_downloaded_under_it(storage: MemoryStore) -> None:
    obstore.put(storage, artifact_key("job-42", "mês 1.csv"), b"x")
    response = await get(storage, "mês 1.csv")
    assert "filename*=UTF-8''m%C3%AAs%201.csv" in response.headers["Content-Disposition"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.parquet", "application/vnd.apache.parquet"),
        ("a.csv", "text/csv"),
        ("a.json", "application/json"),
        ("a.png", "image/png"),
        ("a", "application/octet-stream"),
    ],
)
def test_media_type_follows_from_the_name(name: str, kind: str) -> None:
    assert media_type(name) == kind
