"""What a submission must fulfil beyond the schema of its task, before anything is queued.

The schema knows types and bounds; here are the rules that depend on the catalogue, on the time, on
settings or on what is stored.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pydantic import ValidationError

from api.errors.rendering import validation_problem
from api.errors.types import (
    ApiError,
    FileNotFound,
    HostNotAllowed,
    InvalidField,
    InvalidRequest,
    RecipientNotAllowed,
    TaskNotFound,
)
from api.storage.uploads import Uploads
from twinlane_sdk.allow_lists import HostAllowList, RecipientAllowList
from twinlane_sdk.errors import RejectedError
from twinlane_sdk.task_spec import Args, TaskSpec
from twinlane_tasks.csv import ProcessCsvArgs
from twinlane_tasks.http import FAN_OUT, FETCH_URL, FanOutArgs, FetchUrlArgs
from twinlane_tasks.reports import SEND_REPORT, SendReportArgs

MAX_DELAY: Final = timedelta(days=365)

REFUSALS: Final[Mapping[str, tuple[type[ApiError], ...]]] = {
    FETCH_URL.name: (HostNotAllowed,),
    FAN_OUT.name: (HostNotAllowed,),
    SEND_REPORT.name: (RecipientNotAllowed,),
}
"""What a task's arguments may be refused for beyond their schema."""


class Admission:
    """Decides which arguments are let in, and completes them."""

    def __init__(
        self, hosts: HostAllowList, recipients: RecipientAllowList, uploads: Uploads
    ) -> None:
        self._hosts = hosts
        self._recipients = recipients
        self._uploads = uploads

    async def validate(self, spec: TaskSpec[Any, Any], fields: Mapping[str, Any]) -> Args:
        """Return a task's arguments from untyped fields, admitted.

        Raises:
            InvalidRequest: the fields break the schema's rules, or those below.

        """
        try:
            args: Args = spec.args.model_validate(fields)
        except ValidationError as exc:
            raise validation_problem(exc) from exc
        return await self.admit(args)

    async def admit(self, args: Args) -> Args:
        """Return the arguments as they are to be submitted.

        Raises:
            HostNotAllowed, RecipientNotAllowed, InvalidRequest: they may not.

        """
        match args:
            case FetchUrlArgs():
                self._admit_urls({"url": args.url})
            case FanOutArgs():
                self._admit_urls({f"urls.{n}": url for n, url in enumerate(args.urls)})
            case SendReportArgs():
                self._admit_recipient(args.email)
            case ProcessCsvArgs():
                return await self._resolve_file(args)
            case _:
                pass
        return args

    def _admit_urls(self, urls: Mapping[str, str]) -> None:
        refused = [
            InvalidField(field=field, value=url, rule=rule)
            for field, url in urls.items()
            if (rule := _refusal(self._hosts.admit, url))
        ]
        if refused:
            raise HostNotAllowed(refused)

    def _admit_recipient(self, email: str) -> None:
        if rule := _refusal(self._recipients.check, email):
            raise RecipientNotAllowed([InvalidField(field="email", value=email, rule=rule)])

    async def _resolve_file(self, args: ProcessCsvArgs) -> ProcessCsvArgs:
        """Bind the name to the content that it has now, so that a retry reads the same."""
        if args.file_id is None:
            newest = await self._uploads.newest_of_name(args.filename)
            return args.model_copy(update={"file_id": newest.id}) if newest else args
        try:
            await self._uploads.info(args.file_id)
        except FileNotFound as exc:
            field = InvalidField(field="file_id", value=args.file_id, rule=exc.detail)
            raise InvalidRequest([field]) from exc
        return args


def find_task(catalogue: Mapping[str, TaskSpec[Any, Any]], name: str) -> TaskSpec[Any, Any]:
    """Return a task of the catalogue.

    Raises:
        TaskNotFound: there is none of that name.

    """
    spec = catalogue.get(name)
    if spec is None:
        raise TaskNotFound(name, catalogue)
    return spec


def resolve_run_at(run_at: datetime | None, delay_seconds: float | None) -> datetime | None:
    """Return when a job is due, from at most one of both.

    Raises:
        InvalidRequest: both are given, or it is too far away.

    """
    now = datetime.now(UTC)
    if run_at is not None and delay_seconds is not None:
        raise InvalidRequest(
            [
                InvalidField(
                    field="delay", value=delay_seconds, rule="give delay or run_at, not both"
                )
            ]
        )
    if delay_seconds:
        return now + timedelta(seconds=delay_seconds)
    if run_at is not None and run_at > now + MAX_DELAY:
        rule = f"must be within the next {MAX_DELAY.days} days"
        raise InvalidRequest([InvalidField(field="run_at", value=run_at.isoformat(), rule=rule)])
    return run_at


def _refusal(admit: Callable[[str], object], value: str) -> str | None:
    try:
        admit(value)
    except RejectedError as exc:
        return str(exc)
    return None
