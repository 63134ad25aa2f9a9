"""What the routes use: made once per process, opened and closed with the application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

import httpx2
from fastapi import Depends, Request
from obstore.store import ObjectStore

from api.batches.states import BatchStates
from api.batches.store import BatchStore
from api.batches.submission import BatchSubmitter
from api.batches.waiting import BatchWaits
from api.broker.counts import BrokerStats
from api.broker.publisher import Publisher
from api.dead_letters.job_updates import JobUpdates
from api.dead_letters.notices import DeathNoticeConsumer
from api.dead_letters.queue import DeadLetterQueue
from api.dead_letters.requeue import Requeuer
from api.jobs.admission import Admission
from api.jobs.bulk_submission import BulkSubmitter
from api.jobs.cancellation import Canceller
from api.jobs.group_commit import GroupCommit
from api.jobs.keyed_submission import KeyedSubmitter
from api.jobs.reconciliation import Reconciler
from api.jobs.submission import Submitter
from api.settings import ApiSettings
from api.storage.uploads import Uploads
from api.store.changes import StateChanges
from api.store.jobs import JobStore
from api.store.redis import RedisClient
from contracts.celery_app import create_celery
from contracts.storage import open_storage
from twinlane_sdk.allow_lists import HostAllowList, RecipientAllowList
from twinlane_sdk.catalogue import Catalogue


@dataclass(frozen=True, slots=True)
class Components:
    """The application's parts."""

    settings: ApiSettings
    catalogue: Catalogue
    redis: RedisClient
    store: JobStore
    changes: StateChanges
    publisher: Publisher
    submitter: Submitter
    batches: BatchStore
    batch_submitter: BatchSubmitter
    batch_states: BatchStates
    batch_waits: BatchWaits
    canceller: Canceller
    admission: Admission
    storage: ObjectStore
    uploads: Uploads
    broker_stats: BrokerStats
    dead_letters: DeadLetterQueue
    requeuer: Requeuer
    upstream: httpx2.AsyncClient


@asynccontextmanager
async def open_components(settings: ApiSettings, catalogue: Catalogue) -> AsyncIterator[Components]:
    """Make the parts; those that need a server connect when first used, in any order."""
    celery = create_celery(settings, catalogue)
    redis = RedisClient(settings.result_url.get_secret_value(), settings.results_timeout_seconds)
    store = JobStore(redis)
    publisher = Publisher(celery, catalogue, settings.publish_timeout_seconds)
    changes = StateChanges(redis)
    storage = open_storage(settings.storage_url)
    uploads = Uploads(storage, settings.max_upload_bytes)
    reconciler = Reconciler(store, publisher, settings.settle_seconds)
    commits = GroupCommit(store, publisher, reconciler)
    keyed = KeyedSubmitter(store, publisher, commits, reconciler)
    submitter = Submitter(commits, keyed, settings.job_ttl_seconds)
    bulk = BulkSubmitter(store, publisher, reconciler)
    canceller = Canceller(store, celery)
    updates = JobUpdates(redis, settings.job_ttl_seconds)
    dead_letters = DeadLetterQueue(
        settings.broker_url.get_secret_value(), settings.publish_timeout_seconds
    )
    death_notices = DeathNoticeConsumer(celery, store, updates)
    batches = BatchStore(redis)
    batch_states = BatchStates(redis, store, batches)
    changes.start()
    publisher.start()
    reconciler.start()
    death_notices.start()
    try:
        async with (
            httpx2.AsyncClient() as upstream,
            httpx2.AsyncClient(timeout=1.5) as management,
        ):
            yield Components(
                settings=settings,
                catalogue=catalogue,
                redis=redis,
                store=store,
                changes=changes,
                publisher=publisher,
                submitter=submitter,
                batches=batches,
                batch_submitter=BatchSubmitter(
                    bulk, store, batches, canceller, settings.job_ttl_seconds
                ),
                batch_states=batch_states,
                batch_waits=BatchWaits(changes, batch_states),
                canceller=canceller,
                admission=Admission(
                    HostAllowList.parse(settings.fetch_allowed_hosts),
                    RecipientAllowList.parse(settings.report_allowed_recipients),
                    uploads,
                ),
                storage=storage,
                uploads=uploads,
                broker_stats=BrokerStats(
                    celery,
                    publisher,
                    management,
                    settings.rabbitmq_management_url.get_secret_value(),
                ),
                dead_letters=dead_letters,
                requeuer=Requeuer(catalogue, dead_letters, store, changes, updates),
                upstream=upstream,
            )
    finally:
        await commits.close()
        await canceller.close()
        await reconciler.close()
        await death_notices.close()
        await changes.close()
        await publisher.close()
        await redis.close()


async def _components(request: Request) -> Components:  # async: a plain one costs a thread hop
    components: Components = request.app.state.components
    return components


Uses = Annotated[Components, Depends(_components)]
"""What a route writes to be given the components: `components: Uses`."""
