"""The application: its routes, its errors, and the components that they use."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import Depends, FastAPI
from fastapi_offline import FastAPIOffline

from api.auth.access import Access
from api.auth.rate_limits import RateLimits
from api.auth.scopes import RouteScopes
from api.components import open_components
from api.errors import openapi, rendering
from api.errors.types import HeadersTooLarge, InternalError, InvalidRequest
from api.settings import ApiSettings
from api.web.fast_path import FastPath
from api.web.parameters import refuse_unknown_parameters
from api.web.request_limits import BodyLimit, HeadLimit
from api.web.routes import batches, dead_letters, demonstrations, files, health, jobs, lanes, tasks
from twinlane_sdk.catalogue import Catalogue

DESCRIPTION = """\
Puts slow work behind an HTTP API. A job is accepted with a confirmed `202`, travels over AMQP to
the **io** or the **cpu** lane, and is polled, awaited or listed here.

Every error is an [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) problem document with a
stable `code`.
"""

TAGS = [
    {"name": "tasks", "description": "The kinds of work, and how to submit a job of each."},
    {"name": "jobs", "description": "One job: its state, its result, the files it left behind."},
    {"name": "batches", "description": "Many jobs under one id."},
    {"name": "files", "description": "Uploads, named by their content."},
    {"name": "lanes", "description": "What waits and what runs."},
    {"name": "dead letters", "description": "What was given up: to look at, requeue, discard."},
    {"name": "demonstrations", "description": "The routes of the five demonstration systems."},
    {"name": "health", "description": "For load balancers and people on call."},
]


def create_app(settings: ApiSettings, catalogue: Catalogue) -> FastAPI:
    """Create the API for the tasks of a catalogue; it connects when it starts to serve."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_components(settings, catalogue) as components:
            app.state.components = components
            yield

    app = FastAPIOffline(
        title="Twinlane",
        version=version("twinlane-api"),
        description=DESCRIPTION,
        lifespan=lifespan,
        openapi_tags=TAGS,
        redoc_url=None,
    )
    _add_routes(app, catalogue)
    scopes = RouteScopes(app.routes)
    _add_middleware(app, settings, scopes)
    rendering.register(app)
    describe = app.openapi
    app.openapi = lambda: scopes.describe(  # type: ignore[method-assign]
        openapi.describe_problems(describe()), required=bool(settings.keys)
    )
    return app


def _add_routes(app: FastAPI, catalogue: Catalogue) -> None:
    routers = (
        tasks.create_router(catalogue),
        jobs.router,
        batches.router,
        files.router,
        lanes.router,
        dead_letters.router,
        demonstrations.router,
        health.router,
    )
    for router in routers:
        app.include_router(
            router,
            dependencies=[Depends(refuse_unknown_parameters)],
            responses=openapi.responses(HeadersTooLarge, InvalidRequest, InternalError),
        )


def _add_middleware(app: FastAPI, settings: ApiSettings, scopes: RouteScopes) -> None:
    """Add what sees a request before its route does: what is added last sees it first."""
    app.add_middleware(FastPath, routes=app.routes)
    app.add_middleware(BodyLimit, limit=settings.max_body_bytes, unlimited={files.PATH})
    if settings.keys:
        limits = RateLimits(settings.rate_limit_per_key, settings.rate_limit_per_address)
        app.add_middleware(Access, scopes=scopes, keys=settings.keys, limits=limits)
    app.add_middleware(HeadLimit)
